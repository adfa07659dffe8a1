"""Ten times the load for a minute: how long until the lag is what it was, and is anything lost?

The lag of a batch is the age of its oldest event when the batch is seen in gold. Normal is the largest before the
spike. Expected is backlog / spare rate: events made and not yet seen when the spike ends, over what the stream does
beyond the usual rate, which is measured in the same run as it catches up with history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.live.producer import Phase
from benchmarks.live.run import LIVE_SETTINGS, run_live
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale
from pipelines.runtime.process_end import run_and_end

NAME = "spike"
TIMES = 10


@dataclass(frozen=True)
class Spike:
    """Events a second, and the seconds before, in and after the spike."""

    history: int
    rate: float
    before: float
    spike: float
    after: float

    def phases(self) -> list[Phase]:
        return [
            Phase("warm_up", self.before / 2, self.rate),
            Phase("before", self.before, self.rate),
            Phase("spike", self.spike, self.rate * TIMES),
            Phase("after", self.after, self.rate),
        ]


SPIKES = {
    "quick": Spike(history=4_000, rate=50.0, before=3.0, spike=2.0, after=4.0),
    "usual": Spike(history=600_000, rate=1_000.0, before=20.0, spike=60.0, after=60.0),
    "large": Spike(history=1_000_000, rate=1_000.0, before=60.0, spike=60.0, after=120.0),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    spike = SPIKES[scale]
    found = run_live(folder, spike.history, spike.phases(), LIVE_SETTINGS)
    sights = found.sights_of(np.ones(len(found.freshness.seconds), bool))
    end = found.producer.span("spike")[1]
    normal = normal_lag(sights, *found.producer.span("before"))
    seconds = seconds_until_normal(sights, end, normal)
    produced = int((found.producer.times + found.producer.started_at <= end).sum())
    backlog = produced - int(sights.loc[sights["seen_at"] <= end, "events"].sum())
    spare = found.history_rate - spike.rate
    expected = backlog / spare if spare > 0 else None
    conditions = {
        "history": spike.history,
        "events_per_second": spike.rate,
        "spike_times": TIMES,
        "spike_seconds": spike.spike,
        **found.conditions(),
    }
    beside: dict[str, float | str] = {
        "expected_seconds": "none to spare" if expected is None else round(expected, 3),
        "backlog_events": backlog,
        "spare_per_second": round(spare),
        "normal_lag_seconds": round(normal, 3),
        "largest_lag_seconds": round(float(sights["lag"].max()), 3),
    }
    ratio = seconds / expected if seconds is not None and expected else None
    note = "" if seconds is not None else f">{spike.after:.0f} s: not back to normal by the end of the run"
    return [
        Measured(f"{NAME}.recovery_ratio", ratio, "ratio", baseline=beside, conditions=conditions, note=note),
        Measured(f"{NAME}.seconds_until_normal", seconds, "s", conditions=conditions, note=note),
        Measured(f"{NAME}.lost", found.lost_count, "events", conditions=conditions),
    ]


def normal_lag(sights: pd.DataFrame, start: float, end: float) -> float:
    """The largest lag of the batches that were seen between two moments; of all, where there is none."""
    quiet = sights[(sights["seen_at"] > start) & (sights["seen_at"] <= end)]
    return float((quiet if len(quiet) else sights)["lag"].max())


def seconds_until_normal(sights: pd.DataFrame, end: float, normal: float) -> float | None:
    """From the end of the spike until a batch is seen whose lag is normal again; None if none was."""
    back = sights[(sights["seen_at"] >= end) & (sights["lag"] <= normal)]["seen_at"]
    return float(back.min() - end) if len(back) else None


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
