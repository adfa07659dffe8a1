"""Sets of integers: the same answers as NumPy's own, whatever the values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transforms.arrays import integers

LEAST, MOST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)
VALUES = st.one_of(
    st.integers(-3, 3), st.sampled_from([LEAST, LEAST + 1, MOST, 2**62]), st.integers(LEAST, MOST)
)


def longs(size: int | st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.int64, size, elements=VALUES)


@given(longs(st.integers(0, 40)), longs(st.integers(0, 40)))
def test_sets_are_those_of_numpy(left: np.ndarray, right: np.ndarray) -> None:
    assert integers.distinct(left).tolist() == np.unique(left).tolist()
    assert integers.union(left, right).tolist() == np.union1d(left, right).tolist()
    assert integers.without(left, right).tolist() == np.setdiff1d(left, right).tolist()
    assert integers.is_in(left, right).tolist() == np.isin(left, right).tolist()
    values, first = integers.distinct_first(left)
    assert [values.tolist(), first.tolist()] == [a.tolist() for a in np.unique(left, return_index=True)]
    values, codes = integers.distinct_codes(left)
    assert [values.tolist(), codes.tolist()] == [a.tolist() for a in np.unique(left, return_inverse=True)]
    pairs = np.unique(np.stack([left % 5, left], axis=1), axis=0)
    assert integers.groups_of_pairs(left % 5, left).tolist() == pairs[:, 0].tolist()
    values, counts = integers.distinct_counts(left)
    assert [values.tolist(), counts.tolist()] == [a.tolist() for a in np.unique(left, return_counts=True)]


@given(longs(st.integers(1, 20)), st.sampled_from([0, 1, 5, 700]), st.integers(0, 2**32 - 1))
def test_places_are_those_of_searchsorted(some: np.ndarray, count: int, seed: int) -> None:
    ascending = np.sort(some)
    values = np.random.default_rng(seed).choice(np.append(some, [0, 7]), count)
    assert integers.places_in(ascending, values).tolist() == np.searchsorted(ascending, values).tolist()
    places, is_there = integers.found(ascending, values)
    assert is_there.tolist() == np.isin(values, some).tolist()
    assert (ascending[places[is_there]] == values[is_there]).all()


@given(st.integers(0, 60).flatmap(lambda size: st.tuples(longs(size), longs(size))), st.integers(1, 9))
def test_pairs_are_in_the_order_of_lexsort(pairs: tuple[np.ndarray, np.ndarray], minors: int) -> None:
    """Seen to fail where rights are told apart by their first bits alone."""
    for left, right in (pairs, [p & MOST for p in pairs], [p & 1 for p in pairs]):
        minor = np.arange(len(left)) % minors
        expected = np.lexsort((minor, right, left))
        order = integers.pair_order(left, right, minor)
        assert sorted(order.tolist()) == list(range(len(left)))
        for column in (left, right, minor):
            assert column[order].tolist() == column[expected].tolist()
