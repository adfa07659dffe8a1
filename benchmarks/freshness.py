"""How long after an event is produced does its person's row in gold show it? Open loop, with history.

    producer ── 1,000 events/s, by the clock ──▶ landing ──▶ stream ──▶ gold ──▶ reader of the published state
       └────────────────────────────── freshness of every event ──────────────────────────┘

The producer never waits; an event's time is that of its schedule. The reader polls ops.batches and reads the person
rows of each published batch: once it has them in hand, their events are fresh.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

from benchmarks.live.run import LIVE_SETTINGS, Load, run_live
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale, percentile
from pipelines.runtime.process_end import run_and_end

NAME = "freshness"
LOADS = {
    "quick": Load(history=4_000, warm_up=1.0, rate=200.0, seconds=3.0),
    "usual": Load(history=1_000_000, warm_up=15.0, rate=1_000.0, seconds=120.0),
    "large": Load(history=1_000_000, warm_up=30.0, rate=1_000.0, seconds=600.0),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    load = LOADS[scale]
    found = run_live(folder, load.history, load.phases(), LIVE_SETTINGS)
    seconds = found.freshness.between(*found.producer.span("load")).tolist()
    batches = found.batches_in("load")
    conditions = {
        **load.conditions(),
        **found.conditions(),
        "events_followed": len(seconds),
        "batches": len(batches),
    }
    steps = {
        step: statistics.median(b["steps"].get(step, 0.0) for b in batches) for step in batches[0]["steps"]
    }
    rows = [
        Measured(f"{NAME}.p{share}", percentile(seconds, share / 100), "s", conditions=conditions)
        for share in (50, 95, 99)
    ]
    batch = Measured(
        f"{NAME}.batch_seconds",
        statistics.median(b["seconds"] for b in batches),
        "s",
        (min(b["seconds"] for b in batches), max(b["seconds"] for b in batches)),
        len(batches),
        baseline={step: round(value, 4) for step, value in steps.items()},
        conditions=conditions,
        note="steps beside it",
    )
    return [*rows, batch]


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
