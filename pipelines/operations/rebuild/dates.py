"""A range of dates, and the records that belong to it.

A range chooses *records*, by what the lake says of them now: those that were received in it, and those of which a
published event happened in it. They are read again from bronze; every other record stays what it was judged to be,
and is taken from silver as it is. What follows from events (identity, sessions, profiles) is derived from all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import TableSpec
from conf.tables import BRONZE_EVENTS, EVENTS, IDENTITY_DECISIONS
from pipelines.lake.live_rows import same_keys
from pipelines.lake.snapshot import Snapshot
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.quarantine.corrections import RECORD
from transforms.ingest.control import CONTROL


@dataclass(frozen=True)
class Dates:
    """From `since` to `until`, both included, in UTC; None: without that end."""

    since: date | None
    until: date | None

    def covers(self, column: str) -> pc.Expression:
        """Whether an instant lies in the range."""
        within = pc.field(column).is_valid()
        if self.since is not None:
            within &= pc.field(column) >= pa.scalar(_midnight(self.since), pa.timestamp("us", "UTC"))
        if self.until is not None:
            after = _midnight(self.until + timedelta(days=1))
            within &= pc.field(column) < pa.scalar(after, pa.timestamp("us", "UTC"))
        return within


def records_of(snapshot: Snapshot, dates: Dates, after: int) -> pa.Table:
    """The records of the range that batches after `after` brought, each once: source, origin and ordinal.

    Decisions are always among them; so are records without an instant of arrival. RebuildRefused when one of them is
    not in bronze any more.
    """
    brought = pc.field("batch_id") > after
    happened = _once(_records(snapshot, EVENTS, brought & dates.covers("event_at")))
    received = _records(
        snapshot,
        BRONZE_EVENTS,
        brought
        & (dates.covers("received_at") | pc.field("received_at").is_null() | (pc.field("feed") == CONTROL)),
    )
    there = [
        rows.take(pa.array(np.unique(same_keys(rows, happened, RECORD)[0])))
        for rows in _parts(snapshot, happened)
    ]
    found = _once(pa.concat_tables([happened.slice(0, 0), *there]))
    if missing := happened.num_rows - found.num_rows:
        raise RebuildRefused(
            f"{missing:,} records of these dates are not in bronze.events any more, so they cannot be read again; "
            "bring them back (stitchlake upkeep --restore-archive), or choose other dates"
        )
    decided = snapshot.dataset(BRONZE_EVENTS).count_rows(filter=pc.field("feed") == CONTROL)
    missing = snapshot.arrow(IDENTITY_DECISIONS, ["decision_id"]).num_rows - decided
    if missing > 0:
        raise RebuildRefused(
            f"the records of {missing:,} decisions are not in bronze.events any more, and every rebuild reads "
            "them; bring them back (stitchlake upkeep --restore-archive)"
        )
    return _once(pa.concat_tables([found, received]))


def among(rows: pa.Table, records: pa.Table) -> np.ndarray:
    """Of each row: does it come from one of `records`?"""
    is_there = np.zeros(rows.num_rows, bool)
    is_there[same_keys(rows, records, RECORD)[0]] = True
    return is_there


def _records(snapshot: Snapshot, spec: TableSpec, chosen: pc.Expression) -> pa.Table:
    return snapshot.dataset(spec).to_table(columns=list(RECORD), filter=chosen)


def _parts(snapshot: Snapshot, wanted: pa.Table) -> Iterator[pa.Table]:
    origins = pc.field("origin").isin(wanted["origin"].unique())
    for batch in snapshot.dataset(BRONZE_EVENTS).to_batches(columns=list(RECORD), filter=origins):
        yield pa.Table.from_batches([batch])


def _once(records: pa.Table) -> pa.Table:
    return records.group_by(list(RECORD)).aggregate([]).select(list(RECORD))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
