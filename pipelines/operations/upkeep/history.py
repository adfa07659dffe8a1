"""How far back published batches can be read.

Before upkeep removes anything it publishes, in the metrics of its row in ops.batches, the oldest batch that is still
readable. Everything from there on is on disk, whole; of what is older some files may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import oldest_readable_batch


@dataclass(frozen=True)
class History:
    """Published batches that are to stay readable: those of the last `days`, but at most `batches` of them."""

    days: float
    batches: int


def oldest_to_keep(lake: Lake, history: History, upcoming: int | None, now: datetime) -> int:
    """The first batch to keep readable, `upcoming` being one that is about to be published.

    It is the one that was the latest when the history's time began, as somebody may have opened it then; and never one
    that was given up before.
    """
    given_up = oldest_readable_batch(lake) or 0
    rows = BatchRows(lake).between(["batch_id", "published_at"], given_up)
    begins = _micros(now) - int(history.days * 86_400e6)
    before = rows["batch_id"].to_numpy()[published_about(rows["published_at"], now) <= begins].tolist()
    by_number = rows["batch_id"].to_pylist()
    if upcoming is not None:
        by_number.append(upcoming)
        before += [upcoming] if history.days == 0 else []
    by_time = max(before, default=by_number[0])
    by_count = by_number[max(0, len(by_number) - history.batches)]
    return max(by_time, by_count, given_up)


def published_about(published_at: pa.ChunkedArray, now: datetime) -> np.ndarray:
    """When batches, in their order, were published, in microseconds, as far as a clock can be believed that may have
    been set wrong meanwhile.

    An instant that is still to come is none, so the next one stands for it: the batch was published no later. And no
    batch was published before those in front of it. So a clock that was wrong once makes batches seem younger than they
    are, and not older: too much is kept, for as long as the history is.
    """
    at = published_at.cast(pa.int64()).fill_null(2**62).to_numpy()
    places = np.where(at <= _micros(now), np.arange(len(at)), len(at))
    following = np.minimum.accumulate(places[::-1])[::-1]
    return np.maximum.accumulate(np.append(at, _micros(now))[following])


def versions_of(lake: Lake, batch_id: int) -> dict[str, int]:
    """The version of every table in a published batch."""
    found = BatchRows(lake).between(["table_versions"], batch_id, batch_id)
    return dict(found["table_versions"][0].as_py() or ())


def _micros(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp() * 1e6)
