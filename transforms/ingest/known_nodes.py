"""Numbers the nodes of a worker, so that identifiers of many records are looked up as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from transforms.arrays.integers import Flags, Longs
from transforms.ingest.linking import STRENGTHS, WEAK
from transforms.ingest.subject import IdentifierReader, Node

UNUSABLE, IGNORED = -1, -2  # in place of a number: something to be flagged; nothing that counts
_MOST = 100_000
_LONGEST = 1024  # of a value that is remembered
_WEAK_LAST = 1 << 31  # beyond every priority


class Entries(NamedTuple):
    """The identifiers of many records: the record that each belongs to, and its number. Of a record, linking nodes come
    first, then by priority."""

    row: Longs
    number: Longs


class KnownNodes:
    """Numbers for the nodes of one reader, the last hundred thousand of them."""

    def __init__(self, reader: IdentifierReader) -> None:
        self._reader = reader
        self.names = list(reader.strengths)
        self._space = {name: at for at, name in enumerate(self.names)}
        self._forget()

    def _forget(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self.nodes: list[Node] = []
        self._kept = self._array_count = 0
        self.ids = np.empty(1024, np.int64)
        self.ties = np.empty(1024, np.int64)
        self.strengths = np.empty(1024, np.int8)
        self.spaces = np.empty(1024, np.int32)  # places among `names`
        self._order = np.empty(1024, np.int64)

    def entries(
        self,
        tenants: Iterable[str],
        identifiers: Iterable[dict[str, str]],
        ips: Iterable[str | None],
        ip: str | None,
    ) -> tuple[Entries, Flags]:
        """(the entries of records, for each record whether it is as plain as it should be). `ip`: the namespace of
        network addresses; None where they are nobody's identifiers."""
        if self._kept >= _MOST:
            self._forget()
        numbers: list[int] = []
        counts: list[int] = []
        for tenant, named, address in zip(tenants, identifiers, ips, strict=True):
            known = self._tenants.get(tenant)
            if known is None:
                known = self._tenants[tenant] = _Tenant(self, tenant)
            before = len(numbers)
            numbers += [known[namespace][value] for namespace, value in named.items()]
            if address is not None and ip is not None:
                numbers.append(known[ip][address])
            counts.append(len(numbers) - before)
        self._learn()
        return self._in_order(
            np.repeat(np.arange(len(counts)), counts), np.array(numbers, np.int64), len(counts)
        )

    def _in_order(self, row: Longs, number: Longs, rows: int) -> tuple[Entries, Flags]:
        is_plain = np.ones(rows, bool)
        is_plain[row[number == UNUSABLE]] = False
        counts = number >= 0
        row, number = row[counts], number[counts]
        place = (row << 32) | self._order[number]
        by = np.argsort(place)
        row, number, place = row[by], number[by], place[by]
        # Nodes of equal priority are ordered by value, and repeated ones count once. Neither is done here.
        is_plain[row[1:][place[1:] == place[:-1]]] = False
        return Entries(row, number), is_plain

    def number_of(self, tenant: str, namespace: str, value: str) -> int:
        """The number of a value that is new here."""
        self._kept += 1
        node = self._reader.node(tenant, namespace, value)
        if type(node) is not Node:
            return UNUSABLE
        self.nodes.append(node)
        return len(self.nodes) - 1

    def is_known(self, namespace: str) -> bool:
        """Whether the policy has the namespace."""
        return namespace in self._reader.strengths

    def is_ignored(self, namespace: str) -> bool:
        """Whether the policy ignores the namespace."""
        return self._reader.strengths[namespace] == "ignored"

    def _learn(self) -> None:
        """What is asked of the nodes that have come, as arrays."""
        first, self._array_count = self._array_count, len(self.nodes)
        while len(self.ids) < self._array_count:
            self.ids, self.ties = _doubled(self.ids), _doubled(self.ties)
            self._order = _doubled(self._order)
            self.strengths, self.spaces = _doubled(self.strengths), _doubled(self.spaces)
        new = self.nodes[first:]
        strengths = np.array([STRENGTHS[node.strength] for node in new], np.int8)
        self.ids[first : self._array_count] = [node.node_id for node in new]
        self.ties[first : self._array_count] = [node.tie_hash for node in new]
        self.strengths[first : self._array_count] = strengths
        self.spaces[first : self._array_count] = [self._space[node.namespace] for node in new]
        self._order[first : self._array_count] = [node.priority for node in new] + _WEAK_LAST * (
            strengths == WEAK
        )


class _Tenant(dict[str, "_Values"]):
    """The values of a tenant by namespace."""

    def __init__(self, known: KnownNodes, tenant: str) -> None:
        self._known, self._tenant = known, tenant

    def __missing__(self, namespace: str) -> _Values:
        if not self._known.is_known(namespace):
            return _Constant(UNUSABLE)  # of a name that anybody may make up nothing is kept
        if self._known.is_ignored(namespace):
            values: _Values = _Constant(IGNORED)
        else:
            values = _Values(self._known, self._tenant, namespace)
        self[namespace] = values
        return values


class _Values(dict[str, int]):
    """Numbers by value."""

    def __init__(self, known: KnownNodes, tenant: str, namespace: str) -> None:
        self._place = known, tenant, namespace

    def __missing__(self, value: str) -> int:
        known, tenant, namespace = self._place
        if len(value) > _LONGEST:
            return UNUSABLE
        number = self[value] = known.number_of(tenant, namespace, value)
        return number


class _Constant(_Values):
    """The same for every value."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __missing__(self, value: str) -> int:
        return self._number


def _doubled(values: Any) -> Any:
    return np.concatenate([values, np.empty_like(values)])
