"""Packs a column: the same values in fewer bytes of memory; any rows can be read as an Arrow array.

    numbers     as packed_numbers.py says
    strings     as codes where few are different, without offsets where all have one length
    nulls       not held: a bit for each row says whether it has a value, and the values stand one after the other
    structs     each field as a column
    lists       all items as one column, and where each list begins, unless all have one length

`pack` looks at every value and loses none. What has no better form is held in Arrow's own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.state.packed_numbers import PackedColumn, PackedNumbers, as_longs, is_numeric, pack_numbers
from pipelines.state.row_bits import RowBits

_SAMPLE = 4096  # strings that are compared before all of them are
_MOST_CODES = 1 << 16
_REPEATED = 4  # times that each string occurs, on average, if codes are to be worth it


def pack(values: pa.Array) -> PackedColumn:
    """The values in the form that takes the least."""
    kind = values.type
    if values.null_count == len(values):
        return _Nothing(kind)
    if values.null_count:
        return _Nullable(values)
    if is_numeric(kind):
        return pack_numbers(as_longs(values), kind)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _pack_texts(values)
    if pa.types.is_struct(kind) and kind.num_fields:
        return _Struct(values)
    if pa.types.is_list(kind):
        return _List(values)
    return _AsIs(values)


def _pack_texts(values: pa.Array) -> PackedColumn:
    count = len(values)
    sample = values.take(pa.array(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)))
    if _REPEATED * pc.count_distinct(sample).as_py() <= len(sample):
        coded = values.dictionary_encode()
        if len(coded.dictionary) <= min(_MOST_CODES, count // _REPEATED):
            return _Coded(coded)
    lengths = pc.min_max(pc.binary_length(values))
    if lengths["min"] == lengths["max"] and lengths["min"].as_py():
        return _OfOneLength(values, lengths["min"].as_py())
    return _AsIs(values)


class _AsIs(PackedColumn):
    """Arrow's own form."""

    def __init__(self, values: pa.Array) -> None:
        super().__init__(values.type)
        self._values = values

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def take(self, rows: np.ndarray) -> pa.Array:
        return self._values.take(pa.array(rows))


class _Nothing(PackedColumn):
    """Nulls alone."""

    nbytes = 0

    def take(self, rows: np.ndarray) -> pa.Array:
        return pa.nulls(len(rows), self.kind)


class _Nullable(PackedColumn):
    """The values that there are, and whose they are."""

    def __init__(self, values: pa.Array) -> None:
        super().__init__(values.type)
        self._there = RowBits(values.is_valid().to_numpy(zero_copy_only=False))
        self._values = pack(values.drop_null())

    @property
    def nbytes(self) -> int:
        return self._there.nbytes + self._values.nbytes

    def take(self, rows: np.ndarray) -> pa.Array:
        is_there, places = self._there.at(rows)
        if not len(places):
            return pa.nulls(len(rows), self.kind)
        values = self._values.take(places)
        if len(places) == len(rows):
            return values
        spread = np.zeros(len(rows), np.int64)
        spread[is_there] = np.arange(len(places))
        return values.take(pa.array(spread, mask=~is_there))


class _Coded(PackedColumn):
    """Strings of which few are different."""

    def __init__(self, values: pa.DictionaryArray) -> None:
        self._different: pa.Array = values.dictionary
        super().__init__(self._different.type)
        self._codes: PackedNumbers = pack_numbers(as_longs(values.indices), pa.int64())

    @property
    def nbytes(self) -> int:
        return self._different.nbytes + self._codes.nbytes

    def take(self, rows: np.ndarray) -> pa.Array:
        return self._different.take(pa.array(self._codes.numbers(rows)))


class _OfOneLength(PackedColumn):
    """Strings of so many bytes each."""

    def __init__(self, values: pa.Array, length: int) -> None:
        super().__init__(values.type)
        _, offsets, data = values.buffers()
        first = int(np.frombuffer(offsets, np.int32)[values.offset])
        flat = np.frombuffer(data, np.uint8)[first : first + len(values) * length]
        self._data = flat.reshape(-1, length).copy()

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    def take(self, rows: np.ndarray) -> pa.Array:
        count, length = len(rows), self._data.shape[1]
        offsets = np.arange(0, (count + 1) * length, length, dtype=np.int32)
        data = self._data.take(rows, axis=0)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(self.kind, count, buffers)


class _Struct(PackedColumn):
    """Structs field by field."""

    def __init__(self, values: pa.StructArray) -> None:
        super().__init__(values.type)
        self._fields = [pack(child) for child in values.flatten()]

    @property
    def nbytes(self) -> int:
        return sum(f.nbytes for f in self._fields)

    def take(self, rows: np.ndarray) -> pa.Array:
        return pa.StructArray.from_arrays([f.take(rows) for f in self._fields], fields=list(self.kind))


class _List(PackedColumn):
    """Lists as their items, and where each list begins or how long all of them are."""

    def __init__(self, values: pa.ListArray) -> None:
        super().__init__(values.type)
        lengths = pc.list_value_length(values).to_numpy()
        self._begins: np.ndarray | None = None
        self._length = int(lengths[0])
        if (lengths != self._length).any():
            self._begins = np.zeros(len(lengths) + 1, np.int32)
            np.cumsum(lengths, out=self._begins[1:])
        self._items = pack(values.flatten())

    @property
    def nbytes(self) -> int:
        return self._items.nbytes + (0 if self._begins is None else self._begins.nbytes)

    def take(self, rows: np.ndarray) -> pa.Array:
        rows = rows.astype(np.int64, copy=False)
        if self._begins is None:
            first, lengths = rows * self._length, np.full(len(rows), self._length)
        else:
            first = self._begins[rows].astype(np.int64)
            lengths = self._begins[rows + 1] - first
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        items = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], lengths)
        return pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)), self._items.take(items), type=self.kind
        )
