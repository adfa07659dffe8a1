"""Tables side by side: nested cells, nulls and repeated keys."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pytest

from transforms.compare.compared import cells_differ, compare

TEXTS = pa.list_(pa.string())
POINT = pa.struct([("x", pa.int64()), ("tags", TEXTS)])
CASES = [
    (pa.int64(), [1, None, 2, None, 3], [1, None, None, 2, 4], [False, False, True, True, True]),
    (TEXTS, [["a"], [], None, ["a", "b"], ["a"]], [["a"], None, None, ["a", "c"], ["a", "b"]],
     [False, True, False, True, True]),
    (POINT, [{"x": 1, "tags": ["a"]}, {"x": 1, "tags": ["a"]}, None, {"x": None, "tags": None}],
     [{"x": 1, "tags": ["a"]}, {"x": 1, "tags": ["b"]}, {"x": None, "tags": None}, {"x": None, "tags": None}],
     [False, True, True, False]),
    (pa.list_(POINT), [[{"x": 1, "tags": ["a"]}], [{"x": 1, "tags": []}]],
     [[{"x": 1, "tags": ["a"]}], [{"x": 1, "tags": None}]], [False, True]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], [("a", 1)], None, []], [[("a", 1)], [("a", 2)], None, None],
     [False, True, False, True]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "left", "right", "differs"), CASES)
def test_cells_differ_in_nested_types_as_in_plain_ones(kind, left, right, differs):
    assert cells_differ(pa.array(left, kind), pa.array(right, kind)).tolist() == differs
    assert cells_differ(pa.array(right, kind), pa.array(left, kind)).tolist() == differs
    # Slices keep the values of the whole array; positions must not be mixed up.
    a, b = pa.array([*left[:1], *left], kind)[1:], pa.array([*right[-1:], *right], kind)[1:]
    assert cells_differ(a, b).tolist() == differs


def test_rows_are_paired_by_key_and_columns_compared():
    left = pa.table({"a": [1, 1, 2, 3], "b": ["x", "y", "x", "z"], "n": [10, 11, 20, 30]})
    right = pa.table({"a": [3, 1, 4, 1], "b": ["z", "y", "q", "x"], "n": [30, 99, 40, 10]})
    found = compare(left, right, ("a", "b"), ("n",))
    assert [(left["n"][i].as_py(), right["n"][j].as_py()) for i, j in zip(found.left, found.right, strict=True)] == [
        (30, 30), (11, 99), (10, 10),
    ]  # fmt: skip
    assert found.differs["n"].tolist() == [False, True, False]
    assert (found.left_only.tolist(), found.right_only.tolist()) == ([2], [2])


def test_rows_that_share_a_key_are_paired_in_the_order_of_what_they_hold():
    left = pa.table({"k": ["a", "a", "b"], "n": [2, 1, 3]})
    right = pa.table({"k": ["a", "b", "a", "a"], "n": [1, 3, 2, 7]})
    found = compare(left, right, ("k",), ("n",))
    pairs = defaultdict(list)
    for i, j in zip(found.left.tolist(), found.right.tolist(), strict=True):
        pairs[left["k"][i].as_py()].append((left["n"][i].as_py(), right["n"][j].as_py()))
    assert pairs == {"a": [(1, 1), (2, 2)], "b": [(3, 3)]}
    assert found.right_only.tolist() == [3]


def test_empty_tables_compare():
    empty = pa.table({"k": pa.array([], pa.int64()), "n": pa.array([], TEXTS)})
    one = pa.table({"k": [1], "n": pa.array([["a"]], TEXTS)})
    assert compare(empty, one, ("k",), ("n",)).right_only.tolist() == [0]
    assert compare(one, empty, ("k",), ("n",)).left_only.tolist() == [0]
    assert not compare(empty, empty, ("k",), ("n",)).is_changed.any()
