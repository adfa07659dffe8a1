"""Real kills: processes that run the stream on Spark, one after another on the same lake, each killed at its point.

A chain is one lake. Every process of it recovers what the one before has left, goes on, and is killed in its turn; the
last one comes to the end. After every kill the published state is held against the state that a clean run published
under the same number; at the end everything is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from tests.faults import comparison, events
from tests.faults.comparison import Digests
from tests.faults.in_process import KEY, drop
from tests.faults.injection import Kill

BATCHES, TOPIC_BATCHES = 5, 8  # of a folder, and of a topic
RUN_SECONDS = 300
ROOT = Path(__file__).parents[2]
# The policy that a rebuild applies: other limits, and an address that is blocked, so that rows change and go.
POLICY = f"""namespaces:
  user_id: {{strength: unique, priority: 1}}
  email: {{strength: strong, limit: 1, priority: 2, normalize: email}}
  device_id: {{strength: device, priority: 10}}
  cookie_id: {{strength: device, priority: 11}}
blocked_values: [{events.BLOCKED_LATER}]
"""


@dataclass(frozen=True)
class Chain:
    """One lake: where its records come from, who writes it, and the kills on it, in order."""

    name: str
    source: str
    engine: str
    kills: tuple[Kill, ...]
    command: str = "run"
    quick: bool = False


@dataclass(frozen=True)
class Killed:
    """One kill of a chain and what came of it."""

    kill: Kill
    problems: list[str]
    seconds: float


def chains(declared: Sequence[dict[str, Any]]) -> list[Chain]:
    """The chains of cases.yaml."""
    return [
        Chain(
            c["chain"],
            c["source"],
            c["engine"],
            tuple(Kill(op="stream", **_words(text)) for text in c["kills"]),
            c.get("command", "run"),
            c.get("quick", False),
        )
        for c in declared
    ]


def _words(text: str) -> dict[str, Any]:
    """`append.after silver.events @1 driver`: point, table, batch, signal."""
    point, *rest = text.split()
    found: dict[str, Any] = {"point": point}
    for word in rest:
        if word.startswith("@"):
            found["batch"] = int(word[1:])
        elif "." in word:
            found["table"] = word
        else:
            found["signal"] = word
    return found


class Broker:
    """What a chain needs of Kafka: a topic with the events on it, and a broker that can be taken away."""

    def __init__(self, folder: Path) -> None:
        from pipelines.stream.kafka.broker import Broker as Process

        self.process = Process(folder, properties={"auto.create.topics.enable": "false"})
        self.process.start()
        self._topics = 0

    def topic_of(self, files: Sequence[bytes]) -> str:
        """A new topic of one partition that holds the records of `files`; its source."""
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient, NewTopic

        self._topics += 1
        name = f"faults-{self._topics}"
        address = self.process.address
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        producer = Producer({"bootstrap.servers": address, "log_level": 0})
        for content in files:
            for line in content.splitlines():
                producer.produce(name, line)
                producer.poll(0)
        assert producer.flush(30) == 0
        return f"native:kafka://{address}/{name}"

    def stop(self) -> None:
        self.process.stop()


class Run:
    """One chain on its lake."""

    def __init__(self, chain: Chain, folder: Path, broker: Broker | None) -> None:
        self.chain, self.folder, self.broker = chain, folder, broker
        self.landing = folder / "landing"
        self.landing.mkdir(parents=True)
        is_topic = broker is not None and chain.source == "kafka"
        self.batches = TOPIC_BATCHES if is_topic else BATCHES
        files = events.files(self.batches)
        a_batch = max(content.count(b"\n") for content in files)
        if broker is not None and is_topic:
            self.source = broker.topic_of(
                [events.padded(n, content, a_batch) for n, content in enumerate(files)]
            )
        else:
            self.source = f"native:{self.landing}"
            for number, content in enumerate(files):
                drop(self.landing / f"{number:03}.jsonl", content)
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        self.settings = folder / "settings.yaml"
        self.settings.write_text(
            f"writer: {chain.engine}\nengine: driver\nmaster: local[2]\nmax_files_per_trigger: 1\n"
            f"max_offsets_per_trigger: {a_batch}\ncompact_every_seconds: 1000000.0\nwrite_threads: 1\n",
            encoding="utf-8",
        )

    def lake(self, name: str) -> Path:
        """A lake with the decisions in its inbox."""
        path = self.folder / name
        control = path / "_stitchlake" / "control"
        control.mkdir(parents=True)
        key_path(path).write_bytes(KEY)
        for number in range(1, self.batches):
            for at, (file, record) in enumerate(events.decisions(number).items()):
                if at == 0:  # one a batch: the stream takes one file of a folder at a time
                    drop(control / file, json.dumps(record).encode())
        return path

    def start(
        self,
        lake: Path,
        kill: Kill | None,
        watch: dict[str, Any] | None = None,
        is_rebuild: bool = False,
    ) -> subprocess.Popen[bytes]:
        """A child on `lake`, to be killed by `kill`."""
        plan = {
            "kill": asdict(kill) if kill else None,
            "reached": str(self.folder / "reached"),
            "lake": str(lake),
        }
        if watch:
            plan["watch"] = watch
        (self.folder / "reached").unlink(missing_ok=True)
        file = self.folder / "plan.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        if (kill is not None and self.chain.command == "rebuild") or is_rebuild:
            argv = ["rebuild", "--yes", "--policy", str(self.folder / "policy.yaml")]
        else:
            argv = [
                "run",
                "--source",
                self.source,
                *([] if watch and watch.get("is_endless") else ["--once"]),
            ]
        argv += ["--lake", str(lake), "--env", str(self.settings)]
        command = [sys.executable, "-m", "tests.faults.child", str(file), *argv]
        log = (self.folder / "child.log").open("ab")
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def to_the_end(self, lake: Path, is_rebuild: bool = False) -> str | None:
        """Run undisturbed; what went wrong."""
        code = _wait(self.start(lake, None, is_rebuild=is_rebuild))
        return None if code == 0 else f"ended with {code}: {self.said()}"

    def said(self) -> str:
        """The last line that a child has printed."""
        lines = (self.folder / "child.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""


def run_chain(chain: Chain, folder: Path, broker: Broker | None) -> Iterator[Killed]:
    """Run the chain's lake; yields every kill once the process after it has shown what it left."""
    run = Run(chain, folder, broker)
    is_rebuild = chain.command == "rebuild"
    clean, path = run.lake("clean"), run.lake("lake")
    problem = run.to_the_end(clean)
    if is_rebuild:
        problem = problem or run.to_the_end(path) or run.to_the_end(clean, is_rebuild=True)
    if problem:
        raise RuntimeError(f"the clean run of {chain.name} {problem}")
    states = _states(Lake(clean))
    waiting: Killed | None = None
    for kill in chain.kills:
        started = time.monotonic()
        problems = _ACTS.get(kill.signal, _killed)(run, path, kill)
        if not (run.folder / "reached").exists():
            problems.append("not reached")
        wrong = _wrong_state(Lake(path), states)
        if waiting is not None:
            yield Killed(
                waiting.kill,
                [*waiting.problems, *(f"after the next process: {p}" for p in wrong)],
                waiting.seconds,
            )
        waiting = Killed(kill, problems + wrong, time.monotonic() - started)
    started = time.monotonic()
    problem = run.to_the_end(path, is_rebuild=is_rebuild)
    last = [problem] if problem else []
    lake = Lake(path)
    last += _wrong_state(lake, states) + comparison.broken_rules(lake)
    snapshot, expected = published(lake), published(Lake(clean))
    if snapshot is None or expected is None or snapshot.batch_id != expected.batch_id:
        last.append("the clean run has published another number of batches")
    if not comparison.base_is_complete(lake):
        last.append("hot parts are not folded in after a clean end")
    assert waiting is not None
    yield Killed(
        waiting.kill,
        [*waiting.problems, *(f"at the end: {p}" for p in last)],
        waiting.seconds + time.monotonic() - started,
    )


def _killed(run: Run, lake: Path, kill: Kill) -> list[str]:
    """The process, or its JVM, dies at the point."""
    process = run.start(lake, kill, _watched(run, kill))
    code = _wait(process)
    expected = (0, 1) if kill.signal in ("jvm", "worker") else (-signal.SIGKILL,)
    if code not in expected:
        return [f"ended with {code} instead of {' or '.join(map(str, expected))}: {run.said()}"]
    return []


def _watched(run: Run, kill: Kill) -> dict[str, Any] | None:
    """Points that only Spark knows, found by what it has written. After a batch's commit log a run would end."""
    if kill.point == "commits.after":
        return {"until": f"_checkpoints/*/commits/{kill.batch}", "is_endless": True}
    if kill.point == "source_log.after":
        return {"until": f"_checkpoints/*/sources/1/{kill.batch}"}  # 0 is the control inbox
    return None


def _stopped(run: Run, lake: Path, kill: Kill) -> list[str]:
    """Stopped for a while, with a second instance started meanwhile: that one is refused, and the first goes on."""
    process = run.start(lake, kill)
    _until(lambda: _is_stopped(process.pid) or process.poll() is not None)
    second = subprocess.run(
        [sys.executable, "-m", "pipelines.apps.cli", "run", "--source", run.source, "--once", "--lake", str(lake),
         "--env", str(run.settings)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    time.sleep(STOP_SECONDS)
    problems = _goes_on(run, lake, process)
    said = second.stderr.decode(errors="replace")
    if second.returncode != 1 or "is being written by" not in said:
        problems.append(f"the second instance ended with {second.returncode}: {said[-200:]}")
    return problems


def _without_broker(run: Run, lake: Path, kill: Kill) -> list[str]:
    """The broker dies while the batch is at the point, and comes back; the stream goes on by itself."""
    assert run.broker is not None
    process = run.start(lake, Kill(kill.op, kill.point, kill.table, kill.batch, "stop"))
    _until(lambda: _is_stopped(process.pid) or process.poll() is not None)
    run.broker.process.kill()
    threading.Timer(3.0, run.broker.process.start).start()
    return _goes_on(run, lake, process)


def _goes_on(run: Run, lake: Path, process: subprocess.Popen[bytes]) -> list[str]:
    """A stopped process is let go on, and killed as soon as it has published the batch that it was stopped in, and one
    more; the chain has further kills for the others."""
    before = _published_count(lake)
    os.kill(process.pid, signal.SIGCONT)
    _until(lambda: _published_count(lake) > before + 1 or process.poll() is not None)
    if (code := process.poll()) not in (None, 0):
        return [f"ended with {code} instead of going on: {run.said()}"]
    os.kill(process.pid, signal.SIGKILL)
    _wait(process)
    return [] if _published_count(lake) > before else ["nothing was published after it went on"]


def _published_count(lake: Path) -> int:
    snapshot = published(Lake(lake))
    return snapshot.batch_id if snapshot is not None else 0


STOP_SECONDS = 60.0
_ACTS: dict[str, Callable[[Run, Path, Kill], list[str]]] = {"stop": _stopped, "broker": _without_broker}


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code; whatever is left of its session is ended, the JVM of a killed driver above all."""
    try:
        return process.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        time.sleep(0.5)  # a JVM without its driver ends by itself, and may do something before that
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except FileNotFoundError:
        return False


def _states(lake: Lake) -> dict[int, Digests]:
    snapshot = published(lake)
    assert snapshot is not None
    return {
        n: comparison.digests(comparison.rows_of(comparison.snapshot_of(lake, n)))
        for n in range(1, snapshot.batch_id + 1)
    }


def _wrong_state(lake: Lake, states: dict[int, Digests]) -> list[str]:
    snapshot = published(lake)
    if snapshot is None:
        return []
    if snapshot.batch_id not in states:
        return [f"batch {snapshot.batch_id} is published, the clean run has none of that number"]
    found = comparison.digests(comparison.rows_of(snapshot))
    wrong = comparison.differences(found, states[snapshot.batch_id])
    return [f"batch {snapshot.batch_id} differs in {', '.join(wrong)}"] if wrong else []
