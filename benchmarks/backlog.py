"""How many events a minute go through, bronze to gold, from a backlog? Beside it: the engine's floor, and dirty input.

ours       `stitchlake run --once`, all tables; sustained: from the first published batch to the last
floor      the same files, the same number at a time, by Spark's own JSON source to `noop`: every event a row, read
           and parsed, nothing kept. Beside that: as lines (not parsed), and as whole files (what our source reads)
dirty      20 % duplicates, 5 % late, 5 % poison, against clean input of as many records, in turns
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import DataStreamReader

from benchmarks.live.dirt import DUPLICATE_SHARE, LATE_SHARE, POISON_SHARE, make_dirty
from benchmarks.live.oracle import require_conserved, require_right, stored_bytes
from benchmarks.live.stream import Stream
from benchmarks.live.world import World, arrive, byte_count, event_time, first_copies, make_world
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import SEED, Measured, Scale, repeated
from conf.settings import load_settings
from conf.tables import BATCHES
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.stream.source import Source
from pipelines.stream.sources import read_stream

NAME = "backlog"
FILES_PER_BATCH = 4
LONGEST_SECONDS = 3600.0
EVENT_SCHEMA = (
    "event_id string, event_type string, event_name string, timestamp string, platform string, "
    "identifiers map<string,string>, actor map<string,string>, properties string, context string"
)


@dataclass(frozen=True)
class Sizes:
    """Records of the backlog and of a batch; of each clean or dirty run and its batches; turns of these.

    Without runs of its own, the clean side is the backlog: at tiny size a run is a session's start and little else.
    """

    records: int
    batch: int
    dirty_records: int
    dirty_batch: int
    turns: int
    has_clean_runs: bool = True


SIZES = {
    "quick": Sizes(6_000, batch=1_600, dirty_records=2_000, dirty_batch=400, turns=1, has_clean_runs=False),
    "usual": Sizes(records=3_000_000, batch=250_000, dirty_records=200_000, dirty_batch=40_000, turns=2),
    "large": Sizes(records=10_000_000, batch=250_000, dirty_records=1_000_000, dirty_batch=120_000, turns=2),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    sizes = SIZES[scale]
    world = make_world(folder, sizes.records, events_per_file=sizes.batch // FILES_PER_BATCH)
    arrive(world.history, folder / "landing")
    floors = Floors(folder, world.history_count)
    first = floors.measure()
    stream = _drained(folder, "lake", folder / "landing")
    snapshot = require_right(stream.lake, world.truth, world.history_count)
    second = floors.measure()
    floors.stop()
    rate = sustained(snapshot)
    floor = {name: statistics.fmean((first[name], second[name])) for name in first}
    files = sorted((folder / "landing").iterdir())
    conditions = {"records": world.history_count, "records_per_batch": sizes.batch}
    rows = [
        Measured(
            f"{NAME}.events_per_minute",
            rate,
            "events/min",
            baseline={"with_start_up": _with_start_up(stream, snapshot)},
            conditions=conditions,
        ),
        Measured(
            f"{NAME}.driver_events_per_minute",
            driver_rate(snapshot),
            "events/min",
            conditions=conditions,
            note="what the driver's own steps alone would allow, whatever number of executors parses",
        ),
        Measured(
            f"{NAME}.share_of_floor",
            rate / floor["json"],
            "ratio",
            baseline={f"{name}_events_per_minute": round(value) for name, value in floor.items()},
            conditions=conditions,
            note="floor: Spark's JSON source to noop",
        ),
        Measured(
            f"{NAME}.stored_ratio",
            stored_bytes(stream.lake) / byte_count(files),
            "ratio",
            conditions=conditions,
        ),
    ]
    return [*rows, _dirty_against_clean(folder, world, files, sizes, rate)]


# -- ours --------------------------------------------------------------------------------------------------------------


def sustained(snapshot: Snapshot) -> float:
    """Records a minute from the first published batch to the last, compactions between them included."""
    rows = snapshot.arrow(BATCHES, ["batch_id", "kind", "received_count", "published_at"]).sort_by("batch_id")
    rows = rows.filter(pc.equal(rows["kind"], "batch"))
    assert len(rows) > 1, "a rate needs more than one batch"
    at = [t.timestamp() for t in rows["published_at"].to_pylist()]
    return sum(rows["received_count"].to_pylist()[1:]) / (at[-1] - at[0]) * 60


def driver_rate(snapshot: Snapshot) -> float:
    """Records a minute if a batch were nothing but the steps after parsing; without the first batch, which warms up."""
    rows = snapshot.arrow(BATCHES, ["batch_id", "kind", "received_count", "step_seconds"]).sort_by("batch_id")
    batches = rows.filter(pc.equal(rows["kind"], "batch")).to_pylist()[1:]
    seconds = sum(s for b in batches for step, s in b["step_seconds"] if step != "parse")
    return sum(b["received_count"] for b in batches) / seconds * 60


def _drained(folder: Path, name: str, landing: Path) -> Stream:
    stream = Stream(folder, name, landing, {"max_files_per_trigger": FILES_PER_BATCH})
    try:
        stream.start(once=True).wait_end(LONGEST_SECONDS)
    finally:
        stream.kill()
    return stream


def _with_start_up(stream: Stream, snapshot: Snapshot) -> float:
    """Records a minute from the start of the process to the last batch."""
    rows = snapshot.arrow(BATCHES, ["received_count", "published_at"])
    last = max(rows["published_at"].to_pylist()).timestamp()
    return round(sum(rows["received_count"].to_pylist()) / (last - stream.started_at) * 60)


# -- the engine's floor ------------------------------------------------------------------------------------------------


class Floors:
    """The same files by Spark alone, into nothing. One session for all, in this process."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.landing, self.count = folder, folder / "landing", count
        settings = load_settings()
        self.spark: SparkSession = build_session(
            "stitchlake floor", settings.master, driver_memory=settings.driver_memory
        )
        self._runs = self._checkpoints = 0
        source = Source("native", str(self.landing), "file", "native:floor")
        self.ways: dict[str, Callable[[], DataFrame]] = {
            "json": lambda: self._files().schema(EVENT_SCHEMA).json(str(self.landing)),
            "lines": lambda: self._files().text(str(self.landing)),
            "whole_files": lambda: read_stream(self.spark, [source], FILES_PER_BATCH),
        }

    def measure(self) -> dict[str, float]:
        """Events a minute by each way; the order turns every time."""
        ways = list(self.ways.items())
        if self._runs % 2:
            ways.reverse()
        self._runs += 1
        return {name: self._drain(frame()) for name, frame in ways}

    def stop(self) -> None:
        self.spark.stop()

    def _files(self) -> DataStreamReader:
        """A new one each time: a reader keeps the schema that it was given."""
        return self.spark.readStream.option("maxFilesPerTrigger", FILES_PER_BATCH)

    def _drain(self, frame: DataFrame) -> float:
        self._checkpoints += 1
        checkpoint = self.folder / f"floor-{self._checkpoints}"
        started = time.monotonic()
        query = (
            frame.writeStream.format("noop")
            .option("checkpointLocation", str(checkpoint))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        return self.count / (time.monotonic() - started) * 60


# -- dirty input -------------------------------------------------------------------------------------------------------


def _dirty_against_clean(
    folder: Path, world: World, files: Sequence[Path], sizes: Sizes, rate: float
) -> Measured:
    """Rates of either, in turns, each on a lake of its own."""
    clean = sorted(
        islice(first_copies([], files, world.truth), round(sizes.dirty_records * 1.05)), key=event_time
    )
    dirty = make_dirty(clean, sizes.dirty_records, SEED)
    lines = {"clean": clean[: sizes.dirty_records], "dirty": dirty.lines}
    valid = {"clean": sizes.dirty_records, "dirty": dirty.valid_count}
    rates: dict[str, list[float]] = {"clean": [], "dirty": []}
    for turn in range(sizes.turns):
        for side in ("clean", "dirty") if turn % 2 == 0 else ("dirty", "clean"):
            if side == "clean" and not sizes.has_clean_runs:
                rates[side].append(rate)
                continue
            name = f"{side}-{turn}"
            _land(lines[side], folder / f"{name}-landing", sizes.dirty_batch // FILES_PER_BATCH)
            stream = _drained(folder, name, folder / f"{name}-landing")
            snapshot = published(Lake(stream.lake))
            assert snapshot is not None
            require_conserved(snapshot, sizes.dirty_records, valid[side])
            if side == "dirty":
                _require_counts(snapshot, dirty.duplicate_count, dirty.quarantined_count)
            rates[side].append(sustained(snapshot))
    ratios = [d / c for d, c in zip(rates["dirty"], rates["clean"], strict=True)]
    return repeated(
        f"{NAME}.dirty_share",
        ratios,
        "ratio",
        baseline={
            f"{side}_events_per_minute": round(statistics.median(found)) for side, found in rates.items()
        },
        conditions={
            "dirty_records": sizes.dirty_records,
            "dirty_batch": sizes.dirty_batch,
            "duplicates": DUPLICATE_SHARE,
            "late": LATE_SHARE,
            "poison": POISON_SHARE,
        },
    )


def _require_counts(snapshot: Snapshot, duplicates: int, quarantined: int) -> None:
    rows = snapshot.arrow(BATCHES, ["duplicate_count", "quarantined_count"])
    found = tuple(sum(rows[name].to_pylist()) for name in rows.column_names)
    assert found == (duplicates, quarantined), (
        f"duplicates and poison {(duplicates, quarantined)}, found {found}"
    )


def _land(lines: Sequence[bytes], landing: Path, per_file: int) -> None:
    landing.mkdir()
    for first in range(0, len(lines), per_file):
        (landing / f"{first:09d}.jsonl").write_bytes(b"\n".join(lines[first : first + per_file]) + b"\n")


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
