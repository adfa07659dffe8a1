"""Nodes: what the resolver knows of a set of identifiers, as aligned arrays sorted by node id."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from transforms.arrays.integers import distinct_first, places_in


@dataclass(frozen=True)
class Nodes:
    """One row per node. `canonical`, `component` and `first_canonical` are 0 while the node has none.

    `host` is the node through which a shared node belongs to its strongest owner, 0 for none. `tie` is the unkeyed
    hash that ends ties, so that people depend neither on the hashing key nor on row order.
    """

    id: np.ndarray
    tenant: np.ndarray
    namespace: np.ndarray
    tie: np.ndarray
    canonical: np.ndarray
    component: np.ndarray
    first_canonical: np.ndarray
    host: np.ndarray
    is_shared: np.ndarray
    is_hub: np.ndarray
    since: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def at(self, ids: np.ndarray) -> np.ndarray:
        """Row numbers of `ids`, all of which must be present."""
        rows = places_in(self.id, ids)
        if len(ids) and (rows.max(initial=0) >= len(self.id) or not np.array_equal(self.id[rows], ids)):
            raise LookupError("a node is missing from the neighbourhood that was read for it")
        return rows

    def has(self, ids: np.ndarray) -> np.ndarray:
        """Whether each id is among the nodes."""
        rows = places_in(self.id, ids)
        rows[rows == len(self.id)] = 0
        return self.id[rows] == ids if len(self.id) else np.zeros(len(ids), bool)

    def select(self, mask_or_rows: np.ndarray) -> Nodes:
        """The nodes of these rows."""
        return Nodes(*(getattr(self, f.name)[mask_or_rows] for f in fields(self)))


def new_nodes(ids: np.ndarray, tenant: np.ndarray, namespace: np.ndarray, tie: np.ndarray) -> Nodes:
    """Rows of nodes that nobody has seen before."""
    zero, no = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    return Nodes(ids, tenant, namespace, tie, zero, zero, zero, zero, no, no, zero)


def union_of(*parts: Nodes) -> Nodes:
    """The parts as one, sorted by id; a node in several parts is taken from the first of them."""
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Nodes)}
    _, first = distinct_first(columns["id"])
    return Nodes(**{name: column[first] for name, column in columns.items()})
