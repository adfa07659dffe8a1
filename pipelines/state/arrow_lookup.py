"""ArrowLookup: looks up rows of a published snapshot without Spark. Every question reads the asked columns of the whole
table, a portion at a time, and keeps the matching rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import DELETED, TableSpec
from pipelines.lake.live_rows import UPDATED, newest_rows, upserts, without_keys_of
from pipelines.lake.snapshot import ROWS_PER_READ, Snapshot
from pipelines.state.identity_state import pair_key
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.table_state import PAIR
from transforms.arrays.integers import distinct, is_in

_PAIR_OF = ("left_node_id", "right_node_id")


class ArrowLookup:
    """The `LookUp` of a lake that no driver should hold, where there is no Spark."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @property
    def batch_id(self) -> int:
        """The published batch that look-ups answer as of."""
        return self._snapshot.batch_id

    def rows(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: tuple[str, datetime, datetime] | None = None,
    ) -> pa.Table:
        """As `LookUp.rows`."""
        schema = pa.schema([spec.arrow.field(c) for c in columns])
        asked = {column: distinct(values) for column, values in asked.items() if len(values)}
        if not asked:
            return schema.empty_table()
        of_asked = [name for column in asked for name in (_PAIR_OF if column == PAIR else (column,))]
        names = list(dict.fromkeys([*columns, *of_asked]))
        found = [schema.empty_table()]
        for portion in self._live(spec, names, between):
            is_found = np.zeros(portion.num_rows, bool)
            for column, values in asked.items():
                is_found |= is_in(_values(portion, column), values)
            if is_found.any():
                found.append(portion.filter(pa.array(is_found)).select(columns).cast(schema))
        return pa.concat_tables(found)

    def distinct(self, spec: TableSpec, column: str) -> list[str]:
        """The values of a column of texts, each once."""
        found: set[str | None] = set()
        for portion in self._live(spec, [column], None):
            found.update(portion[column].unique().to_pylist())
        return sorted(value for value in found if value is not None)

    def _live(
        self, spec: TableSpec, names: list[str], between: tuple[str, datetime, datetime] | None
    ) -> Iterator[pa.Table]:
        """The live rows, in portions."""
        inside = None
        if between is not None:
            column, low, high = between
            inside = (pc.field(column) >= low) & (pc.field(column) <= high)
        base = self._snapshot.dataset(spec)
        if spec.write != "upsert":
            for batch in base.to_batches(columns=names, filter=inside, batch_size=ROWS_PER_READ):
                yield pa.Table.from_batches([batch])
            return
        wanted = list(dict.fromkeys([*names, *spec.key]))
        hot = self._snapshot.dataset(spec.hot).to_table(
            columns=list(dict.fromkeys([*wanted, UPDATED, DELETED])),
            filter=pc.field(UPDATED) <= self.batch_id,
        )
        newest = newest_rows(spec, hot)
        batches = base.to_batches(columns=wanted, filter=inside, batch_size=ROWS_PER_READ)
        yield from without_keys_of(spec, batches, newest)
        fresh = upserts(newest)
        yield fresh if inside is None else fresh.filter(inside)


def _values(rows: pa.Table, column: str) -> np.ndarray:
    if column == PAIR:
        return pair_key(*(numpy_of(rows[name]) for name in _PAIR_OF))
    return numpy_of(rows[column])
