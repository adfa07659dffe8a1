"""Places: the order of (instant, id), whatever ties."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.arrays.grouped import places

HEADS = st.lists(st.tuples(st.integers(-2, 40), st.sampled_from(["", "a", "b", "é", "zz"])))


@given(HEADS)
def test_places_are_those_in_the_order_of_instants_and_then_of_the_bytes_of_ids(
    heads: list[tuple[int, str]],
) -> None:
    """Seen to fail where two ids that meet at one instant are left as they are."""
    at, ids = np.array([a for a, _ in heads], np.int64), pa.array([i for _, i in heads], pa.string())
    in_order = sorted(set(heads), key=lambda head: (head[0], head[1].encode()))
    assert places(at, ids).tolist() == [in_order.index(head) for head in heads]
