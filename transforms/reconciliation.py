"""Two sets of derived tables side by side: the same content, up to the ids that a lake mints?

A person is known by its smallest node, whatever id it bears, so that lakes with the same hashing key compare. Left out
are provenance (batches, origins, instants of arrival) and what follows the sequence of batches: redirects and the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    BRONZE_CORRECTIONS,
    BRONZE_EVENTS,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
)
from transforms.compared import compare
from transforms.grouped import longs

COMPARED: tuple[TableSpec, ...] = tuple(
    spec
    for spec in ALL
    if spec not in (BRONZE_EVENTS, BRONZE_CORRECTIONS, BATCHES, IDENTITY_LOG, IDENTITY_REDIRECTS)
)
PERSON = "person"


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

    @property
    def is_equal(self) -> bool:
        return not (self.left_only_count or self.right_only_count or self.changed_count)


def compare_states(
    left: Mapping[TableSpec, pa.Table], right: Mapping[TableSpec, pa.Table]
) -> list[TableDifference]:
    """One difference per compared table that both sides have. Both must have identity_map."""
    persons = [_persons(side[IDENTITY_MAP]) for side in (left, right)]
    found = []
    for spec in COMPARED:
        if spec not in left or spec not in right:
            continue
        a, b = (_content(spec, side[spec], of) for side, of in zip((left, right), persons, strict=True))
        key = [PERSON if name == "canonical_id" else name for name in spec.key]
        compared = compare(a, b, key, [name for name in a.column_names if name not in key])
        found.append(
            TableDifference(
                table=spec.full_name,
                left_count=a.num_rows,
                right_count=b.num_rows,
                left_only_count=len(compared.left_only),
                right_only_count=len(compared.right_only),
                changed_count=int(compared.is_changed.sum()),
                changed_columns={n: int(d.sum()) for n, d in compared.differs.items() if d.any()},
            )
        )
    return found


def _persons(owners: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(canonical id, smallest node of it), ids ascending. Of unclaimed nodes, which are negative, the anchor's."""
    person, node = longs(owners["canonical_id"]), longs(owners["node_id"])
    by = np.lexsort((node, person))
    ids, first = np.unique(person[by], return_index=True)
    return ids, node[by][first]


def _content(spec: TableSpec, rows: pa.Table, persons: tuple[np.ndarray, np.ndarray]) -> pa.Table:
    """Content columns and key, with the person in place of a canonical id."""
    rows = rows.select(list(spec.names)).cast(spec.arrow)
    wanted = [c for c in spec.names if c in spec.with_role("content") or c in spec.key]
    table = rows.select([c for c in wanted if c != "canonical_id"])
    if "canonical_id" not in spec.names:
        return table
    ids, nodes = persons
    return table.append_column(PERSON, pa.array(nodes[np.searchsorted(ids, longs(rows["canonical_id"]))]))
