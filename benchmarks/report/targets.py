"""What the product has to reach, as data, and the one place where a figure is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["stretch", "met", "missed", "none"]


@dataclass(frozen=True)
class Target:
    """A bound for one figure: `must`, and `stretch` where there is one, in the figure's unit.

    `is_at_most` says on which side of the bound is good; `is_strict` that the bound itself is not enough.
    """

    what: str
    unit: str
    must: float
    stretch: float | None = None
    is_at_most: bool = True
    is_strict: bool = False

    def holds(self, value: float, bound: float) -> bool:
        if value == bound:
            return not self.is_strict
        return value < bound if self.is_at_most else value > bound

    def text(self) -> str:
        sign = {(True, False): "≤", (True, True): "<", (False, False): "≥", (False, True): ">"}[
            self.is_at_most, self.is_strict
        ]
        stretch = "" if self.stretch is None else f" ({sign} {self.stretch:,.10g})"
        return f"{sign} {self.must:,.10g}{stretch}"


def _below(what: str, unit: str, must: float, stretch: float | None = None) -> Target:
    return Target(what, unit, must, stretch, is_strict=True)


def _most(what: str, unit: str, must: float, stretch: float | None = None) -> Target:
    return Target(what, unit, must, stretch)


def _least(what: str, unit: str, must: float, stretch: float | None = None) -> Target:
    return Target(what, unit, must, stretch, is_at_most=False)


# By the name of the measured row. Rows without an entry here are printed all the same, without a verdict.
TARGETS: dict[str, Target] = {
    "freshness.p50": _below("freshness, median: produced → row visible in gold", "s", 1.3),
    "freshness.p99": _below("freshness, p99: produced → row visible in gold", "s", 2.5, 1.5),
    "backlog.events_per_minute": _least(
        "sustained end to end, from a backlog", "events/min", 1_500_000, 2_500_000
    ),
    "backlog.share_of_floor": _least(
        "share of the engine's floor (the same source to noop)", "ratio", 0.15, 0.3
    ),
    "backlog.dirty_share": _least("throughput of dirty input against clean", "ratio", 0.8),
    "spike.recovery_ratio": _most(
        "10x spike: time until lag is normal / (backlog / spare rate)", "ratio", 1.3
    ),
    "spike.lost": _most("10x spike: events lost", "events", 0),
    "map_growth.cost_ratio_1m": _most("cost of a constant batch: 1 M nodes against 100 k", "ratio", 1.5, 1.2),
    "map_growth.cost_ratio_10m": _most(
        "cost of a constant batch: 10 M nodes against 100 k", "ratio", 1.5, 1.2
    ),
    "many_batches.cost_ratio": _most("cost of a batch after many against the first 50", "ratio", 1.2),
    "many_batches.stored_ratio": _most("bytes stored / bytes in, after many batches and upkeep", "ratio", 3),
    # Files are compacted every hundred batches, so this many may lie there between two compactions, and a few to spare.
    "many_batches.most_files_of_a_table": _most(
        "files of a table, after many batches and upkeep", "files", 150
    ),
    "stitch.times_graphframes_1m": Target(
        "1,000 new edges at 1 M: faster than full GraphFrames", "times", 1, is_at_most=False, is_strict=True
    ),
    "stitch.times_scipy_1m": Target(
        "1,000 new edges at 1 M: faster than full scipy", "times", 1, is_at_most=False, is_strict=True
    ),
    "stitch.times_graphframes_10m": _least(
        "1,000 new edges at 10 M: faster than full GraphFrames", "times", 20
    ),
    "stitch.times_scipy_10m": Target(
        "1,000 new edges at 10 M: faster than full scipy", "times", 1, is_at_most=False, is_strict=True
    ),
    "recovery.ratio": _most("kill -9 → first new batch, 10x history, against a cold start", "ratio", 3),
    "hub.others_p95_ratio": _most("a hub of 100,000 events a minute: p95 of the others", "ratio", 1.5),
    "driver_memory.10m_nodes": _most("driver memory for 10 M nodes over the empty pipeline", "GiB", 2),
}


def verdict(name: str, value: float | None) -> Verdict:
    """`none` without a target; a value that reached its cap (None) is past every bound above, and missed."""
    target = TARGETS.get(name)
    if target is None:
        return "none"
    if value is None:
        return "missed"
    if target.stretch is not None and target.holds(value, target.stretch):
        return "stretch"
    return "met" if target.holds(value, target.must) else "missed"
