"""Judges the events of a batch: their order, and which are valid, duplicates, conflicting or refused."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import EVENTS
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import EVENT_KEYS, LakeState
from pipelines.stream.batch.admission import admitted
from pipelines.stream.batch.named import Named, named_by
from pipelines.stream.batch.portions import Portion
from transforms.arrays.grouped import whole
from transforms.ingest.control import decision_of
from transforms.ingest.decisions import Decision
from transforms.ingest.deduplication import (
    DeduplicationOutcome,
    Keyed,
    judge_duplicates,
    require_conservation,
)

PLACE = ("source", "origin", "origin_ordinal", "record_position")
_OF_RECORDS = ("payload", "element", "headers")
# Without the record's bytes: copying those for every event that is valid would be most of what judging takes.
_OF_EVENTS = ["mapping", "decision", *(n for n in EVENTS.names if n != "batch_id")]


@dataclass(frozen=True)
class Judged:
    """What became of the events of a `portion`. `received`: all of them, with every reason; `named`: the identifiers of
    those that are not refused; `valid`: the acceptable ones that are events, without their records' bytes; `control`:
    the acceptable ones that are decisions; `keys`: EVENT_KEYS of both, by which later batches know them."""

    portion: Portion
    received: pa.Table
    named: Named
    outcome: DeduplicationOutcome
    valid: pa.Table
    control: pa.Table
    keys: pa.Table


def judged(portion: Portion, state: LakeState, max_tenants: int) -> Judged:
    """Say which events of a portion count. They are in the order in which they count."""
    named = named_by(portion.received, portion.together)
    received, named = admitted(portion.received, named, state, max_tenants)
    outcome = judge(received, state)
    accepted = received.select(_OF_EVENTS).filter(pa.array(outcome.valid))
    decision = accepted["decision"]
    control = accepted.filter(decision.is_valid()) if len(decision) > decision.null_count else accepted[:0]
    valid = accepted.filter(decision.is_null()) if control.num_rows else accepted
    return Judged(portion, received, named, outcome, valid, control, accepted.select(EVENT_KEYS.names))


def judge(received: pa.Table, state: LakeState) -> DeduplicationOutcome:
    """The deduplication outcome of events that are in the order in which they count."""
    events = keyed(received)
    refused = numpy_of(pc.list_value_length(received["reasons"])) > 0
    known = state.event_keys.rows("event_key", events.key[~refused])
    outcome = judge_duplicates(events, refused, keyed(known))
    require_conservation(received.num_rows, outcome)
    return outcome


def keyed(events: pa.Table) -> Keyed:
    """The columns of EVENT_KEYS, 0 in place of nulls."""
    return Keyed(
        key=numpy_of(events["event_key"]),
        low=numpy_of(events["event_key_low"]),
        digest=numpy_of(events["content_digest"]),
    )


def by_origin(received: pa.Table) -> pa.Table:
    """Events by source, origin and place in it.

    They nearly always come in a few runs that are in order, one per file: these are put in order then, not the rows.
    Every column is one array then, but for those of the records: they are written as they are, and copying them would
    take longer than all the others.
    """
    places = received.select(PLACE).combine_chunks()
    starts = _runs(places)
    if len(starts) > 1:
        ends = np.append(starts[1:], places.num_rows)
        first, last = (_rows(places.take(pa.array(at))) for at in (starts, ends - 1))
        order = sorted(range(len(starts)), key=first.__getitem__)
        if any(last[a] >= first[b] for a, b in pairwise(order)):
            return received.combine_chunks().sort_by([(c, "ascending") for c in PLACE]).combine_chunks()
        received = pa.concat_tables([received[starts[i] : ends[i]] for i in order])
    columns = [
        column if name in _OF_RECORDS else whole(column)
        for name, column in zip(received.column_names, received.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=received.schema)


def _rows(places: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in places.columns), strict=True))


def decisions_of(control: pa.Table, batch_id: int) -> list[Decision]:
    """The decisions of a batch's control records, in their order."""
    columns = ("tenant", "event_id", "decision", "content_digest")
    records = zip(*(control[c].to_pylist() for c in columns), strict=True)
    return [
        decision_of(tenant, decision_id, content, digest, sequence=(batch_id, place))
        for place, (tenant, decision_id, content, digest) in enumerate(records)
    ]


def _runs(places: pa.Table) -> np.ndarray:
    """The rows that come before the row above them by the columns of `places`, and the first row."""
    if not places.num_rows:
        return np.zeros(0, np.int64)
    is_less, is_equal = False, True
    for column in places.columns:
        above, here = column[:-1], column[1:]
        less, equal = (f(here, above).to_numpy() for f in (pc.less, pc.equal))
        is_less = is_less | (is_equal & less)
        is_equal = is_equal & equal
    return np.append(0, np.flatnonzero(is_less) + 1)
