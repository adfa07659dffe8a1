"""Live rows: which rows of two tables have the same key, and which of a key is the newest, for every kind of key."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from conf.tables import REJECTED_EDGES, SESSIONS
from pipelines.lake.live_rows import UPDATED, newest_rows, same_keys

KEYS = st.lists(st.integers(-3, 5), max_size=30)


@given(KEYS, KEYS)
def test_pairs_of_equal_keys_are_those_of_a_join(left: list[int], right: list[int]) -> None:
    tables = [
        pa.table({"k": pa.array(keys, pa.int64()), "l": pa.array(keys, pa.int64())}) for keys in (left, right)
    ]
    expected = sorted((i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b)
    for key in (("k",), ("k", "l")):
        mine, theirs = same_keys(*tables, key)
        assert sorted(zip(mine.tolist(), theirs.tolist(), strict=True)) == expected


@given(st.sets(st.tuples(st.integers(-3, 5), st.integers(1, 9))), st.randoms())
def test_the_newest_row_of_a_key_is_found_whatever_the_key_is(
    rows: set[tuple[int, int]], random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    keys, batches = (
        (pa.array(column, pa.int64()) for column in zip(*shuffled, strict=True))
        if rows
        else [pa.array([], pa.int64())] * 2
    )
    newest = {k: max(b for key, b in rows if key == k) for k, _ in rows}
    for spec in (SESSIONS, REJECTED_EDGES):
        hot = pa.table(dict.fromkeys(spec.key, keys) | {UPDATED: batches})
        found = newest_rows(spec, hot)
        there = [found[c].to_pylist() for c in (spec.key[0], UPDATED)]
        assert sorted(zip(*there, strict=True)) == sorted(newest.items())
