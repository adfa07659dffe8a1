"""What an upserted table says now: its base, with the newest hot row of a key in place of the base's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import DELETED, TableSpec

UPDATED = "updated_batch_id"
_LEFT, _RIGHT = "__left_row", "__right_row"


def newest_rows(spec: TableSpec, hot: pa.Table, upto_batch_id: int | None = None) -> pa.Table:
    """One row per key of the hot part: the newest one, tombstones included."""
    if upto_batch_id is not None:
        hot = hot.filter(pc.less_equal(hot[UPDATED], upto_batch_id))
    if hot.num_rows == 0:
        return hot
    order = pc.sort_indices(
        hot.select([*spec.key, UPDATED]),
        sort_keys=[*((k, "ascending") for k in spec.key), (UPDATED, "descending")],
    )
    is_first = np.zeros(hot.num_rows, bool)
    is_first[0] = True
    for k in spec.key:
        column = hot[k].take(order).combine_chunks()
        is_first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return hot.take(pa.array(np.sort(order.to_numpy()[is_first])))


def same_keys(left: pa.Table, right: pa.Table, key: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (left, right) of the pairs of rows with equal keys."""
    candidates = np.flatnonzero(pc.is_in(left[key[0]], value_set=_one_array(right[key[0]])).to_numpy())
    if not len(candidates):
        return candidates, candidates
    some = left.select(list(key)).take(pa.array(candidates)).append_column(_LEFT, pa.array(candidates))
    others = right.select(list(key)).append_column(_RIGHT, pa.array(np.arange(right.num_rows)))
    pairs = some.join(others, list(key), join_type="inner")
    return pairs[_LEFT].to_numpy(), pairs[_RIGHT].to_numpy()


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
