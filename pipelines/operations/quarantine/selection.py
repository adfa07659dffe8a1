"""Selects refused events in one published state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import QUARANTINE
from pipelines.lake.live_rows import same_keys
from pipelines.lake.snapshot import Snapshot

# An event's row in quarantine. Its batch is the one that brought the record, and stays so when reasons change: a
# topic that was made anew may have other records in the same places.
PLACE = ("origin", "origin_ordinal", "record_position", "source", "batch_id")
# The order in which events count: as they arrived.
ARRIVAL = ("batch_id", "source", "origin", "origin_ordinal", "record_position")
BYTES = "byte_count"
_LIGHT = tuple(name for name in QUARANTINE.names if name != "payload")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATTERNS = {"sources": "source", "origins": "origin", "mappings": "mapping", "tenants": "tenant"}


@dataclass(frozen=True)
class Selection:
    """Events for which all of this holds; of a tuple, one of its values. Of sources, origins, mappings and tenants
    `*` stands for any text. Instants are of receipt, in microseconds: from `since` until before `until`."""

    reasons: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    mappings: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    first_batch: int | None = None
    last_batch: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The selection as JSON can carry it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Selection:
        """Read what `as_json` has made."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls(**given)

    def mask(self, events: pa.Table) -> np.ndarray:
        """Which of these rows of the quarantine are meant."""
        meant = np.ones(events.num_rows, bool)
        for name, column in _PATTERNS.items():
            if patterns := getattr(self, name):
                meant &= _matches(events[column], patterns)
        if self.reasons:
            parents = pc.list_parent_indices(events["reasons"])
            is_wanted = pc.is_in(pc.list_flatten(events["reasons"]), pa.array(self.reasons, pa.string()))
            having = np.zeros(events.num_rows, bool)
            having[parents.filter(is_wanted).to_numpy()] = True
            meant &= having
        return meant

    @property
    def bounds(self) -> pc.Expression:
        """What tells files apart without reading them."""
        batch, at = pc.field("batch_id"), pc.field("received_at")
        found = batch >= (self.first_batch or 0)
        if self.last_batch is not None:
            found &= batch <= self.last_batch
        if self.since is not None:
            found &= at >= _EPOCH + timedelta(microseconds=self.since)
        if self.until is not None:
            found &= at < _EPOCH + timedelta(microseconds=self.until)
        return found


def selected(snapshot: Snapshot, selection: Selection) -> pa.Table:
    """The refused events that are meant, as they arrived, with their size in bytes in place of their payload."""
    columns = {name: pc.field(name) for name in _LIGHT}
    columns[BYTES] = pc.coalesce(pc.binary_length(pc.field("payload")), pa.scalar(0, pa.int32()))
    found = snapshot.dataset(QUARANTINE).to_table(columns=columns, filter=selection.bounds)
    found = found.filter(pa.array(selection.mask(found)))
    return found.sort_by([(name, "ascending") for name in ARRIVAL]).combine_chunks()


def with_payloads(snapshot: Snapshot, events: pa.Table) -> pa.Table:
    """Rows of `selected`, whole again."""
    first, last = pc.min(events["batch_id"]), pc.max(events["batch_id"])
    parts = [QUARANTINE.arrow.empty_table()]
    batches = snapshot.dataset(QUARANTINE).to_batches(
        columns=list(QUARANTINE.names),
        filter=(pc.field("batch_id") >= first) & (pc.field("batch_id") <= last),
    )
    for batch in batches:
        rows = pa.Table.from_batches([batch]).cast(QUARANTINE.arrow)
        mine, _ = same_keys(rows, events, PLACE)
        parts.append(rows.take(pa.array(np.unique(mine))))
    found = pa.concat_tables(parts)
    if found.num_rows != events.num_rows:
        raise LookupError(
            f"{events.num_rows} rows of the quarantine were asked for, {found.num_rows} are there"
        )
    return found.sort_by([(name, "ascending") for name in ARRIVAL]).combine_chunks()


def portions(events: pa.Table, most_events: int, most_bytes: int) -> Iterator[pa.Table]:
    """Rows of `selected` in runs that a driver can hold. The events of one record stay together."""
    starts = np.flatnonzero(record_starts(events))
    if not len(starts):
        return
    weight = np.cumsum(events[BYTES].to_numpy())
    start = 0
    for begin, end in zip(starts, [*starts[1:], events.num_rows], strict=True):
        size = weight[end - 1] - (weight[start - 1] if start else 0)
        if begin > start and (end - start > most_events or size > most_bytes):
            yield events.slice(start, begin - start)
            start = int(begin)
    yield events.slice(start)


def record_starts(events: pa.Table) -> np.ndarray:
    """Of events as they arrived, those that are the first of their record."""
    is_first = np.zeros(events.num_rows, bool)
    is_first[:1] = True
    for name in ("batch_id", "source", "origin", "origin_ordinal"):
        column = events[name].combine_chunks()
        is_first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return is_first


def _matches(column: pa.ChunkedArray, patterns: tuple[str, ...]) -> np.ndarray:
    values = [v for v in pc.unique(column).to_pylist() if v is not None]
    wanted = [v for v in values if any(v == p or fnmatchcase(v, p) for p in patterns)]
    return pc.is_in(column, pa.array(wanted, pa.string())).to_numpy()
