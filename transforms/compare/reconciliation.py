"""Compares two sets of derived tables: is their content equal, apart from minted ids?

A person is known by its smallest node, whatever its id is, so that lakes with the same hashing key compare. Left out
are provenance (batches, origins, instants of arrival) and what follows the sequence of batches: redirects and the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    BRONZE_CORRECTIONS,
    BRONZE_EVENTS,
    EVENTS,
    FILES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
)
from transforms.arrays.grouped import Longs, longs
from transforms.compare.compared import Compared, compare

COMPARED: tuple[TableSpec, ...] = tuple(
    spec
    for spec in ALL
    if spec not in (BRONZE_EVENTS, BRONZE_CORRECTIONS, FILES, BATCHES, IDENTITY_LOG, IDENTITY_REDIRECTS)
)
PERSON = "person"
LEFT_ONLY, RIGHT_ONLY, CHANGED = "left_only", "right_only", "changed"
EXAMPLES = 5  # of each kind and table
# Keys are shown, so they must not be what somebody has written: an event is known by the hash of its id.
_SHOWN = {EVENTS: ("tenant", "event_key")}


class Persons(NamedTuple):
    """Canonical ids, ascending, and the smallest node of each. Of unclaimed nodes, which are negative, the anchor's."""

    ids: Longs
    nodes: Longs


@dataclass(frozen=True)
class Example:
    """One row that is on one side only (`left_only`, `right_only`), or whose `columns` differ (`changed`)."""

    difference: str
    key: dict[str, Any]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDifference:
    """One table: its rows left and right, those that only one has, and those whose cells differ, by column."""

    table: str
    left_count: int
    right_count: int
    left_only_count: int
    right_only_count: int
    changed_count: int
    changed_columns: dict[str, int]
    examples: tuple[Example, ...] = field(default=(), compare=False)

    @property
    def is_equal(self) -> bool:
        """Whether both sides have the same content."""
        return not (self.left_only_count or self.right_only_count or self.changed_count)

    @property
    def equal_count(self) -> int:
        """Rows that both sides have with equal cells."""
        return self.left_count - self.left_only_count - self.changed_count

    def plus(self, other: TableDifference) -> TableDifference:
        """This part of a table and another one of it."""
        columns = {
            name: self.changed_columns.get(name, 0) + other.changed_columns.get(name, 0)
            for name in (*self.changed_columns, *other.changed_columns)
        }
        return TableDifference(
            self.table,
            self.left_count + other.left_count,
            self.right_count + other.right_count,
            self.left_only_count + other.left_only_count,
            self.right_only_count + other.right_only_count,
            self.changed_count + other.changed_count,
            columns,
            _few((*self.examples, *other.examples)),
        )


def compare_states(
    left: Mapping[TableSpec, pa.Table], right: Mapping[TableSpec, pa.Table]
) -> list[TableDifference]:
    """One difference per compared table that both sides have. Both must have identity_map."""
    persons = persons_of(left[IDENTITY_MAP]), persons_of(right[IDENTITY_MAP])
    return [
        compare_table(spec, left[spec], right[spec], *persons)
        for spec in COMPARED
        if spec in left and spec in right
    ]


def compare_table(
    spec: TableSpec, left: pa.Table, right: pa.Table, left_persons: Persons, right_persons: Persons
) -> TableDifference:
    """How two tables of one declaration, or the same part of both, differ in content."""
    a, b = _content(spec, left, left_persons), _content(spec, right, right_persons)
    key = [PERSON if name == "canonical_id" else name for name in spec.key]
    compared = compare(a, b, key, [name for name in a.column_names if name not in key])
    return TableDifference(
        table=spec.full_name,
        left_count=a.num_rows,
        right_count=b.num_rows,
        left_only_count=len(compared.left_only),
        right_only_count=len(compared.right_only),
        changed_count=int(compared.is_changed.sum()),
        changed_columns={n: int(d.sum()) for n, d in compared.differs.items() if d.any()},
        examples=_examples(a, b, compared, list(_SHOWN.get(spec, key))),
    )


def persons_of(owners: pa.Table) -> Persons:
    """The persons of an identity map."""
    person, node = longs(owners["canonical_id"]), longs(owners["node_id"])
    by = np.lexsort((node, person))
    ids, first = np.unique(person[by], return_index=True)
    return Persons(ids, node[by][first])


def _examples(left: pa.Table, right: pa.Table, compared: Compared, key: list[str]) -> tuple[Example, ...]:
    def keys(rows: pa.Table, places: Longs) -> list[dict[str, Any]]:
        return rows.select(key).take(pa.array(places[:EXAMPLES], pa.int64())).to_pylist()

    changed = np.flatnonzero(compared.is_changed)[:EXAMPLES]
    columns = [tuple(n for n, d in compared.differs.items() if d[pair]) for pair in changed.tolist()]
    return (
        *(Example(LEFT_ONLY, k) for k in keys(left, compared.left_only)),
        *(Example(RIGHT_ONLY, k) for k in keys(right, compared.right_only)),
        *(Example(CHANGED, k, c) for k, c in zip(keys(left, compared.left[changed]), columns, strict=True)),
    )


def _few(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    kinds = (LEFT_ONLY, RIGHT_ONLY, CHANGED)
    return tuple(e for kind in kinds for e in [e for e in examples if e.difference == kind][:EXAMPLES])


def _content(spec: TableSpec, rows: pa.Table, persons: Persons) -> pa.Table:
    """Content columns and key, with the person in place of a canonical id."""
    rows = rows.select(list(spec.names)).cast(spec.arrow)
    wanted = [c for c in spec.names if c in spec.with_role("content") or c in spec.key]
    table = rows.select([c for c in wanted if c != "canonical_id"])
    if "canonical_id" not in spec.names:
        return table
    at = np.searchsorted(persons.ids, longs(rows["canonical_id"]))
    return table.append_column(PERSON, pa.array(persons.nodes[at]))
