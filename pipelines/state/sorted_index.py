"""SortedIndex: where the values of a column are, at four bytes a row and a little.

A sorted copy of the column would make it three times as large. Here the order alone is kept, with the value of every
few rows beside it; what is between two of these is found in the column itself, by halves and for all values at once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

_STEP = 32  # rows from one mark to the next, found by so many halves:
_HALVES = 5


class SortedIndex:
    """The rows of a column of int64 by their value. A row whose value is 0 is in no index, and 0 is never asked for.

    The column is not copied, and must not change.
    """

    def __init__(self, column: np.ndarray) -> None:
        by = np.argsort(column, kind="stable")
        if not column.all():
            by = by[column[by] != 0]
        self._column = column
        self._order = by.astype(np.int32)
        self._marks = column[by[::_STEP]]

    @property
    def nbytes(self) -> int:
        """Beside the column."""
        return self._order.nbytes + self._marks.nbytes

    def find(self, values: np.ndarray) -> np.ndarray:
        """The rows that have one of `values` (each given once), in the order of the values and then of the column."""
        if not len(self._order):
            return self._order
        first = self._places(values, "left")
        is_there = self._is_at(first, values)
        first, values = first[is_there], values[is_there]
        end = first + 1
        is_longer = self._is_at(end, values)
        end[is_longer] = self._places(values[is_longer], "right")
        return self._order[_ranges(first, end - first)]

    def _is_at(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        is_there = places < len(self._order)
        is_there[is_there] = self._column[self._order[places[is_there]]] == values[is_there]
        return is_there

    def _places(self, values: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        """The place of the first row of each value, or of the first one after it."""
        comes_before = np.less if side == "left" else np.less_equal
        to = np.searchsorted(self._marks, values, side) * _STEP
        low = np.maximum(to - _STEP + 1, 0)  # the mark before it has been compared
        high = np.minimum(to, len(self._order))
        for _ in range(_HALVES):
            middle = (low + high) >> 1
            # Where nothing is left between the two, whatever row is looked at must not move them.
            row = self._order[np.minimum(middle, len(self._order) - 1)]
            is_after = comes_before(self._column[row], values) & (low < high)
            low = np.where(is_after, middle + 1, low)
            high = np.where(is_after, high, middle)
        return low


def _ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The concatenation of `first[i] … first[i] + count[i] - 1`."""
    total = int(count.sum())
    ends = np.cumsum(count)
    return np.arange(total) - np.repeat(ends - count, count) + np.repeat(first, count)
