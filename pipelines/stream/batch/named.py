"""The identifiers that the events of a batch mention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.state.keyed_rows import numpy_of
from transforms.arrays.grouped import Flags, Longs, changes, whole
from transforms.arrays.integers import distinct, distinct_first, is_in
from transforms.ingest.control import nodes_decided

NODE_LISTS = ("node_ids", "weak_node_ids", "actor_node_ids")
_FIELDS = ("node_id", "namespace", "value", "tie_hash")


@dataclass(frozen=True)
class Named:
    """Identifiers as rows (tenant, and _FIELDS); `id` and `tie` are two of their columns."""

    rows: pa.Table
    id: Longs
    tie: Longs

    @property
    def tenant(self) -> pa.ChunkedArray:
        """The tenant of each identifier."""
        return self.rows["tenant"]

    @property
    def namespace(self) -> pa.ChunkedArray:
        """The namespace of each identifier."""
        return self.rows["namespace"]

    def select(self, mask_or_rows: Flags | Longs) -> Named:
        """The identifiers of these rows."""
        at = np.flatnonzero(mask_or_rows) if mask_or_rows.dtype == np.bool_ else mask_or_rows
        return Named(self.rows.take(pa.array(at)), self.id[at], self.tie[at])

    def once(self) -> Named:
        """One identifier a node id, sorted by it."""
        return self.select(distinct_first(self.id)[1])

    def doubled(self) -> Longs:
        """The node ids that several identifiers share."""
        order = np.argsort(self.id)
        ids, ties = self.id[order], self.tie[order]
        is_other = ~changes(ids)
        is_other[1:] &= ties[1:] != ties[:-1]
        return ids[is_other]


def named_by(received: pa.Table, together: pa.Table) -> Named:
    """The identifiers that `received` mentions, a part of the rows that were parsed `together`. Each identifier is
    spelled out in one of those rows only, which may be outside `received`."""
    if received is together:
        return named_in(received)
    decided = (n for d in received["decision"].drop_null().to_pylist() for n in nodes_decided(d))
    lists = (numpy_of(pc.list_flatten(whole(received[name]))) for name in NODE_LISTS)
    used = distinct(np.concatenate([*lists, np.fromiter(decided, np.int64)]))
    mentions = whole(together["identifiers"])
    is_used = is_in(numpy_of(pc.struct_field(pc.list_flatten(mentions), "node_id")), used)
    rows = np.unique(numpy_of(pc.list_parent_indices(mentions))[is_used])
    found = named_in(together.select(["tenant", "identifiers"]).take(pa.array(rows)))
    return found.select(is_in(found.id, used))


def named_in(received: pa.Table) -> Named:
    """The identifiers that are spelled out in rows of PARSED_SCHEMA, in their order; some more than once."""
    lists = whole(received["identifiers"])
    flat, parents = pc.list_flatten(lists), pc.list_parent_indices(lists)
    columns = {name: pc.struct_field(flat, name) for name in _FIELDS}
    rows = pa.table({"tenant": whole(received["tenant"]).take(parents), **columns})
    return Named(rows, numpy_of(rows["node_id"]), numpy_of(rows["tie_hash"]))
