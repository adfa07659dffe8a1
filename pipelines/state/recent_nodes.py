"""RecentNodes: a cache of the nodes that a batch has asked for; its steps ask for most of them again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transforms.arrays.integers import found, is_in, union, without
from transforms.identity.nodes import Nodes, new_nodes, union_of

_NO_IDS = np.empty(0, np.int64)
_NO_NODES = new_nodes(_NO_IDS, np.empty(0, np.int32), np.empty(0, np.int32), _NO_IDS)
_MOST = 1 << 20


class RecentNodes:
    """The nodes found for ids that were asked for. `put` and `drop` keep it up to date. For one thread."""

    def __init__(self) -> None:
        self.forget()

    def __len__(self) -> int:
        return len(self._asked)

    def forget(self) -> None:
        """Empty the cache."""
        self._asked, self._found, self._components = _NO_IDS, _NO_NODES, _NO_IDS

    def of(self, ids: np.ndarray, fetch: Callable[[np.ndarray], Nodes]) -> Nodes:
        """The nodes of `ids`, sorted by id; those not asked for before are fetched."""
        fresh = without(ids, self._asked)
        if len(fresh):
            if len(self) + len(fresh) > _MOST:
                self.forget()
                fresh = without(ids, _NO_IDS)
            self._asked, self._found = union(self._asked, fresh), union_of(self._found, fetch(fresh))
        places, is_there = found(self._found.id, union(ids))
        return self._found.select(places[is_there])

    def of_components(self, components: np.ndarray, fetch: Callable[[np.ndarray], Nodes]) -> Nodes:
        """The nodes of `components`, sorted by id; of those not asked for before they are fetched."""
        fresh = without(components, self._components)
        if len(fresh):
            nodes = fetch(fresh)
            if len(self) + len(nodes) > _MOST:
                self.forget()
                return nodes if len(fresh) == len(components) else fetch(components)
            self._components = union(self._components, fresh)
            # What is here already may have been written by this batch.
            self._asked, self._found = union(self._asked, nodes.id), union_of(self._found, nodes)
        return self._found.select(is_in(self._found.component, components))

    def put(self, nodes: Nodes) -> None:
        """These nodes are as they are given, from now on."""
        self._asked, self._found = union(self._asked, nodes.id), union_of(nodes, self._found)

    def drop(self, ids: np.ndarray) -> None:
        """These nodes are no more."""
        self._asked = union(self._asked, ids)
        self._found = self._found.select(~is_in(self._found.id, ids))
