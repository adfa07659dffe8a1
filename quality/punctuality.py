"""Counters of a batch's event times: how many events come late, and how many come before they happen."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

LATE_AFTER_SECONDS = 3600
AHEAD_BY_SECONDS = 300  # clocks of phones differ by minutes

_MICROS = pa.timestamp("us", tz="UTC")


def punctuality(events: pa.Table, batch_at: int) -> dict[str, int]:
    """Of rows with `event_at` and `received_at`: `late_event_count`, those that happened long before they were
    received, and `future_event_count`, those that happen after the batch began (`batch_at`, in microseconds)."""
    event_at = events["event_at"].cast(_MICROS)
    late = pc.less(event_at, pc.subtract(events["received_at"].cast(_MICROS), _seconds(LATE_AFTER_SECONDS)))
    ahead = pc.greater(event_at, pa.scalar(batch_at + AHEAD_BY_SECONDS * 1_000_000, _MICROS))
    return {"late_event_count": pc.sum(late).as_py() or 0, "future_event_count": pc.sum(ahead).as_py() or 0}


def _seconds(count: int) -> pa.Scalar:
    return pa.scalar(count * 1_000_000, pa.duration("us"))
