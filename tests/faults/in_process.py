"""Cases without a JVM: the product on real Delta tables, killed at a point and opened again, in about a second each."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from conf.blocked import BlockedValue
from conf.policy import Policy, load_policy
from conf.settings import load_settings
from pipelines.apps.request_handlers import HANDLERS
from pipelines.apps.run_stream import StreamFailed, run_stream
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.operations.decisions.inbox import apply_waiting, control_source
from pipelines.operations.rebuild.backfill import rebuild
from pipelines.operations.requests.requests import run_request
from pipelines.operations.upkeep.history import History
from pipelines.operations.upkeep.upkeep import UpkeepOptions, run_upkeep
from pipelines.stream.source import Source
from tests.faults import comparison, events
from tests.faults.comparison import Digests
from tests.faults.injection import Faults, Kill, Killed, injected
from tests.faults.micro_batches import without_spark

KEY = b"a key that every test lake shares"[:32]
BATCHES = 6
MAX_ATTEMPTS = 6
SETTINGS = replace(
    load_settings("laptop"),
    writer="delta_rs",
    engine="driver",
    lookup="driver",
    max_files_per_trigger=1,
    compact_every_seconds=1e9,  # only where a run ends, so that batches have the same numbers in every run
    compact_from_hot_rows=10**9,
    write_threads=1,  # in order, so that a kill has the same tables written in every run
)


# Upkeep that keeps no past batch readable, so that there is something to remove.
NO_HISTORY = UpkeepOptions(History(days=0.0, batches=1), pause_seconds=60.0)


@dataclass(frozen=True)
class Op:
    """One operation: a run of the stream over some landed files, a decision with no stream, a rebuild, upkeep."""

    name: str
    kind: str
    batches: tuple[int, ...] = ()


OPS = (
    Op("stream 1", "stream", (0, 1)),
    Op("decide", "decide", (2,)),
    Op("stream 2", "stream", (2, 3)),
    Op("rebuild", "rebuild"),
    Op("stream 3", "stream", (4,)),
    Op("upkeep", "upkeep"),
    Op("stream 4", "stream", (5,)),
)


def policies() -> tuple[Policy, Policy]:
    """Before and after the rebuild: five addresses a person, then one; and one address is blocked."""
    before = load_policy()
    spaces = tuple(replace(n, limit=1) if n.name == "email" else n for n in before.namespaces)
    blocked = (*before.blocked, BlockedValue(value=events.BLOCKED_LATER))
    return before, replace(before, namespaces=spaces, blocked=blocked)


class Line:
    """A lake, its landing folder, and one process after another at work on them."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        self.folder, self.faults = folder, faults
        self.landing, self.path = folder / "landing", folder / "lake"
        self.policy = policies()[0]

    @property
    def lake(self) -> Lake:
        return Lake(self.path)

    def make(self) -> None:
        self.landing.mkdir(parents=True)
        key_path(self.path).write_bytes(KEY)

    def run(self, op: Op, is_stopped: bool = False) -> None:
        """Land the operation's input and do it, in a new process; or open and close the lake when `is_stopped`."""
        self.faults.revive()
        self.faults.op, self.faults.batch = op.name, None
        self._land(op)
        before, after = policies()
        since_rebuild = OPS[[o.kind for o in OPS].index("rebuild") + 1 :]
        self.policy = after if op in since_rebuild else before
        with without_spark(self.faults, is_stopped) as processors, injected(self.faults):
            try:
                if op.kind == "stream":
                    source = Source("native", str(self.landing), "file", "native:test")
                    run_stream(None, self.path, [source], self.policy, SETTINGS, once=True)  # type: ignore[arg-type]
                elif op.kind == "decide":
                    apply_waiting(self.path, self.policy, SETTINGS)
                elif op.kind == "upkeep":
                    pause = partial(run_request, self.path, self.policy, SETTINGS, "upkeep", HANDLERS)
                    run_upkeep(self.lake, NO_HISTORY, pause)
                else:
                    rebuild(self.path, after, SETTINGS, spark=_no_spark)
            finally:
                for processor in processors:
                    processor._pool.shutdown(wait=True)

    def _land(self, op: Op) -> None:
        if op.kind == "stream":
            for number in op.batches:
                drop(self.landing / f"{number:03}.jsonl", events.files(BATCHES)[number])
        control = Path(control_source(self.path).location)
        for number in op.batches:
            for at, (name, record) in enumerate(events.decisions(number).items()):
                # The first of a batch's decisions is made while no stream runs, the others come with the stream.
                if (op.kind == "decide") == (number == 2 and at == 0):
                    drop(control / name, json.dumps(record).encode())


def _no_spark() -> NoReturn:
    raise AssertionError("these lakes are small enough to be rebuilt without")


def drop(path: Path, content: bytes) -> None:
    """Land a file by rename, with an instant that is the same in every run."""
    if path.exists():
        return
    hidden = path.with_name(f".{path.name}")
    hidden.write_bytes(content)
    os.utime(hidden, (events.LANDED_AT, events.LANDED_AT))
    hidden.rename(path)


@dataclass(frozen=True)
class Clean:
    """A run that nothing disturbed: the lake before every operation, and the digests of every published state."""

    folder: Path
    states: dict[int, Digests]
    renumbered: dict[str, Digests]
    seen: list[tuple[str, str, str | None, int | None]]

    def before(self, op: str) -> Path:
        return self.folder / op.replace(" ", "-")


def base_lake(clean: Clean) -> Path:
    """The lake of a clean run at its end."""
    return clean.folder / "world" / "lake"


def clean_run(folder: Path) -> Clean:
    """Run all operations once, undisturbed."""
    faults = Faults()
    line = Line(folder / "world", faults)
    line.make()
    clean = Clean(folder, {}, {}, faults.seen)
    for op in OPS:
        shutil.copytree(line.folder, clean.before(op.name))
        line.run(op)
        rows = comparison.rows_of(published_state(line.lake))
        clean.renumbered[op.name] = comparison.digests(rows, is_renumbered=True)
        # Now, while every batch of the operation can still be read.
        for batch_id in range(len(clean.states) + 1, published_state(line.lake).batch_id + 1):
            rows = comparison.rows_of(comparison.snapshot_of(line.lake, batch_id))
            clean.states[batch_id] = comparison.digests(rows)
    problems = comparison.broken_rules(line.lake)
    assert not problems, problems
    assert comparison.base_is_complete(line.lake)
    return clean


@dataclass(frozen=True)
class Verdict:
    """What came of a case: no problems is a pass."""

    problems: list[str]
    seconds: float


def run_case(
    clean: Clean,
    kills: Sequence[Kill],
    folder: Path,
    *,
    is_renumbered: bool = False,
    ops: int = len(OPS),
    die: Callable[[Kill], bool] | None = None,
    after_kill: Callable[[], None] = lambda: None,
) -> Verdict:
    """Disturb a run by `kills`, let new processes go on until the end, and hold it against the clean run.

    `ops`: how many operations are done, the disturbed one included. `die`: see Faults; `after_kill` mends the world.
    """
    started = time.perf_counter()
    first = next(i for i, op in enumerate(OPS) if op.name == kills[0].op)
    shutil.copytree(clean.before(OPS[first].name), folder)
    faults = Faults(tuple(kills), die)
    line = Line(folder, faults)
    problems: list[str] = []
    todo = OPS[first : first + ops]
    for op in todo:
        for attempt in range(MAX_ATTEMPTS):
            kills_before = len(faults.done)
            try:
                line.run(op)
                break
            except (Killed, OSError, StreamFailed) as e:
                if len(faults.done) == kills_before:
                    return Verdict(
                        [*problems, f"{op.name}: failed by itself: {type(e).__name__}: {e}"], _since(started)
                    )
            except Exception as e:
                return Verdict(
                    [*problems, f"{op.name}, attempt {attempt + 1}: {type(e).__name__}: {e}"], _since(started)
                )
            after_kill()
            problems += _wrong_state(line.lake, clean, is_renumbered, f"right after kill {len(faults.done)}")
            then = faults.done[-1].then
            if then == "new_checkpoint":
                shutil.rmtree(line.path / "_checkpoints", ignore_errors=True)
            elif then == "stopped":
                line.run(op, is_stopped=True)
                problems += _wrong_state(
                    line.lake, clean, is_renumbered, "after a run that was stopped at once"
                )
            elif then == "next_op":
                break
        else:
            return Verdict([*problems, f"{op.name}: not done after {MAX_ATTEMPTS} attempts"], _since(started))
    if faults.next is not None:
        problems.append(f"not reached: {faults.next}")
    rows = comparison.rows_of(published_state(line.lake))
    problems += _wrong_state(line.lake, clean, is_renumbered, "at the end", rows)
    found = comparison.digests(rows, is_renumbered=True)
    if wrong := comparison.differences(found, clean.renumbered[todo[-1].name]):
        problems.append(f"after {todo[-1].name}: other content in {', '.join(wrong)}")
    problems += comparison.broken_rules(line.lake, rows)
    if not comparison.base_is_complete(line.lake):
        problems.append("hot parts are not folded in after a clean end")
    return Verdict(problems, _since(started))


def _wrong_state(
    lake: Lake, clean: Clean, is_renumbered: bool, when: str, rows: comparison.Rows | None = None
) -> list[str]:
    """A reader sees a state that the clean run published, whole, and under the same number."""
    snapshot = published(lake) if lake.path.exists() else None
    if snapshot is None or is_renumbered:
        return []
    expected = clean.states.get(snapshot.batch_id)
    if expected is None:
        return [f"{when}: batch {snapshot.batch_id} is published, the clean run has none of that number"]
    wrong = comparison.differences(comparison.digests(rows or comparison.rows_of(snapshot)), expected)
    return [f"{when}: batch {snapshot.batch_id} differs in {', '.join(wrong)}"] if wrong else []


def published_state(lake: Lake) -> Snapshot:
    """What readers see; there must be something."""
    snapshot = published(lake)
    assert snapshot is not None
    return snapshot


def _since(started: float) -> float:
    return time.perf_counter() - started
