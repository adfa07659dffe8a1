"""What a benchmark hands over: one figure, with what stood beside it and under which conditions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

# quick: does the harness work, minutes for all; usual: the figures of a laptop; large: as big as it is meant to be.
Scale = Literal["quick", "usual", "large"]
SCALES: tuple[Scale, ...] = get_args(Scale)
SEED = 7


@dataclass(frozen=True)
class Measured:
    """One measured row. `name` is `<question>.<figure>`; `value` is None where a cap was reached, and `note` says so.

    `spread` is (smallest, largest) of the repetitions. `baseline` is what stood beside it in the same run, such as
    {"graphframes": 18.2, "scipy": ">cap"}, in the same unit unless its name says another. `conditions` are this
    question's own, such as rows and seconds; the harness adds the machine's.
    """

    name: str
    value: float | None
    unit: str
    spread: tuple[float, float] | None = None
    repetitions: int = 1
    baseline: dict[str, float | str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def repeated(name: str, values: Sequence[float], unit: str, **rest: Any) -> Measured:
    """The row of a figure that was measured several times: median and spread."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Measured(name, statistics.median(values), unit, spread, len(values), **rest)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all do not exceed: an observed one, nothing between two."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)  # rounded up
    return ordered[min(len(ordered), max(1, int(rank))) - 1]
