"""What does a batch cost after many batches, against the first fifty? And how many files and bytes are there then?

Constant batches of people who are all known already, one after the other; upkeep runs beside them on schedule, and
once more at the end. `make soak` asks the same of memory and open files.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.live.oracle import require_conserved, stored_bytes
from benchmarks.live.stream import Stream
from benchmarks.live.visits import land_visits
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale
from conf.tables import ALL, IDENTITY_MAP
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.runtime.process_end import run_and_end

NAME = "many_batches"


@dataclass(frozen=True)
class Run:
    """Counted batches of `events` events, of `people` in turn; the first and last `window` of them are compared."""

    batches: int
    window: int
    events: int
    people: int
    upkeep_every_seconds: float


WARM_UP = 5
RUNS = {
    "quick": Run(batches=8, window=4, events=50, people=200, upkeep_every_seconds=5.0),
    "usual": Run(batches=200, window=50, events=1_000, people=50_000, upkeep_every_seconds=60.0),
    "large": Run(batches=1_000, window=50, events=1_000, people=50_000, upkeep_every_seconds=120.0),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    run = RUNS[scale]
    settings = {
        "upkeep_every_hours": run.upkeep_every_seconds / 3600,
        "history_batches": run.window,
        "compact_every_seconds": 20.0,
    }
    landing = folder / "landing"
    landing.mkdir()
    everyone = run.people // run.events  # so many batches of that size, at once
    sent_bytes = sum(land_visits(landing, n, run.events, run.people) for n in range(everyone))
    sent = everyone * run.events
    with Stream(folder, "lake", landing, settings) as stream:
        stream.wait_received(sent)
        first = len(stream.reports())
        walls = []
        for n in range(everyone, everyone + WARM_UP + run.batches):
            started = time.monotonic()
            sent_bytes += land_visits(landing, n, run.events, run.people)
            sent += run.events
            stream.wait_received(sent)
            walls.append(time.monotonic() - started)
        reports = stream.reports()[first:]
    # A batch is a file: several would be compared with one otherwise.
    assert all(report["received"] == run.events for report in reports), "batches of different sizes"
    lake = Lake(stream.lake)
    _upkeep(lake)
    _require_right(lake, sent, run)
    conditions = {
        "batches": run.batches,
        "window": run.window,
        "events_per_batch": run.events,
        "people": run.people,
        **{key: round(value, 4) for key, value in settings.items()},
    }
    return [
        _cost(reports[WARM_UP:], walls[WARM_UP:], run, conditions),
        *_storage(lake, sent_bytes, conditions),
    ]


def _cost(
    reports: Sequence[dict[str, Any]], walls: Sequence[float], run: Run, conditions: dict[str, Any]
) -> Measured:
    seconds = [report["seconds"] for report in reports]
    first, last = seconds[: run.window], seconds[-run.window :]
    whole = statistics.median(walls[-run.window :]) / statistics.median(walls[: run.window])
    beside: dict[str, float | str] = {
        "first_seconds": round(statistics.median(first), 4),
        "last_seconds": round(statistics.median(last), 4),
        "ratio_from_landing_to_published": round(whole, 3),
    }
    ratio = statistics.median(last) / statistics.median(first)
    return Measured(f"{NAME}.cost_ratio", ratio, "ratio", baseline=beside, conditions=conditions)


def _storage(lake: Lake, sent_bytes: int, conditions: dict[str, Any]) -> list[Measured]:
    files = {spec.full_name: len(lake.open(spec).file_uris()) for spec in with_hot_parts(ALL)}
    stored = stored_bytes(lake.path)
    most = max(files, key=lambda name: files[name])
    return [
        Measured(
            f"{NAME}.stored_ratio",
            stored / sent_bytes,
            "ratio",
            baseline={"bytes_stored": stored, "bytes_in": sent_bytes},
            conditions=conditions,
        ),
        Measured(
            f"{NAME}.most_files_of_a_table",
            files[most],
            "files",
            baseline={"files_of_all_tables": sum(files.values())},
            conditions=conditions,
            note=most,
        ),
    ]


def _upkeep(lake: Lake) -> None:
    """As a user does it, with nothing but the last published batch kept readable."""
    command = [
        sys.executable,
        "-m",
        "pipelines.apps.cli",
        "upkeep",
        "--lake",
        str(lake.path),
        "--retain-hours",
        "0",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _require_right(lake: Lake, sent: int, run: Run) -> None:
    """Everyone has a device, and whoever has signed in is one person with it."""
    snapshot = published(lake)
    assert snapshot is not None
    require_conserved(snapshot, sent, sent)
    persons = snapshot.arrow(IDENTITY_MAP, ["node_id", "canonical_id"])
    count = len(set(persons["canonical_id"].to_pylist()))
    assert count == run.people, f"{run.people:,} people, and {count:,} persons"


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
