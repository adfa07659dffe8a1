"""Rows in groups, as arrays: Arrow columns to numpy and back, places in an order, groups of neighbouring rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.arrays.integers import Flags as Flags
from transforms.arrays.integers import Longs as Longs
from transforms.arrays.integers import distinct_pairs

# What stands for "no value" among instants and other numbers that are minimised, or maximised.
LATEST: int = np.iinfo(np.int64).max
EARLIEST: int = np.iinfo(np.int64).min


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def longs(column: pa.ChunkedArray | pa.Array, missing: int = 0) -> Longs:
    """The column as numbers, instants as microseconds, `missing` in place of nulls."""
    array = whole(column)
    if pa.types.is_timestamp(array.type):
        array = (array if array.type.unit == "us" else array.cast(pa.timestamp("us"))).view(pa.int64())
    # Most columns need neither step, and in a small batch such calls are what the time goes to.
    if array.type != pa.int64():
        array = array.cast(pa.int64())
    if array.null_count:
        array = pc.fill_null(array, missing)
    return array.to_numpy()


def flags(column: pa.ChunkedArray | pa.Array) -> Flags:
    """The column as booleans; null is false."""
    array = whole(column)
    if array.null_count:
        array = pc.fill_null(array, False)
    return array.to_numpy(zero_copy_only=False)


def nullable(values: Longs, type_: pa.DataType, missing: int) -> pa.Array:
    """Numbers as an Arrow array, null where they are `missing`."""
    return pa.array(values, type=type_, mask=values == missing)


def places(at: Longs, ids: pa.Array) -> Longs:
    """The place of each (instant, id) in their order: equal pairs have equal places, ids are ordered by their bytes."""
    order = np.argsort(at)
    is_next = changes(at[order])
    _order_by_id(order, is_next, ids)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(is_next) - 1
    return place


def _order_by_id(order: Longs, is_next: Flags, ids: pa.Array) -> None:
    """Puts the rows of one instant in the order of their ids. `is_next` is true where the instant is another than in
    the row before it, and becomes true where the id is.

    Nearly always the rows of one instant are one event that is named more than once, and what takes long is to put
    strings in order: that is done for the instants at which two events meet.
    """
    tied = np.flatnonzero(~is_next)
    is_other = pc.not_equal(ids.take(pa.array(order[tied])), ids.take(pa.array(order[tied - 1])))
    others = tied[pc.fill_null(is_other, True).to_numpy(zero_copy_only=False)]
    if not len(others):
        return
    instant = np.cumsum(is_next) - 1
    is_met = np.zeros(instant[-1] + 1, np.bool_)
    is_met[instant[others]] = True
    rows = np.flatnonzero(is_met[instant])
    here, instant = order[rows], instant[rows]
    rank = pc.rank(ids.take(pa.array(here)), tiebreaker="dense").to_numpy().astype(np.int64)
    by = np.lexsort((rank, instant))
    order[rows] = here[by]
    is_next[rows] = changes(instant, rank[by])


def changes(*sorted_columns: npt.NDArray[Any]) -> Flags:
    """True at every row that differs from the one before it in any column; so at the first row of each group."""
    first = np.ones(len(sorted_columns[0]), np.bool_)
    first[1:] = False
    for column in sorted_columns:
        first[1:] |= column[1:] != column[:-1]
    return first


def previous(is_marked: Flags) -> Longs:
    """For each row the last marked row at or before it, -1 where there is none."""
    return np.maximum.accumulate(np.where(is_marked, np.arange(len(is_marked)), -1))


def codes(strings: pa.Array) -> tuple[Longs, pa.Array]:
    """Each string's index among the distinct ones in ascending order, -1 for null; and those distinct strings."""
    encoded = strings.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order) + 1, np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    rank[-1] = -1
    return rank[longs(encoded.indices, -1)], encoded.dictionary.take(order)


def distinct_lists(group: Longs, code: Longs, groups: int, strings: pa.Array, type_: pa.DataType) -> pa.Array:
    """One list per group 0 … groups-1: the distinct strings its codes stand for, ascending."""
    group, code, _ = distinct_pairs(group, code, len(strings))
    return pa.ListArray.from_arrays(offsets(group, groups), strings.take(pa.array(code)), type=type_)


def offsets(group: Longs, groups: int) -> pa.Array:
    """Where each of the groups begins among rows sorted by group, and where the last one ends."""
    return pa.array(np.searchsorted(group, np.arange(groups + 1)), pa.int32())


def filled(columns: Mapping[str, Any], schema: pa.Schema, count: int) -> list[Any]:
    """The columns of a schema by name, in its order: those in `columns`, and `count` nulls for any other."""
    return [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in schema]


def in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in a schema of the same columns. Casts what has another type, and that alone: `Table.cast` looks at
    every value of every column."""
    return pa.Table.from_arrays(table.columns, schema=schema)


def conformed(table: pa.Table, schema: pa.Schema, columns: tuple[str, ...]) -> pa.Table:
    """These columns in the declared types, whichever engine's spelling (large strings, other zones) they came in."""
    table = table.select(columns)
    wanted = [schema.field(c).type for c in columns]
    if [f.type for f in table.schema] == wanted:
        return table
    return table.cast(pa.schema([pa.field(c, t) for c, t in zip(columns, wanted, strict=True)]))
