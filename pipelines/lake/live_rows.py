"""The live rows of an upserted table: the newest hot row of a key replaces the row of the base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import DELETED, TableSpec
from transforms.arrays.grouped import changes
from transforms.arrays.integers import distinct_counts, found

UPDATED = "updated_batch_id"
_LEFT, _RIGHT = "__left_row", "__right_row"


def newest_rows(spec: TableSpec, hot: pa.Table, upto_batch_id: int | None = None) -> pa.Table:
    """One row per key of the hot part: the newest one, tombstones included."""
    if upto_batch_id is not None:
        hot = hot.filter(pc.less_equal(hot[UPDATED], upto_batch_id))
    rows = newest_places(spec, hot)
    if len(rows) == hot.num_rows:
        return hot
    is_newest = np.zeros(hot.num_rows, bool)
    is_newest[rows] = True
    return hot.filter(
        pa.array(is_newest)
    )  # unlike `take`, not by way of one array, which holds 2 GiB of texts


def newest_places(spec: TableSpec, hot: pa.Table) -> np.ndarray:
    """The row numbers, ascending, of `newest_rows`."""
    if not hot.num_rows:
        return np.zeros(0, np.int64)
    return (
        _newest_by_number(hot, spec.key[0])
        if _is_number(hot, spec.key)
        else _newest_by_sorting(hot, spec.key)
    )


def _newest_by_number(hot: pa.Table, key: str) -> np.ndarray:
    """Row numbers, ascending, of the newest row of each key."""
    keys, count = hot[key].to_numpy(), hot.num_rows
    order = np.argsort(keys)
    starts = np.flatnonzero(changes(keys[order]))
    newness = hot[UPDATED].to_numpy() * count + np.arange(count)
    return np.sort(np.maximum.reduceat(newness[order], starts) % count)


def _newest_by_sorting(hot: pa.Table, key: tuple[str, ...]) -> np.ndarray:
    """Row numbers, ascending, of the newest row of each key."""
    order = pc.sort_indices(
        hot.select([*key, UPDATED]),
        sort_keys=[*((k, "ascending") for k in key), (UPDATED, "descending")],
    )
    is_first = np.zeros(hot.num_rows, bool)
    is_first[0] = True
    for k in key:
        column = hot[k].take(order).combine_chunks()
        is_first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return np.sort(order.to_numpy()[is_first])


def _is_number(rows: pa.Table, key: tuple[str, ...]) -> bool:
    """Whether the key is one number, as it is for the tables that change most."""
    return len(key) == 1 and rows[key[0]].type == pa.int64() and not rows[key[0]].null_count


def same_keys(left: pa.Table, right: pa.Table, key: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (left, right) of the pairs of rows with equal keys."""
    if _is_number(left, key) and _is_number(right, key):
        return _same_numbers(left[key[0]].to_numpy(), right[key[0]].to_numpy())
    candidates = np.flatnonzero(pc.is_in(left[key[0]], value_set=_one_array(right[key[0]])).to_numpy())
    if not len(candidates):
        return candidates, candidates
    some = left.select(list(key)).take(pa.array(candidates)).append_column(_LEFT, pa.array(candidates))
    others = right.select(list(key)).append_column(_RIGHT, pa.array(np.arange(right.num_rows)))
    pairs = some.join(others, list(key), join_type="inner")
    return pairs[_LEFT].to_numpy(), pairs[_RIGHT].to_numpy()


def _same_numbers(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the pairs of equal numbers."""
    order = np.argsort(right)
    numbers, counts = distinct_counts(right)
    place, is_there = found(numbers, left)
    mine = np.flatnonzero(is_there)
    place = place[mine]
    first, count = (np.cumsum(counts) - counts)[place], counts[place]
    if counts.max(initial=1) == 1:
        return mine, order[first]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(mine, count), order[np.repeat(first, count) + within]


def without_keys_of(spec: TableSpec, base: Iterable[pa.RecordBatch], newest: pa.Table) -> Iterator[pa.Table]:
    """The base's rows, batch by batch, that `newest` does not replace or delete."""
    for batch in base:
        rows = pa.Table.from_batches([batch])
        if newest.num_rows and rows.num_rows:
            replaced, _ = same_keys(rows, newest, spec.key)
            if len(replaced):
                stays = np.ones(rows.num_rows, bool)
                stays[replaced] = False
                rows = rows.filter(pa.array(stays))
        yield rows


def upserts(newest: pa.Table) -> pa.Table:
    """The rows of `newest` that are not tombstones."""
    return newest.filter(pc.invert(pc.fill_null(newest[DELETED], False)))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
