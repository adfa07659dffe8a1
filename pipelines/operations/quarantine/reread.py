"""Reads refused events again from their bytes: which are acceptable now, and which rows change.

rows of the quarantine ─▶ their records ─▶ parser ─▶ the rows of those events ─▶ judged ─▶ what changes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import BRONZE_EVENTS, EVENTS
from pipelines.lake.snapshot import Snapshot
from pipelines.operations.quarantine.corrections import (
    RECORD,
    Corrections,
    Place,
    correction_rows,
    corrections_of,
)
from pipelines.operations.quarantine.selection import PLACE, record_starts
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.admission import admitted
from pipelines.stream.batch.judged import judge
from pipelines.stream.batch.named import named_in
from pipelines.stream.batch.rows import ELEMENT
from transforms.ingest.deduplication import CONFLICT, DeduplicationOutcome
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import PARSED_SCHEMA, Records
from transforms.ingest.replayed import REPLAYED_SCHEMA

# Why an event stays as it is, though it was selected.
NO_BRONZE = "the envelope is in bronze.events no more; bring it back there, then replay"
CUT_OTHERWISE = "the mapping cuts its envelope otherwise now; `stitchlake rebuild` reads all of it anew"

NO_CORRECTIONS = Corrections("", {})


@dataclass(frozen=True)
class Outcome:
    """What became of the selected events: counts, `still` by reason and `left` by why it was not tried."""

    valid_count: int = 0
    duplicate_count: int = 0
    quarantined_count: int = 0
    still: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.valid_count + other.valid_count,
            self.duplicate_count + other.duplicate_count,
            self.quarantined_count + other.quarantined_count,
            self.still + other.still,
            self.left + other.left,
        )


@dataclass(frozen=True)
class Reread:
    """`received`: the events that change, in REPLAYED_SCHEMA, as they arrived; those of them that are refused again
    are refused for other reasons. `replaced`: the places in quarantine that they stand in for. `corrections`: rows of
    bronze.corrections."""

    received: pa.Table
    replaced: pa.Table
    corrections: pa.Table
    outcome: Outcome


class _Record(NamedTuple):
    """A record with events in quarantine: their rows by position. `is_whole`: it had no other events."""

    refused: dict[int, dict[str, Any]]
    is_whole: bool
    framed: Mapping[str, Any]
    is_corrected: bool = False


def read_again(
    snapshot: Snapshot,
    refused: pa.Table,
    parser: RecordParser,
    state: LakeState,
    max_tenants: int,
    corrections: Corrections = NO_CORRECTIONS,
) -> Reread:
    """Read the records of `refused` rows of the quarantine, which are as they arrived, by today's rules.

    Of an envelope only the events that are in quarantine count: the others are published. `state` knows those.
    """
    records, left = _records_of(snapshot, refused, corrections)
    if not records:
        return _nothing(left)
    rows = pa.Table.from_batches([parser.parse(_framed([r.framed for r in records]))])
    position = rows["record_position"].to_numpy()
    of_record = np.cumsum(position == 0) - 1
    row_count = np.bincount(of_record, minlength=len(records))
    takes_all = np.array([r.is_whole for r in records]) & (row_count > 1)
    for at in np.flatnonzero(takes_all).tolist():  # hardly ever: an envelope that was none before
        takes_all[at] = not _has_published_events(snapshot, records[at].framed)
    elements = rows["element"]
    wanted = np.zeros(rows.num_rows, bool)
    found = [0] * len(records)
    for at, (number, place) in enumerate(zip(of_record.tolist(), position.tolist(), strict=True)):
        record = records[number]
        was = record.refused.get(place)
        is_there = was is not None and (
            record.is_whole or _is_same_element(was, elements[at].as_py(), int(row_count[number]))
        )
        wanted[at] = is_there or takes_all[number]
        found[number] += is_there
    left[CUT_OTHERWISE] += sum(len(r.refused) - count for r, count in zip(records, found, strict=True))
    candidates = np.flatnonzero(wanted)
    kept, numbers = rows.take(pa.array(candidates)).combine_chunks(), of_record[candidates]
    received = _with_identifiers_of(kept, rows)
    received, _ = admitted(received, named_in(received), state, max_tenants)
    outcome = judge(received, state)
    was_rows = [records[n].refused.get(p) for n, p in zip(numbers, position[candidates], strict=True)]
    changes = _changes(received, outcome, was_rows) | takes_all[numbers]
    is_corrected = np.array([r.is_corrected for r in records])
    changes |= is_corrected[numbers]
    replaced = [was for was, change in zip(was_rows, changes, strict=True) if was is not None and change]
    brought_by = [next(iter(records[n].refused.values()))["batch_id"] for n in numbers[changes]]
    changed = _with_identifiers_of(received.filter(pa.array(changes)), rows)
    return Reread(
        changed.append_column(REPLAYED_SCHEMA.field(len(PARSED_SCHEMA)), pa.array(brought_by, pa.int64())),
        pa.Table.from_pylist(replaced, schema=_places_schema()),
        _corrections(received, numbers, records, is_corrected, corrections.author),
        Outcome(
            int(outcome.valid.sum()),
            int(outcome.duplicate.sum()),
            int(outcome.quarantined.sum()),
            _reasons(received, outcome),
            left,
        ),
    )


def _records_of(
    snapshot: Snapshot, refused: pa.Table, corrections: Corrections
) -> tuple[list[_Record], Counter[str]]:
    """The records with their bytes, and how many events have to be left where they are."""
    starts = [*np.flatnonzero(record_starts(refused)).tolist(), refused.num_rows]
    rows = refused.to_pylist()
    groups = [rows[a:b] for a, b in pairwise(starts)]
    envelopes = _envelopes(snapshot, [group[0] for group in groups if not is_whole(group)])
    records: list[_Record] = []
    left: Counter[str] = Counter()
    for group in groups:
        by_position = {row["record_position"]: row for row in group}
        if is_whole(group):
            payload = corrections.payloads.get(_place(group[0]), group[0]["payload"])
            is_corrected = payload != group[0]["payload"]
            records.append(_Record(by_position, True, {**group[0], "payload": payload}, is_corrected))
            continue
        envelope = _best(envelopes.get(_place(group[0]), []), group[0]["batch_id"])
        if envelope is None:
            left[NO_BRONZE] += len(group)
        else:
            records.append(_Record(by_position, False, envelope))
    return records, left


def is_whole(group: list[dict[str, Any]]) -> bool:
    """Whether these rows are a record that was refused as a whole, whose bytes they therefore have."""
    (first, *others) = group
    return not others and first["record_position"] == 0 and first["payload_format"] != ELEMENT


def _envelopes(snapshot: Snapshot, wanted: list[dict[str, Any]]) -> dict[Place, list[dict[str, Any]]]:
    """By place, the records that have been there."""
    if not wanted:
        return {}
    columns = [*RECORD, "mapping", "payload_format", "payload", "received_at", "batch_id"]
    places = {_place(w) for w in wanted}
    given = {_place(row): row["payload"] for row in corrections_of(snapshot).to_pylist()}
    result: dict[Place, list[dict[str, Any]]] = {}
    filter_ = pc.field("origin_ordinal").isin(sorted({w["origin_ordinal"] for w in wanted}))
    filter_ &= pc.field("origin").isin(sorted({w["origin"] for w in wanted}))
    for batch in snapshot.dataset(BRONZE_EVENTS).to_batches(columns=columns, filter=filter_):
        for row in batch.to_pylist():
            if _place(row) in places:
                row["payload"] = given.get(_place(row), row["payload"])
                result.setdefault(_place(row), []).append(row)
    return result


def _best(rows: list[dict[str, Any]], batch_id: int) -> dict[str, Any] | None:
    """Of the records of one place the one that the batch brought. A rebuild may have given the event a later batch."""
    earlier = [row for row in rows if row["batch_id"] <= batch_id]
    return max(earlier, key=lambda row: row["batch_id"], default=None)


def _has_published_events(snapshot: Snapshot, record: Mapping[str, Any]) -> bool:
    """Whether further events of a record are published: then it has been an envelope before, its first event too deep
    to be kept as a text of its own."""
    here = pc.scalar(True)
    for name in RECORD:
        here &= pc.field(name) == record[name]
    return snapshot.dataset(EVENTS).count_rows(filter=here) > 0


def _is_same_element(was: Mapping[str, Any], element: bytes | None, row_count: int) -> bool:
    return row_count > 1 and (was["payload_format"] != ELEMENT or was["payload"] == element)


def _framed(records: list[Mapping[str, Any]]) -> Records:
    names = ("source", "mapping", "origin", "origin_ordinal", "payload_format", "payload")
    columns = {name: [record[name] for record in records] for name in names}
    received = pa.array([record["received_at"] for record in records], pa.timestamp("us", "UTC"))
    return Records(
        **columns, feed=["events"] * len(records), transport_at=received.cast(pa.int64()).to_pylist()
    )


def _changes(
    received: pa.Table, outcome: DeduplicationOutcome, was_rows: list[dict[str, Any] | None]
) -> np.ndarray:
    """Which events are anything else than what their rows in quarantine say already."""
    changes = ~outcome.quarantined
    columns = zip(*(received[name].to_pylist() for name in ("tenant", "event_id", "reasons")), strict=True)
    for at, ((tenant, event_id, reasons), was) in enumerate(zip(columns, was_rows, strict=True)):
        reasons = [CONFLICT] if outcome.conflicting[at] else reasons
        if not changes[at] and was is not None:
            changes[at] = (tenant, event_id, reasons) != (was["tenant"], was["event_id"], was["reasons"])
    return changes


def _reasons(received: pa.Table, outcome: DeduplicationOutcome) -> Counter[str]:
    refused = received["reasons"].filter(pa.array(outcome.refused)).to_pylist()
    found = Counter(reason for reasons in refused for reason in reasons)
    found[CONFLICT] += int(outcome.conflicting.sum())
    return +found


def _corrections(
    received: pa.Table, numbers: np.ndarray, records: list[_Record], given: np.ndarray, author: str
) -> pa.Table:
    tenants = dict(zip(numbers[::-1].tolist(), received["tenant"].to_pylist()[::-1], strict=True))
    now = datetime.now(UTC)
    return correction_rows(
        {
            **{name: records[at].framed[name] for name in (*RECORD, "payload")},
            "tenant": tenants[at],
            "author": author,
            "corrected_at": now,
        }
        for at in np.flatnonzero(given).tolist()
    )


def _with_identifiers_of(kept: pa.Table, rows: pa.Table) -> pa.Table:
    """`kept` with every identifier that `rows` name, each at one row of its tenant: a row may rely on one before it
    that is not kept."""
    lists = rows["identifiers"].combine_chunks()
    tenants = kept["tenant"].to_pylist()
    first = {tenant: at for at, tenant in reversed(list(enumerate(tenants)))}
    parents = rows["tenant"].take(pc.list_parent_indices(lists)).to_pylist()
    at = np.array([first.get(tenant, -1) for tenant in parents], np.int64)
    by = np.argsort(at, kind="stable")
    by = by[at[by] >= 0]
    offsets = np.searchsorted(at[by], np.arange(kept.num_rows + 1))
    values = pc.list_flatten(lists).take(pa.array(by))
    mentions = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=lists.type)
    return kept.set_column(
        kept.schema.get_field_index("identifiers"), kept.schema.field("identifiers"), mentions
    )


def _nothing(left: Counter[str]) -> Reread:
    nothing = REPLAYED_SCHEMA.empty_table(), _places_schema().empty_table(), correction_rows([])
    return Reread(*nothing, Outcome(left=left))


def _places_schema() -> pa.Schema:
    kinds = {"origin": pa.string(), "source": pa.string()}
    return pa.schema([(name, kinds.get(name, pa.int64())) for name in PLACE])


def _place(row: Mapping[str, Any]) -> Place:
    return row["source"], row["origin"], row["origin_ordinal"]
