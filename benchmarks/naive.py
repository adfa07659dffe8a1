"""What does the obvious way cost? The textbook's pipeline and a DuckDB script over the same events as ours.

textbook    the same stream of small files: default settings, MERGE everywhere, GraphFrames over the whole graph
            in every batch; freshness is from a file's landing until the batch that holds it is in gold
DuckDB      the same backlog parsed, each event once, written to one table; no identity, no sessions, no profiles

Each is right in what it claims: every event once, and the textbook's persons are the components of what its events
show together.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from benchmarks.baselines.graph import same_partition, shown
from benchmarks.baselines.textbook import NAMESPACES
from benchmarks.live.oracle import require_conserved, union_find
from benchmarks.live.stream import Stream, StreamDied
from benchmarks.live.world import first_copies, make_world
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale
from conf.tables import EVENTS
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.runtime.process_end import run_and_end

NAME = "naive"
REPEATED_SHARE = 0.02
LONGEST_SECONDS = 600.0  # for one batch


@dataclass(frozen=True)
class Plan:
    """Events of history, of one small batch, how many of those, events of the backlog, and a cap on the textbook's.

    Without history the first batch is a cold one, and counts.
    """

    history: int
    batch: int
    batches: int
    backlog: int
    cap_seconds: float


PLANS: dict[Scale, Plan] = {
    "quick": Plan(0, 100, 1, 1_000, 600.0),
    "usual": Plan(5_000, 1_000, 3, 100_000, 110.0),
    "large": Plan(200_000, 1_000, 5, 1_000_000, 1_800.0),
}


class TextbookStream(Stream):
    """The textbook's pipeline in a process of its own, followed as ours is."""

    def command(self, once: bool) -> list[str]:
        mode = ["--once"] if once else []
        return [
            sys.executable,
            "-m",
            "benchmarks.baselines.textbook",
            str(self.landing),
            str(self.lake),
            *mode,
        ]


@dataclass
class Run:
    """Seconds of every small batch, and from its landing until it was in gold; fewer than asked for past the cap."""

    seconds: list[float]
    fresh: list[float]


def measure(scale: Scale, folder: Path) -> list[Measured]:
    plan = PLANS[scale]
    count = max(plan.history + plan.batch * plan.batches, plan.backlog)
    world = make_world(folder, count + count // 5, events_per_file=25_000 if count > 25_000 else 1_000)
    lines = list(first_copies([], world.history, world.truth))[:count]
    assert len(lines) == count, f"{len(lines):,} valid events are too few for {count:,}"
    starts = [plan.history + n * plan.batch for n in range(plan.batches)]
    files = [lines[: plan.history], *(lines[start : start + plan.batch] for start in starts)]
    files = [_with_repeats(file) for file in files if file]
    history = len(files) - plan.batches
    ours, textbook = Run([], []), Run([], [])
    for name in ("ours", "textbook") if scale == "quick" else ("ours", "textbook", "ours-again"):
        landing = folder / f"{name}-landing"
        if name == "textbook":
            textbook = follow(TextbookStream(folder, name, landing), files, history, plan.cap_seconds)
            if len(textbook.seconds) == plan.batches:
                require_textbook_right(folder / name, files)
        else:
            found = follow(Stream(folder, name, landing), files, history, float("inf"))
            _require_each_once(folder / name, files)
            ours = Run(ours.seconds + found.seconds, ours.fresh + found.fresh)
    conditions = {
        "history_events": plan.history,
        "events_per_batch": len(files[-1]),
        "batches": plan.batches,
        "cap_seconds": plan.cap_seconds,
    }
    rows = [
        _beside("batch_seconds", ours.seconds, textbook.seconds, plan, conditions),
        _beside("freshness", ours.fresh, textbook.fresh, plan, conditions),
    ]
    return [*rows, *_ingest(lines[: plan.backlog], folder)]


def follow(stream: Stream, files: Sequence[Sequence[bytes]], history: int, cap_seconds: float) -> Run:
    """One file after the other, each once the one before is in gold; the first `history` of them do not count."""
    run, sent, until = Run([], []), 0, time.monotonic() + cap_seconds
    stream.start()
    try:
        for n, file in enumerate(files):
            land(stream.landing, f"{n:04d}.jsonl", file)
            landed, sent = time.monotonic(), sent + len(file)
            stream.wait_received(sent, max(0.0, min(LONGEST_SECONDS, until - landed)))
            if n >= history:
                run.fresh.append(time.monotonic() - landed)
                run.seconds.append(stream.reports()[-1]["seconds"])
        stream.stop()
    except StreamDied:
        if time.monotonic() < until:
            raise
    finally:
        stream.kill()
    return run


def land(landing: Path, name: str, lines: Sequence[bytes]) -> None:
    landing.mkdir(parents=True, exist_ok=True)
    hidden = landing.parent / f".{name}"
    hidden.write_bytes(b"\n".join(lines) + b"\n")
    hidden.rename(landing / name)


def _with_repeats(lines: Sequence[bytes]) -> list[bytes]:
    """Some of them come twice."""
    return [*lines, *lines[: int(len(lines) * REPEATED_SHARE)]]


def _require_each_once(lake: Path, files: Sequence[Sequence[bytes]]) -> None:
    snapshot = published(Lake(lake))
    assert snapshot is not None
    lines = [line for file in files for line in file]
    require_conserved(snapshot, len(lines), len(set(lines)))
    assert snapshot.arrow(EVENTS, ["event_id"]).num_rows == len(set(lines))


def require_textbook_right(lake: Path, files: Sequence[Sequence[bytes]]) -> None:
    """Every event once, persons that are the components of what the events show together, a profile for each."""

    def rows(name: str, columns: list[str]) -> pa.Table:
        return DeltaTable(str(lake / name)).to_pyarrow_dataset().to_table(columns=columns)

    lines = {line for file in files for line in file}
    ids = rows("events", ["event_id"])["event_id"]
    assert len(ids) == pc.count_distinct(ids).as_py() == len(lines), f"{len(ids):,} events of {len(lines):,}"
    owners = rows("identity_map", ["id", "canonical_id"])
    known = {name: n for n, name in enumerate(owners["id"].to_pylist())}
    together = [[known[name] for name in identifiers_of(line)] for line in lines]
    left, right = ([pair[at] for seen in together for pair in pairwise(seen)] for at in (0, 1))
    expected = union_find(len(known), np.array(left, np.int64), np.array(right, np.int64))
    persons = pc.rank(owners["canonical_id"], tiebreaker="dense").to_numpy()
    assert same_partition(persons, expected), "other persons than its events give"
    profiles = rows("profiles", ["canonical_id"])["canonical_id"].to_pylist()
    assert sorted(profiles) == sorted(set(owners["canonical_id"].to_pylist())), "not one profile a person"


def identifiers_of(line: bytes) -> list[str]:
    """The identifiers of an event that the textbook knows, as it names them."""
    shown = orjson.loads(line)["identifiers"]
    texts = {k: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in shown.items()}
    return [f"{space}:{texts[space]}" for space in NAMESPACES if shown.get(space) is not None]


def _beside(
    what: str, ours: list[float], textbook: list[float], plan: Plan, conditions: dict[str, object]
) -> Measured:
    theirs = statistics.median(textbook) if textbook else None
    return Measured(
        f"{NAME}.{what}",
        statistics.median(ours),
        "s",
        (min(ours), max(ours)),
        len(ours),
        baseline={"textbook": shown(theirs, plan.cap_seconds)},
        conditions=conditions,
    )


def _ingest(lines: list[bytes], folder: Path) -> list[Measured]:
    """Events a minute of a backlog, start-up of each process included."""
    landing = folder / "backlog"
    step = 25_000
    files = [_with_repeats(lines[n : n + step]) for n in range(0, len(lines), step)]
    for n, file in enumerate(files):
        land(landing, f"{n:04d}.jsonl", file)
    received = sum(map(len, files))

    started = time.monotonic()
    table = folder / "duckdb"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.baselines.duckdb_script", str(landing), str(table)], check=True
    )
    duckdb_seconds = time.monotonic() - started
    found = DeltaTable(str(table)).to_pyarrow_dataset().to_table(columns=["event_id", "event_at"])
    assert found.num_rows == pc.count_distinct(found["event_id"]).as_py() == len(set(lines))
    assert found["event_at"].null_count == 0

    started = time.monotonic()
    stream = Stream(folder, "ours-backlog", landing).start(once=True)
    try:
        stream.wait_end(LONGEST_SECONDS)
    finally:
        stream.kill()
    seconds = time.monotonic() - started
    _require_each_once(folder / "ours-backlog", files)
    return [
        Measured(
            f"{NAME}.backlog_events_per_minute",
            received / seconds * 60,
            "events/min",
            baseline={"duckdb_script": round(received / duckdb_seconds * 60)},
            conditions={"backlog_events": received},
            note="start-up included; the script parses, drops repeats and writes, and knows no persons",
        )
    ]


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
