"""Finds the rows of an anchor near an instant, by binary search in a segment that is sorted by time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.state.sorted_index import ranges
from transforms.arrays.integers import Longs


def rows_near(
    low: Longs, high: Longs, first: Longs, end: Longs, at: Callable[[np.ndarray], Longs], alive: np.ndarray
) -> Longs:
    """Live rows inside the windows, and of those before and after each the nearest live ones, all of one instant.

    `first`, `end`: the rows among which each window's are, in the order of their instants, which `at` gives by row.
    """
    begin, stop = _place(low, first, end, at, is_after=False), _place(high, first, end, at, is_after=True)
    before, after = _live_before(begin, first, alive), _live_after(stop, end, alive)
    has_before, has_after = before >= first, after < end
    begin[has_before] = _place(
        at(before[has_before]), first[has_before], begin[has_before], at, is_after=False
    )
    stop[has_after] = _place(at(after[has_after]), stop[has_after], end[has_after], at, is_after=True)
    rows = ranges(begin, stop - begin)
    return rows[alive[rows]]


def _place(
    instants: Longs, first: Longs, end: Longs, at: Callable[[np.ndarray], Longs], *, is_after: bool
) -> Longs:
    """The first row of `first` … `end` that is not before its instant; with `is_after`, that is after it."""
    low, high = first.copy(), end.copy()
    while len(open_ := np.flatnonzero(low < high)):
        middle = (low[open_] + high[open_]) >> 1
        found, wanted = at(middle), instants[open_]
        comes_before = found <= wanted if is_after else found < wanted
        low[open_[comes_before]] = middle[comes_before] + 1
        high[open_[~comes_before]] = middle[~comes_before]
    return low


def _live_before(places: Longs, first: Longs, alive: np.ndarray) -> Longs:
    """The last live row before each place; one before `first` where there is none."""
    found = places - 1
    for i in np.flatnonzero((found >= first) & ~alive[np.maximum(found, 0)]):
        width, stop = 16, int(found[i])
        while stop > first[i]:
            begin = max(int(first[i]), stop - width)
            live = np.flatnonzero(alive[begin:stop])
            if len(live):
                found[i] = begin + live[-1]
                break
            stop, width = begin, 2 * width
        else:
            found[i] = first[i] - 1
    return found


def _live_after(places: Longs, end: Longs, alive: np.ndarray) -> Longs:
    """The first live row at or after each place; `end` where there is none."""
    found = places.copy()
    for i in np.flatnonzero((found < end) & ~alive[np.minimum(found, len(alive) - 1)]):
        width, begin = 16, int(found[i]) + 1
        while begin < end[i]:
            stop = min(int(end[i]), begin + width)
            live = np.flatnonzero(alive[begin:stop])
            if len(live):
                found[i] = begin + live[0]
                break
            begin, width = stop, 2 * width
        else:
            found[i] = end[i]
    return found
