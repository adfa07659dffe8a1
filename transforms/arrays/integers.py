"""Sets of 64-bit integers (ids, hashes, instants) and look-ups in them.

NumPy's `unique` and `isin` hash, or sort stably. Its plain sort of integers uses the machine's vectors and takes up to
a twentieth of that, so here everything is brought to it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_FEW = 256  # with fewer needles than this, sorting them first costs more than it saves


def distinct(values: Longs) -> Longs:
    """Each value once, ascending."""
    values = np.sort(values)
    return values[_begins(values)]


def distinct_first(values: Longs) -> tuple[Longs, Longs]:
    """Each value once, ascending, and the first row that has it."""
    order = np.argsort(values)
    values = values[order]
    starts = np.flatnonzero(_begins(values))
    return values[starts], _first_rows(order, starts)


def distinct_first_codes(values: Longs) -> tuple[Longs, Longs, Longs]:
    """Each value once, ascending; the first row that has it; and for every row the place of its value among them.

    `np.unique` says the same by a stable sort, which takes three times as long.
    """
    order = np.argsort(values)
    values = values[order]
    is_first = _begins(values)
    return values[is_first], _first_rows(order, np.flatnonzero(is_first)), _codes(order, is_first)


def distinct_counts(values: Longs) -> tuple[Longs, Longs]:
    """Each value once, ascending, and in how many rows it is."""
    values = np.sort(values)
    starts = np.flatnonzero(_begins(values))
    return values[starts], np.diff(starts, append=len(values))


def distinct_codes(values: Longs) -> tuple[Longs, Longs]:
    """Each value once, ascending, and for every row the place of its value among them."""
    order = np.argsort(values)
    values = values[order]
    is_first = _begins(values)
    return values[is_first], _codes(order, is_first)


def distinct_pairs(groups: Longs, codes: Longs, code_count: int) -> tuple[Longs, Longs, Longs]:
    """The distinct (group, code), ascending, and in how many rows each is. Codes are 0 … `code_count` - 1."""
    width = max(1, code_count)
    pairs, count = distinct_counts(groups * width + codes)
    return pairs // width, pairs % width, count


def groups_of_pairs(groups: Longs, values: Longs) -> Longs:
    """The groups (0 … n) of the distinct (group, value), ascending: each as often as it has different values."""
    names, codes = distinct_codes(values)
    return distinct_pairs(groups, codes, len(names))[0]


def pair_order(left: Longs, right: Longs, minor: Longs) -> Longs:
    """The rows in the order of (left, right, minor), equal rows in any order. `minor`: small, and not negative.

    `np.lexsort` sorts stably and once for each of them. Here one plain sort does, by a number that holds which left it
    is, as many of right's first bits as there is room for, and minor. Where those bits do not tell two apart, it has to
    be done the long way.
    """
    names, which = distinct_codes(left)
    low, high = int(minor.max(initial=0)).bit_length(), len(names).bit_length()
    cut = low + high
    key = (which << (63 - high)) | (right >> cut << low) | minor
    order = np.argsort(key)
    place, right_there = key[order] >> low, right[order]
    is_unclear = (place[1:] == place[:-1]) & (right_there[1:] != right_there[:-1])
    if is_unclear.any() or right.min(initial=0) < 0:
        return np.lexsort((minor, right, left))
    return order


def ordered_pairs(left: Longs, right: Longs) -> Longs | None:
    """The rows in the order of (left, right), equal rows in any order. None where they are in that order."""
    is_before = left[1:] < left[:-1]
    is_before |= (left[1:] == left[:-1]) & (right[1:] < right[:-1])
    if not is_before.any():
        return None
    least, most = int(right.min()), int(right.max())
    if most - least >= 1 << 62:
        return np.lexsort((right, left))
    # All bits that there are go to what tells most of the rows apart.
    shift = 62 - (most - least).bit_length()
    return pair_order(left, (right - least) << shift, np.zeros(len(left), np.int64))


def union(*parts: Longs) -> Longs:
    """Every value that is in one of `parts`, once, ascending."""
    return distinct(np.concatenate(parts))


def without(values: Longs, others: Longs) -> Longs:
    """The values that are not in `others`, each once, ascending."""
    values = distinct(values)
    return values[~is_in(values, others)]


def is_in(values: Longs, wanted: Longs) -> Flags:
    """For every row whether its value is in `wanted`, whatever the order there."""
    if not len(values) or not len(wanted):
        return np.zeros(len(values), np.bool_)
    return found(distinct(wanted), values)[1]


def found(ascending: Longs, values: Longs) -> tuple[Longs, Flags]:
    """For every row the first place where its value is in `ascending`, or would be, and whether it is there. Places are
    inside `ascending` unless it is empty."""
    places = places_in(ascending, values)
    if not len(ascending):
        return places, np.zeros(len(values), np.bool_)
    np.minimum(places, len(ascending) - 1, out=places)
    return places, ascending[places] == values


def places_in(ascending: Longs, values: Longs) -> Longs:
    """As `np.searchsorted`, which goes through the memory in leaps unless it is asked in order."""
    if len(values) < _FEW or is_ascending(values):
        return np.searchsorted(ascending, values)
    order = np.argsort(values)
    places = np.empty(len(values), np.int64)
    places[order] = np.searchsorted(ascending, values[order])
    return places


def is_ascending(values: Longs) -> bool:
    """Whether no value is smaller than the one before it."""
    return bool((values[1:] >= values[:-1]).all())


def _first_rows(order: Longs, starts: Longs) -> Longs:
    """The first row of each group of equal values. `order` sorts the values; groups begin there at `starts`."""
    return np.minimum.reduceat(order, starts) if len(starts) else order


def _codes(order: Longs, is_first: Flags) -> Longs:
    """For every row the place of its group. `order` sorts the values; groups begin there where `is_first` is true."""
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(is_first) - 1
    return codes


def _begins(ascending: Longs) -> Flags:
    """Whether a row is the first one with its value."""
    is_first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return is_first
