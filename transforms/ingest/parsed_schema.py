"""PARSED_SCHEMA: the rows that parsing makes, one per event or refused record, in the types of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter, ne
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from conf.table_spec import arrow_type
from conf.tables import BRONZE_EVENTS, EVENTS
from transforms.arrays.grouped import changes, filled, offsets
from transforms.arrays.integers import Longs
from transforms.ingest.subject import Node
from transforms.ingest.values.touch import NO_TOUCH, Touch

Made = dict[str, pa.Array]  # columns of rows, by name

_TYPES = {c.name: c.type for c in (*BRONZE_EVENTS.columns, *EVENTS.columns) if c.name != "batch_id"}
IDENTIFIER = "struct<node_id:long,namespace:string,value:string,tie_hash:long>"

# The columns of bronze.events and silver.events, but for the batch: a column that nothing fills is null. Then:
# `reasons` empty: acceptable. Otherwise the columns of the event are null and its lists empty.
# `decision`: of a record of the control feed, what it decides, as JSON with nodes in place of identifiers; such a row
# has no event, and its lists of nodes are empty.
# `record_position`: the event's place in its record, 0 for the first or only one. `payload` is there on that row
# alone, or a large envelope would be carried once per event; `element` is one event of several, as JSON.
# `identifiers`: the nodes of acceptable rows, each at its first occurrence in the batch of rows only. `node_sum`: the
# sum of the tie hashes of all of a row's nodes, which tells identifiers apart that share a node id.
PARSED_SCHEMA: pa.Schema = pa.schema(
    [
        *(pa.field(name, arrow_type(type_)) for name, type_ in _TYPES.items()),
        pa.field("reasons", arrow_type("array<string>")),
        pa.field("decision", arrow_type("string")),
        pa.field("identifiers", arrow_type(f"array<{IDENTIFIER}>")),
        pa.field("element", pa.binary()),
        pa.field("node_sum", pa.int64()),
    ]
)


class Records(NamedTuple):
    """Framed records, column by column. `transport_at`: when the transport had each, microseconds since
    1970 in UTC. `record_key`, `headers`: what a broker had beside the payload; empty when no record has any."""

    source: list[str]
    mapping: list[str]
    feed: list[str]
    origin: list[str]
    origin_ordinal: list[int]
    payload_format: list[str]
    payload: list[bytes | None]
    transport_at: list[int | None]
    record_key: Sequence[bytes | None] = ()
    headers: Sequence[list[dict[str, Any]] | None] = ()

    def slice(self, start: int, end: int) -> Records:
        """The records from `start` up to, not including, `end`."""
        return Records(*[column[start:end] for column in self])  # type: ignore[arg-type]

    def chosen(self, places: list[int]) -> Records:
        """The records at these places."""
        return Records(*[[column[at] for at in places] if column else column for column in self])  # type: ignore[arg-type]


CARRIED = ("record_key", "headers")


class Row(msgspec.Struct, kw_only=True, gc=False):
    """What the parser makes of one event; by default, of a record of which nothing can be read.

    `received_at`, `event_at`: microseconds. `touch`: the columns of its name. `identifiers`: all nodes; those that link
    are the first `linking_count` of them, best first. Every other field is the column of its name. A struct is as small
    and as quick as a tuple, and its fields have names.
    """

    tenant: str
    received_at: int | None
    reasons: Sequence[str] = ()
    event_id: str | None = None
    event_key: int | None = None
    event_key_low: int | None = None
    content_digest: int | None = None
    event_type: str | None = None
    event_name: str | None = None
    event_at: int | None = None
    platform: str | None = None
    node_ids: Sequence[Any] = ()
    weak_node_ids: Sequence[Any] = ()
    actor_node_ids: Sequence[Any] = ()
    touch: Touch = NO_TOUCH
    flags: Sequence[str] = ()
    properties: bytes | None = None
    context: bytes | None = None
    decision: str | None = None
    identifiers: Sequence[Node] = ()
    linking_count: int = 0


_NO_COLUMNS = ("touch", "identifiers", "linking_count")
_TOUCH = ("touch_source", "touch_medium", "touch_campaign", "touch_referrer")
_LISTS = frozenset(("reasons", "node_ids", "weak_node_ids", "actor_node_ids", "flags"))
_NODE_ID, _TIE = (Node._fields.index(name) for name in ("node_id", "tie_hash"))  # by place is twice as fast


class Places(NamedTuple):
    """For the rows of records that were exploded: the record of each row, its position there, and its text where
    it has siblings."""

    record: list[int]
    position: list[int]
    element: list[bytes | None]


class Mentions(NamedTuple):
    """Nodes that records tell: the record of each, ascending; its id; its tie hash; and its place among `nodes`."""

    record: Longs
    node_id: Longs
    tie: Longs
    place: Longs
    nodes: list[Node]


def mentions_of(rows: Sequence[Row]) -> Mentions:
    """What rows tell of nodes, each row for a record."""
    lists = [row.identifiers for row in rows]
    nodes = list(chain.from_iterable(lists))
    counts = list(map(len, lists))
    ids, ties = (np.fromiter(map(itemgetter(at), nodes), np.int64, len(nodes)) for at in (_NODE_ID, _TIE))
    return Mentions(np.repeat(np.arange(len(rows)), counts), ids, ties, np.arange(len(nodes)), nodes)


def sums_of(record: Longs, tie: Longs, count: int) -> pa.Array:
    """`node_sum` of records 0 … count-1. `record`: of each node, ascending; `tie`: its tie hash."""
    before = np.concatenate([[0], np.cumsum(tie)])
    return pa.array(np.diff(before[np.searchsorted(record, np.arange(count + 1))]))


def first_mentions(parts: Sequence[Mentions], count: int, seen: dict[int, int]) -> pa.Array:
    """For each of `count` records the nodes that no earlier record mentions, in the type of `identifiers`.

    Nodes in `seen` (id → tie hash) are not listed again; the new ones are added to it. Two identifiers that share a
    node id are both listed.
    """
    record, ids, ties, place = (np.concatenate(columns) for columns in list(zip(*parts, strict=True))[:4])
    part_of = np.repeat(np.arange(len(parts)), [len(part.record) for part in parts])
    in_order = np.argsort(record, kind="stable")
    different, first = _first_of_each(ids[in_order], ties[in_order])
    is_new = np.fromiter(
        map(ne, map(seen.get, different.tolist()), ties[in_order[first]].tolist()), bool, len(first)
    )
    chosen = in_order[np.sort(first[is_new])]
    seen.update(zip(ids[chosen].tolist(), ties[chosen].tolist(), strict=True))
    new = zip(part_of[chosen].tolist(), place[chosen].tolist(), strict=True)
    return _identifier_lists([parts[part].nodes[at] for part, at in new], offsets(record[chosen], count))


def _first_of_each(ids: Longs, ties: Longs) -> tuple[Longs, Longs]:
    """(the id of each node, the first row that has it). Tie hashes distinguish nodes with one id."""
    order = np.argsort(ids)
    ids_there, ties_there = ids[order], ties[order]
    is_next = changes(ids_there)
    if not (is_next[1:] | (ties_there[1:] == ties_there[:-1])).all():
        order = np.lexsort((ties, ids))
        ids_there = ids[order]
        is_next = changes(ids_there, ties[order])
    starts = np.flatnonzero(is_next)
    return ids_there[starts], np.minimum.reduceat(order, starts) if len(starts) else order


def made_of(rows: Sequence[Row], mentions: Mentions) -> Made:
    """Rows as columns by name, but for `identifiers`. `mentions`: of these rows."""
    fields = Row.__struct_fields__
    columns = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else ((),) * len(fields)
    values = dict(zip(fields, columns, strict=True))
    made = {
        name: _lists(name, column) if name in _LISTS else pa.array(column, kind_of(name))
        for name, column in values.items()
        if name not in _NO_COLUMNS
    }
    node_sum = sums_of(mentions.record, mentions.tie, len(rows))
    return {**made, **touch_columns(values["touch"]), "node_sum": node_sum}


def touch_columns(touches: Sequence[Touch]) -> Made:
    """The columns of what led to each event."""
    columns = zip(*touches, strict=True) if touches else ((),) * len(_TOUCH)
    return {name: pa.array(column, pa.string()) for name, column in zip(_TOUCH, columns, strict=True)}


def _lists(name: str, lists: Sequence[Any]) -> pa.Array:
    """Lists as a column, built flat as `_identifier_lists` does it."""
    if not any(lists):
        return no_lists(name, len(lists))
    kind = kind_of(name)
    items = pa.array(list(chain.from_iterable(lists)), kind.value_type)
    counts = np.fromiter(map(len, lists), np.int32, len(lists))
    where = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(where, items, type=kind)


def to_batch(records: Records, made: Made, places: Places | None) -> pa.RecordBatch:
    """Rows with the records that they were made of. `places`: None if the place of each row is that of its record."""
    columns, count = dict(made), len(made["tenant"])
    for name in (n for n in Records._fields if n != "transport_at"):
        values = getattr(records, name)
        if name in CARRIED and not values:
            columns[name] = pa.nulls(count, kind_of(name))
            continue
        if name == "payload" and places is not None:
            taken = zip(places.record, places.position, strict=True)
            values = [None if position else values[at] for at, position in taken]
        elif places is not None:
            values = [values[at] for at in places.record]
        columns[name] = pa.array(values, kind_of(name))
    if places is None:
        columns["record_position"] = pa.array(np.zeros(count, np.int64))
        columns["element"] = pa.nulls(count, pa.binary())
    else:
        columns["record_position"] = pa.array(places.position, pa.int64())
        columns["element"] = pa.array(places.element, pa.binary())
    columns["event_date"] = columns["event_at"].cast(pa.date32())
    is_refused = columns["anchor_node_id"].is_null().to_numpy(zero_copy_only=False)
    has_user = columns["user_node_id"].is_valid().to_numpy(zero_copy_only=False)
    columns["is_authenticated"] = pa.array(has_user, mask=is_refused)
    return pa.RecordBatch.from_arrays(filled(columns, PARSED_SCHEMA, count), schema=PARSED_SCHEMA)


def kind_of(name: str) -> pa.DataType:
    """The Arrow type of a column of PARSED_SCHEMA."""
    return PARSED_SCHEMA.field(name).type


def no_lists(name: str, count: int) -> pa.Array:
    """So many empty lists in a column's type."""
    kind = kind_of(name)
    return pa.ListArray.from_arrays(
        pa.array(np.zeros(count + 1, np.int32)), pa.array([], kind.value_type), type=kind
    )


def _identifier_lists(nodes: list[Node], offsets: pa.Array) -> pa.Array:
    """The nodes of each row. Built flat: lists of Python objects would take twice as long."""
    kind = kind_of("identifiers")
    fields = dict(zip(Node._fields, zip(*nodes, strict=True), strict=True)) if nodes else {}
    children = [pa.array(fields.get(f.name, ()), f.type) for f in kind.value_type]
    values = pa.StructArray.from_arrays(children, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(offsets, values, type=kind)
