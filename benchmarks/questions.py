"""The questions of `make bench`, in order, and about how long each takes."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report.measured import Scale


@dataclass(frozen=True)
class Minutes:
    """What a question is expected to take at each scale; 0: it is not asked at that scale."""

    quick: float
    usual: float
    large: float

    def at(self, scale: Scale) -> float:
        return float(getattr(self, scale))


# By module in this folder, which is also the first part of its rows' names. Usual: 45 minutes for all. Large: an hour,
# for the targets of a size that usual does not reach; where usual asks what the target says, it is not asked again.
QUESTIONS: dict[str, Minutes] = {
    "freshness": Minutes(0.3, 5.5, 15.0),
    "backlog": Minutes(0.7, 10.5, 0.0),
    "spike": Minutes(0.4, 4.5, 0.0),
    "hub": Minutes(0.4, 3.5, 0.0),
    "recovery": Minutes(0.7, 3.5, 0.0),
    "many_batches": Minutes(0.4, 4.0, 13.0),
    "map_growth": Minutes(0.5, 3.0, 15.0),
    "stitch": Minutes(0.4, 2.5, 11.0),
    "bootstrap": Minutes(0.3, 2.0, 7.0),
    "driver_memory": Minutes(0.2, 1.0, 4.0),
    # The textbook's first batch and a cluster of processes take minutes whatever they hold: `make test-slow` has both.
    "naive": Minutes(0.0, 3.0, 0.0),
    "cluster": Minutes(0.0, 2.0, 0.0),
}
