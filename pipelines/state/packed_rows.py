"""PackedRows: an immutable table of packed columns; any rows can be read.

What is known of a table saves more: of a column that mostly repeats another one the exceptions are held, and of one
that follows from others nothing. Whether it is so is looked at each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.state.packed_column import pack
from pipelines.state.packed_numbers import (
    Following,
    Mostly,
    PackedColumn,
    PackedNumbers,
    WholeNumbers,
    as_longs,
    is_numeric,
)
from transforms.arrays.integers import Longs


@dataclass(frozen=True)
class Known:
    """What is known of columns of numbers, by name: which other one they mostly repeat; from which others they follow,
    and how."""

    mostly: Mapping[str, str] = field(default_factory=dict)
    follows: Mapping[str, tuple[tuple[str, ...], Callable[..., Longs]]] = field(default_factory=dict)


NOTHING_KNOWN = Known()


class PackedRows:
    """Rows of `schema`."""

    def __init__(self, schema: pa.Schema, count: int, columns: Mapping[str, PackedColumn]) -> None:
        self.schema, self._count, self._columns = schema, count, columns

    def __len__(self) -> int:
        return self._count

    def nbytes_by_column(self) -> dict[str, int]:
        """Bytes of memory by column name."""
        return {name: column.nbytes for name, column in self._columns.items()}

    def take(self, rows: np.ndarray, names: Iterable[str]) -> pa.Table:
        """These columns of these rows, in their order."""
        names = list(names)
        columns = [self._columns[n].take(rows) for n in names]
        return pa.Table.from_arrays(columns, schema=pa.schema([self.schema.field(n) for n in names]))

    def numbers(self, name: str) -> Callable[[np.ndarray], Longs]:
        """What gives the numbers of a column by row, 0 for null."""
        column = self._columns[name]
        if isinstance(column, PackedNumbers):
            return column.numbers
        return lambda rows: as_longs(column.take(rows).fill_null(0))

    def all_numbers(self, name: str) -> Longs:
        """The numbers of every row: the very array in which they are held, where they are held in one."""
        column = self._columns[name]
        if isinstance(column, WholeNumbers):
            return column.values
        return self.numbers(name)(np.arange(len(self)))


def packed_rows(
    schema: pa.Schema, count: int, column: Callable[[str], pa.Array], known: Known, in_order_of: str
) -> PackedRows:
    """Pack what `column` gives for each name, one after the other, so that memory need not hold two of them.

    The column that the rows are in the order of is held as it is: it is its own index.
    """
    columns: dict[str, PackedColumn] = {}
    derived = {*known.mostly, *known.follows}
    for name in sorted(schema.names, key=derived.__contains__):
        values = column(name)
        is_plain = is_numeric(values.type) and not values.null_count
        if is_plain and name == in_order_of:
            columns[name] = WholeNumbers(as_longs(values).copy(), values.type)
        else:
            held = _by_way_of_others(name, values, columns, known) if is_plain else None
            columns[name] = pack(values) if held is None else held
    return PackedRows(schema, count, columns)


def _by_way_of_others(
    name: str, values: pa.Array, columns: Mapping[str, PackedColumn], known: Known
) -> PackedColumn | None:
    """The column as what is known of it, if it is that."""
    longs, every = as_longs(values), np.arange(len(values))
    if name in known.mostly:
        usual = columns[known.mostly[name]]
        if isinstance(usual, PackedNumbers):
            is_other = longs != usual.numbers(every)
            if 2 * np.count_nonzero(is_other) <= len(longs):
                return Mostly(longs, is_other, usual.numbers, values.type)
    if name in known.follows:
        names, function = known.follows[name]
        sources = [c for c in (columns[n] for n in names) if isinstance(c, PackedNumbers)]
        if len(sources) == len(names):
            held = Following(sources, function, values.type)
            if np.array_equal(held.numbers(every), longs):
                return held
    return None
