"""Packs columns of integers and instants in as few bytes per row as their values allow.

what they exceed the least by, in so many bytes as the largest needs; instants in whole seconds, or milliseconds, if
they are; where most are equal, or what another column says, only the others
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from pipelines.state.row_bits import RowBits
from transforms.arrays.integers import Flags, Longs, distinct_counts

_SAMPLE = 4096  # values in which the most frequent one is looked for
_STEPS = (1_000_000, 1_000)  # microseconds in a second, a millisecond
_WIDEST = 6  # bytes: to put seven of eight together again is not worth the work
MOST_OTHERS = 8  # one row in so many may be an exception


class PackedColumn:
    """Values of one Arrow type, given back by row."""

    def __init__(self, kind: pa.DataType) -> None:
        self.kind = kind

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory that the column takes."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> pa.Array:
        """The values of these rows, in the order of `rows`."""


class PackedNumbers(PackedColumn):
    """Integers, or instants in microseconds, none of them missing."""

    @abstractmethod
    def numbers(self, rows: np.ndarray) -> Longs:
        """What `take` gives, without Arrow."""

    def take(self, rows: np.ndarray) -> pa.Array:
        """The values of these rows, in the type of the column."""
        return _of_longs(self.numbers(rows), self.kind)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether `pack_numbers` knows values of this type."""
    return pa.types.is_signed_integer(kind) or (pa.types.is_timestamp(kind) and kind.unit == "us")


def pack_numbers(values: Longs, kind: pa.DataType) -> PackedNumbers:
    """Numbers as a column of `kind`, in the form that takes the least. They are copied."""
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    step = next((s for s in _STEPS if _are_multiples(values, s)), 1)
    least, most = least // step, most // step
    width = ((most - least).bit_length() + 7) // 8
    if width > 1:
        usual = _most_frequent(values[:: max(1, len(values) // _SAMPLE)])
        is_other = values != usual
        if MOST_OTHERS * np.count_nonzero(is_other) <= len(values):
            return Mostly(values, is_other, partial(_repeated, usual), kind)
    if width > _WIDEST:
        return WholeNumbers(values.copy(), kind)
    excess = (values if step == 1 else values // step) - least
    # A copy also where there is no byte of it: a view would keep all of them.
    parts = excess.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width].copy()
    return _Narrow(kind, parts, least, step)


def as_longs(values: pa.Array) -> Longs:
    """The numbers of a column of which none is missing."""
    if pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    return values.to_numpy().astype(np.int64, copy=False)


def _of_longs(values: Longs, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values).view(kind)
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False), kind)


def _most_frequent(values: Longs) -> int:
    different, count = distinct_counts(values)
    return int(different[count.argmax()])


def _repeated(value: int, rows: np.ndarray) -> Longs:
    return np.full(len(rows), value, np.int64)


def _are_multiples(values: Longs, step: int) -> bool:
    return not (values[:_SAMPLE] % step).any() and not (values % step).any()


class WholeNumbers(PackedNumbers):
    """Numbers of eight bytes."""

    def __init__(self, values: Longs, kind: pa.DataType) -> None:
        super().__init__(kind)
        self.values = values

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the column takes."""
        return self.values.nbytes

    def numbers(self, rows: np.ndarray) -> Longs:
        """The values of these rows as integers."""
        return self.values[rows]


class _Narrow(PackedNumbers):
    """Numbers as the low bytes of what they exceed the least by, in steps."""

    def __init__(self, kind: pa.DataType, parts: np.ndarray, least: int, step: int) -> None:
        super().__init__(kind)
        self._parts, self._least, self._step = parts, least, step

    @property
    def nbytes(self) -> int:
        return self._parts.nbytes

    def numbers(self, rows: np.ndarray) -> Longs:
        width = self._parts.shape[1]
        if not width:
            return _repeated(self._least * self._step, rows)
        parts = np.zeros((len(rows), 8), np.uint8)
        parts[:, :width] = self._parts.take(rows, axis=0)
        out = parts.view("<i8").ravel().astype(np.int64, copy=False)
        out += self._least
        if self._step > 1:
            out *= self._step
        return out


class Mostly(PackedNumbers):
    """Numbers that are mostly what `usual` says of their rows: the others are held."""

    def __init__(
        self, values: Longs, is_other: Flags, usual: Callable[[np.ndarray], Longs], kind: pa.DataType
    ) -> None:
        super().__init__(kind)
        self._usual = usual
        self._is_other, self._others = RowBits(is_other), pack_numbers(values[is_other], pa.int64())

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the column takes."""
        return self._is_other.nbytes + self._others.nbytes

    def numbers(self, rows: np.ndarray) -> Longs:
        """The values of these rows as integers."""
        out = self._usual(rows)
        is_other, places = self._is_other.at(rows)
        if len(places):
            out[is_other] = self._others.numbers(places)
        return out


class Following(PackedNumbers):
    """Numbers that follow from those of other columns: nothing is held."""

    nbytes = 0

    def __init__(
        self, sources: list[PackedNumbers], function: Callable[..., Longs], kind: pa.DataType
    ) -> None:
        super().__init__(kind)
        self._sources, self._function = sources, function

    def numbers(self, rows: np.ndarray) -> Longs:
        """The values of these rows as integers."""
        return self._function(*(source.numbers(rows) for source in self._sources))
