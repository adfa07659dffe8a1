"""How far back published batches can be read.

Before upkeep removes anything it publishes, in the metrics of its row in ops.batches, the oldest batch that is still
readable. Everything from there on is on disk, whole; of what is older some files may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc

from conf.tables import BATCHES
from pipelines.tables.lake import Lake
from pipelines.tables.snapshot import oldest_readable_batch


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
    rows = lake.open(BATCHES).to_pyarrow_dataset().to_table(columns=["batch_id", "published_at"])
    begins = now.astimezone(UTC) - timedelta(days=history.days)
    is_before = pc.fill_null(pc.less_equal(rows["published_at"], begins), True)
    before, numbers = rows["batch_id"].filter(is_before).to_pylist(), set(rows["batch_id"].to_pylist())
    if upcoming is not None:
        numbers.add(upcoming)
        before += [upcoming] if history.days == 0 else []
    by_number = sorted(numbers)
    by_time = max(before, default=by_number[0])
    by_count = by_number[max(0, len(by_number) - history.batches)]
    return max(by_time, by_count, oldest_readable_batch(lake) or by_number[0])


def versions_of(lake: Lake, batch_id: int) -> dict[str, int]:
    """The version of every table in a published batch."""
    rows = lake.open(BATCHES).to_pyarrow_dataset()
    found = rows.to_table(columns=["table_versions"], filter=pc.field("batch_id") == batch_id)
    return dict(found["table_versions"][0].as_py() or ())
