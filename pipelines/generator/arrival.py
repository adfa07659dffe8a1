"""In which order records arrive: nearly in time, some late, some twice, some broken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.generator.world import (
    DAY,
    DUPLICATE_SHARE,
    HOUR,
    LATE_SHARE,
    MALFORMED_SHARE,
    MINUTE,
    PERIOD,
    SECOND,
)

USUAL_DELAY = 45 * SECOND


@dataclass(frozen=True)
class RecordCounts:
    """How many records are valid, repeated and malformed."""

    valid: int
    duplicate: int
    malformed: int


@dataclass(frozen=True)
class Arrivals:
    """One entry per record as they arrive. A planned event is its number, a bad record -1 minus its own."""

    records: np.ndarray
    late_count: int


def share_out(records: int) -> RecordCounts:
    """Divide a number of records into valid, repeated and malformed ones."""
    duplicate, malformed = round(records * DUPLICATE_SHARE), round(records * MALFORMED_SHARE)
    return RecordCounts(records - duplicate - malformed, duplicate, malformed)


def order_of_arrival(numbers: np.random.Generator, event_times: np.ndarray, counts: RecordCounts) -> Arrivals:
    """The order in which records arrive. `event_times`: of the valid events, in milliseconds of the period."""
    arrived = event_times + numbers.integers(0, USUAL_DELAY, size=counts.valid)
    late = numbers.permutation(counts.valid)[: round(counts.valid * LATE_SHARE)]
    arrived[late] = event_times[late] + numbers.integers(5 * MINUTE, 6 * HOUR, size=len(late))

    repeated = numbers.integers(0, counts.valid, size=counts.duplicate)
    waits = np.where(
        numbers.random(counts.duplicate) < 0.8,
        numbers.integers(SECOND, 2 * HOUR, size=counts.duplicate),
        numbers.integers(2 * HOUR, 2 * DAY, size=counts.duplicate),
    )
    broken = numbers.integers(0, PERIOD, size=counts.malformed)

    arrivals = np.concatenate([arrived, arrived[repeated] + waits, broken])
    records = np.concatenate([np.arange(counts.valid), repeated, -1 - np.arange(counts.malformed)])
    return Arrivals(records[np.argsort(arrivals, kind="stable")], len(late))
