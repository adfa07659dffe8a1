"""The order in which a batch's events count, and what is handed on of those that do."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stream.batch.judged import PLACE, by_origin

# A run is a file's or a partition's part of a batch: source, origin, its first ordinal, how many records it has.
RUNS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(["x", "y", "é", "𝄞"]), st.integers(0, 9), st.integers(1, 4)
    ),
    max_size=6,
)


@given(RUNS, st.booleans())
def test_events_are_in_the_order_of_their_places_however_they_come(
    runs: list[tuple], is_backwards: bool
) -> None:
    """Whole runs that change places, runs that overlap, and rows in no order at all."""
    rows = [
        {"source": source, "origin": origin, "origin_ordinal": first + n, "record_position": 0, "at": (at, n)}
        for at, (source, origin, first, count) in enumerate(runs)
        for n in range(count)
    ]
    rows = rows[::-1] if is_backwards else rows
    types = [pa.string(), pa.string(), pa.int64(), pa.int64(), pa.list_(pa.int64())]
    schema = pa.schema(list(zip((*PLACE, "at"), types, strict=True)))
    halves = [pa.Table.from_pylist(half, schema) for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
    ordered = by_origin(pa.concat_tables(halves)).to_pylist()
    place = lambda row: tuple(row[name].encode() if type(row[name]) is str else row[name] for name in PLACE)  # noqa: E731
    assert [place(row) for row in ordered] == sorted(map(place, rows))
    assert sorted(tuple(row["at"]) for row in ordered) == sorted(tuple(row["at"]) for row in rows)
