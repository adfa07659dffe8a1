"""The index against looking at every row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.state import sorted_index
from pipelines.state.sorted_index import _STEP, SortedIndex

FEW = st.integers(-3, 12)
MANY = st.one_of(FEW, st.integers(-(2**63), 2**63 - 1))
UNTOUCHED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["short", "long"], autouse=True)
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept beside a column depends on its length; a few rows are made to count as many."""
    if request.param == "long":
        monkeypatch.setattr(sorted_index, "_SHORT", 0)


# Seen to fail when a value that stands before and after a mark is looked for behind it only, and when the last rows
# after the last mark are left out.
@UNTOUCHED
@given(st.lists(MANY, max_size=5 * _STEP), st.sets(MANY.filter(bool)))
def test_it_finds_the_rows_that_have_a_value_and_no_others(column: list[int], values: set[int]) -> None:
    asked = np.array(sorted(values), np.int64)
    found = SortedIndex(np.array(column, np.int64)).find(asked)
    there = [at for value in asked for at, there in enumerate(column) if there == value]
    assert sorted(found.tolist()) == sorted(there)
    assert [column[at] for at in found] == [column[at] for at in there], "in the order of the values"


@UNTOUCHED
@given(st.integers(1, 4 * _STEP), st.integers(0, 4 * _STEP), st.integers(0, 4 * _STEP), st.booleans())
def test_runs_of_any_length_are_found_whole(before: int, run: int, after: int, descending: bool) -> None:
    column = np.repeat(np.array([3, 2, 1] if descending else [1, 2, 3], np.int64), [before, run, after])
    found = SortedIndex(column).find(np.array([2], np.int64))
    assert sorted(found.tolist()) == list(range(before, before + run))


@UNTOUCHED
@given(st.lists(MANY.filter(bool), max_size=5 * _STEP), st.sets(MANY.filter(bool)))
def test_a_column_that_ascends_is_its_own_index(column: list[int], values: set[int]) -> None:
    column, asked = sorted(column), np.array(sorted(values), np.int64)
    index = SortedIndex(np.array(column, np.int64))
    assert index.nbytes == 0
    assert index.find(asked).tolist() == [
        at for value in asked for at, there in enumerate(column) if there == value
    ]


def test_a_row_takes_four_bytes_and_a_little_and_none_where_there_is_no_value() -> None:
    rows = sorted_index._SHORT + 1
    assert SortedIndex(np.arange(rows, 0, -1)).nbytes < 4.5 * rows
    assert SortedIndex(np.zeros(rows, np.int64)).nbytes == 0
    assert not len(SortedIndex(np.zeros(rows, np.int64)).find(np.array([1, 2])))
