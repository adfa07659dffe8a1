"""Compares two tables of the same columns: rows that only one has, and cells that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.arrays.grouped import Flags, Longs, whole


@dataclass(frozen=True)
class Compared:
    """Row numbers. `left` and `right` are aligned pairs of rows with the same key; `differs` says of each pair, column
    by column, whether the cells differ."""

    left: Longs
    right: Longs
    left_only: Longs
    right_only: Longs
    differs: dict[str, Flags]

    @property
    def is_changed(self) -> Flags:
        """Of each pair: does any column differ?"""
        return np.logical_or.reduce(list(self.differs.values()) or [np.zeros(len(self.left), np.bool_)])


def compare(left: pa.Table, right: pa.Table, key: Sequence[str], columns: Sequence[str]) -> Compared:
    """Rows of equal `key` paired, and their `columns` compared. Rows that share a key pair up in the order of what they
    hold."""
    codes = _key_codes(left, right, key, columns)
    of_left, of_right = codes[: left.num_rows], codes[left.num_rows :]
    _, a, b = np.intersect1d(of_left, of_right, assume_unique=True, return_indices=True)
    by = np.argsort(b, kind="stable")
    a, b = a[by].astype(np.int64), b[by].astype(np.int64)
    rows_left, rows_right = left.take(pa.array(a)), right.take(pa.array(b))
    return Compared(
        a,
        b,
        np.setdiff1d(np.arange(left.num_rows), a),
        np.setdiff1d(np.arange(right.num_rows), b),
        {name: cells_differ(whole(rows_left[name]), whole(rows_right[name])) for name in columns},
    )


def cells_differ(a: pa.Array, b: pa.Array) -> Flags:
    """Of two arrays of one type and length: where they differ. Two nulls are the same."""
    no_a, no_b = a.is_null().to_numpy(zero_copy_only=False), b.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_struct(a.type):
        differs = np.zeros(len(a), np.bool_)
        for x, y in zip(a.flatten(), b.flatten(), strict=True):
            differs |= cells_differ(x, y)
    elif pa.types.is_map(a.type) or pa.types.is_list(a.type):
        differs = _lists_differ(a, b)
    else:
        differs = pc.fill_null(pc.not_equal(a, b), False).to_numpy(zero_copy_only=False)
    return (differs & ~no_a & ~no_b) | (no_a != no_b)


def _lists_differ(a: pa.Array, b: pa.Array) -> Flags:
    sizes = [pc.fill_null(pc.list_value_length(_as_list(x)), 0).to_numpy() for x in (a, b)]
    differs = sizes[0] != sizes[1]
    same = np.flatnonzero(~differs & (sizes[0] > 0))
    values = [_as_list(x.take(pa.array(same))).flatten() for x in (a, b)]
    of_row = np.repeat(same, sizes[0][same])
    differs[of_row[cells_differ(values[0], values[1])]] = True
    return differs


def _as_list(array: pa.Array) -> pa.Array:
    """A map as the list of its entries, a list as it is."""
    if not pa.types.is_map(array.type):
        return array
    entry = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
    return array.cast(pa.list_(pa.field("entries", entry, nullable=False)))


def _key_codes(left: pa.Table, right: pa.Table, key: Sequence[str], columns: Sequence[str]) -> Longs:
    """A number per row of both tables, the same for the same key; a further row with a key gets a further number."""
    codes = np.zeros(left.num_rows + right.num_rows, np.int64)
    for name in key:
        column = pa.chunked_array([*left[name].chunks, *right[name].chunks], left.schema.field(name).type)
        encoded = whole(whole(column).dictionary_encode())
        code = pc.fill_null(encoded.indices.cast(pa.int64()), len(encoded.dictionary)).to_numpy()
        codes = np.unique(codes * (len(encoded.dictionary) + 1) + code, return_inverse=True)[1]
    times = np.concatenate(
        [
            _occurrence(side, part, columns)
            for side, part in zip((left, right), np.split(codes, [left.num_rows]), strict=True)
        ]
    )
    return codes * (times.max(initial=0) + 1) + times


def _occurrence(rows: pa.Table, codes: Longs, columns: Sequence[str]) -> Longs:
    """0 for the first row with a code, 1 for the second …: in the order of what they hold, because a table that was
    written and read again has its rows in any order."""
    times = np.zeros(len(codes), np.int64)
    _, of_code, count = np.unique(codes, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(count[of_code] > 1)
    if not len(repeated):
        return times
    comparable = [c for c in columns if not pa.types.is_binary(rows.schema.field(c).type)]
    texts = [
        repr(sorted(row.items())) for row in rows.select(comparable).take(pa.array(repeated)).to_pylist()
    ]
    order = np.array(sorted(range(len(repeated)), key=lambda i: (codes[repeated[i]], texts[i])))
    in_order = codes[repeated[order]]
    starts = np.r_[True, in_order[1:] != in_order[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    times[repeated[order]] = np.arange(len(order)) - first
    return times
