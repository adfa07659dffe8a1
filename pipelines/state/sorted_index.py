"""SortedIndex: finds the rows of a column by value, in about four bytes per row; in none where values ascend.

A sorted copy of the column would make it three times as large. Here the order alone is kept, with the value of every
few rows beside it; what is between two of these is found in the column itself, by halves and for all values at once.
A short column has its sorted copy: it costs little, and most columns are short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from transforms.arrays.integers import is_ascending

_STEP = 32  # rows from one mark to the next, found by so many halves:
_HALVES = 5
_SHORT = 1 << 15


class SortedIndex:
    """The rows of a column of int64 by their value. A row whose value is 0 is in no index, and 0 is never asked for.

    The column is not copied unless it is short, and must not change. With `at`, which gives its values by row, it is
    not kept either, unless it is in order.
    """

    def __init__(self, column: np.ndarray, at: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._at = column.__getitem__ if at is None else at
        self._order: np.ndarray | None = None  # of the rows; none where they are in order
        self._sorted: np.ndarray | None = column
        self._marks = np.empty(0, np.int64)
        self._count = len(column)
        self._is_copied = False
        if column.all() and is_ascending(column):
            return
        there = np.flatnonzero(column)
        self._order = there[np.argsort(column[there])].astype(np.int32)
        self._count = len(there)
        self._is_copied = self._count <= _SHORT
        self._sorted = column[self._order] if self._is_copied else None
        if self._sorted is None:
            self._marks = column[self._order[::_STEP]]

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without the column itself."""
        own = (self._order, self._marks, self._sorted if self._is_copied else None)
        return sum(part.nbytes for part in own if part is not None)

    def find(self, values: np.ndarray) -> np.ndarray:
        """The rows that have one of `values` (ascending, each given once), in the order of the values."""
        if not self._count:
            return np.empty(0, np.int32)
        _, first, end = self.ranges(values)
        return self.rows(ranges(first, end - first))

    def ranges(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(values, first, end): those of `values` (ascending, each given once) that are there, and their places."""
        if not self._count:
            return values[:0], np.empty(0, np.int64), np.empty(0, np.int64)
        first = self._places(values, "left")
        is_there = self._is_at(first, values)
        first, values = first[is_there], values[is_there]
        end = first + 1
        is_longer = self._is_at(end, values)
        end[is_longer] = self._places(values[is_longer], "right")
        return values, first, end

    def rows(self, places: np.ndarray) -> np.ndarray:
        """The rows at these places."""
        return places if self._order is None else self._order[places]

    def _is_at(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        is_there = places < self._count
        at = places[is_there]
        found = self._at(self.rows(at)) if self._sorted is None else self._sorted[at]
        is_there[is_there] = found == values[is_there]
        return is_there

    def _places(self, values: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        """The place of the first row of each value, or of the first one after it."""
        if self._sorted is not None:
            return np.searchsorted(self._sorted, values, side)
        comes_before = np.less if side == "left" else np.less_equal
        to = np.searchsorted(self._marks, values, side) * _STEP
        low = np.maximum(to - _STEP + 1, 0)  # the mark before it has been compared
        high = np.minimum(to, self._count)
        for _ in range(_HALVES):
            middle = (low + high) >> 1
            # Where nothing is left between the two, whatever row is looked at must not move them.
            row = self.rows(np.minimum(middle, self._count - 1))
            is_after = comes_before(self._at(row), values) & (low < high)
            low = np.where(is_after, middle + 1, low)
            high = np.where(is_after, high, middle)
        return low


def ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The concatenation of `first[i] … first[i] + count[i] - 1`."""
    total = int(count.sum())
    if total == len(count):  # one each, as for keys
        return first
    ends = np.cumsum(count)
    return np.arange(total) - np.repeat(ends - count, count) + np.repeat(first, count)
