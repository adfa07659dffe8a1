"""Published rows of silver in the form that parsing gives: one row is one event, or one refused event.

So that a record may go through a batch again without being read again, by whichever rules it was read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.arrays.grouped import longs, offsets, whole
from transforms.arrays.integers import Longs, is_in
from transforms.ingest.parsed_schema import PARSED_SCHEMA, sums_of
from transforms.ingest.replayed import BROUGHT_BY, REPLAYED_SCHEMA
from transforms.ingest.values.hashing import event_keys

_NODES = ("node_ids", "weak_node_ids", "actor_node_ids")
_IDENTIFIERS = PARSED_SCHEMA.field("identifiers").type
_EVENT = "events"  # the feed of everything that is in silver.events


def events_as_parsed(events: pa.Table, identifiers: pa.Table, mapping_of: Callable[[str], str]) -> pa.Table:
    """Rows of silver.events in REPLAYED_SCHEMA. `identifiers`: the rows of silver.identifiers that they name.

    mapping_of: the source mapping of a source. Every node is listed with the first event that mentions it.
    """
    sources = whole(whole(events["source"]).dictionary_encode())
    mappings = pa.array([mapping_of(source) for source in sources.dictionary.to_pylist()], pa.string())
    count = events.num_rows
    made = {
        "mapping": mappings.take(sources.indices),
        "feed": pa.array([_EVENT] * count, pa.string()),
        "reasons": _nothing("reasons", count),
        **_nodes(events, identifiers),
        "event_key_low": pa.array(_low_keys(events)),  # which older rows have not
        BROUGHT_BY: events["batch_id"],
    }
    return _replayed(events, made)


def refused_as_parsed(quarantine: pa.Table) -> pa.Table:
    """Rows of silver.quarantine in REPLAYED_SCHEMA: refused again, for the same reasons."""
    count = quarantine.num_rows
    made = {
        "feed": pa.array([_EVENT] * count, pa.string()),
        BROUGHT_BY: quarantine["batch_id"],
        **{name: _nothing(name, count) for name in (*_NODES, "flags", "identifiers")},
    }
    return _replayed(quarantine, made)


def nodes_named(events: pa.Table) -> np.ndarray:
    """The nodes that rows of silver.events name, each once."""
    return np.unique(np.concatenate([longs(pc.list_flatten(events[name])) for name in _NODES]))


def _nodes(events: pa.Table, identifiers: pa.Table) -> dict[str, pa.Array]:
    """`identifiers`: per event a list of those that no event before it names; and `node_sum`."""
    owner = np.concatenate([longs(pc.list_parent_indices(events[name])) for name in _NODES])
    node = np.concatenate([longs(pc.list_flatten(events[name])) for name in _NODES])
    known = longs(identifiers["node_id"])
    if not is_in(node, known).all():
        raise LookupError("a node of silver.events is not in silver.identifiers")
    order = np.argsort(known, kind="stable")
    place = order[np.searchsorted(known[order], node)]
    by = np.argsort(owner, kind="stable")
    sums = sums_of(owner[by], longs(identifiers["tie_hash"])[place][by], events.num_rows)

    by = np.lexsort((owner, node))
    node, at = np.unique(node[by], return_index=True)
    teller, place = owner[by][at], place[by][at]
    by = np.argsort(teller, kind="stable")
    rows = identifiers.take(pa.array(place[by], pa.int64()))
    children = [whole(rows[field.name]).cast(field.type) for field in _IDENTIFIERS.value_type]
    structs = pa.StructArray.from_arrays(children, fields=list(_IDENTIFIERS.value_type))
    lists = pa.ListArray.from_arrays(offsets(teller[by], events.num_rows), structs, type=_IDENTIFIERS)
    return {"identifiers": lists, "node_sum": sums}


def _low_keys(events: pa.Table) -> Longs:
    return event_keys(events["tenant"].to_pylist(), events["event_id"].to_pylist())[1]


def _nothing(name: str, count: int) -> pa.Array:
    """An empty list per row."""
    kind = REPLAYED_SCHEMA.field(name).type
    return pa.array([()] * count, kind)


def _replayed(rows: pa.Table, made: dict[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    columns = []
    for field in REPLAYED_SCHEMA:
        column = made.get(field.name)
        if column is None and field.name in rows.column_names:
            column = rows[field.name]
        columns.append(pa.nulls(rows.num_rows, field.type) if column is None else column.cast(field.type))
    return pa.table(columns, schema=REPLAYED_SCHEMA)
