"""Packed rows give back exactly what was put in, whatever it is and whichever of them are asked for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.tables import SESSIONS
from pipelines.state import keyed_rows
from pipelines.state.keyed_rows import KeyedRows, loaded
from pipelines.state.packed_column import pack
from pipelines.state.packed_rows import NOTHING_KNOWN, Known, packed_rows
from tests.examples import examples

SECOND = 1_000_000
longs = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.integers(2**40, 2**40 + 300),
    st.just(7),
    st.integers(-(2**33), 2**33).map(lambda n: n * SECOND),
)
instants = st.one_of(
    st.integers(0, 2**52), st.integers(0, 10**6).map(lambda n: n * SECOND), st.just(60 * SECOND)
)
texts = st.one_of(
    st.sampled_from(["", "a", "web"]), st.text(min_size=3, max_size=3, alphabet="abc"), st.text(max_size=5)
)


def a_field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind)


TOUCH = pa.struct([a_field("at", pa.timestamp("us", "UTC")), a_field("source", pa.string())])
SPAN = pa.struct([a_field("n", pa.int64()), a_field("words", pa.list_(pa.string())), a_field("touch", TOUCH)])
touches = st.fixed_dictionaries({"at": st.none() | instants, "source": st.none() | texts})
spans = st.fixed_dictionaries(
    {
        "n": st.none() | longs,
        "words": st.none() | st.lists(st.none() | texts, max_size=3),
        "touch": st.none() | touches,
    }
)
VALUES: dict[pa.DataType, st.SearchStrategy] = {
    pa.int64(): longs,
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.timestamp("us", "UTC"): instants,
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): texts,
    pa.binary(): st.binary(max_size=3),
    pa.date32(): st.dates(),
    pa.list_(pa.string()): st.lists(st.none() | texts, max_size=3),
    TOUCH: touches,
    pa.list_(pa.field("element", SPAN)): st.lists(st.none() | spans, max_size=2),
}


@st.composite
def arrays(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from(list(VALUES)))
    one = VALUES[kind]
    # Few different values, many nulls, one and the same value: each has a form of its own.
    if draw(st.booleans()):
        one = st.sampled_from(draw(st.lists(one, min_size=1, max_size=2)))
    if draw(st.booleans()):
        one = st.none() | one
    return pa.array(draw(st.lists(one, min_size=1, max_size=40)), kind)


@settings(max_examples=examples(500))
@given(arrays(), st.data())
def test_any_rows_of_a_packed_column_are_what_they_were(values, data):
    start = data.draw(st.integers(0, len(values) - 1))
    values = values.slice(start)  # what comes from a table need not begin where its buffers do
    rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=60)), np.int64)
    packed = pack(values)
    for some in (rows, rows.astype(np.int32), np.arange(len(values))):
        taken = packed.take(some)
        taken.validate(full=True)
        assert taken.type == values.type
        assert taken.to_pylist() == values.take(pa.array(some)).to_pylist()


@pytest.mark.parametrize(
    ("values", "most_bytes_each"),
    [
        (pa.array(np.full(1000, 5)), 0),
        (pa.array(np.arange(1000) * SECOND, pa.timestamp("us")), 2),
        (pa.array(np.arange(1000) * 1_000), 2),
        (pa.array(np.arange(1000)[::-1] << 20), 4),
        (pa.array(np.where(np.arange(1000) % 100, 0, np.arange(1000) << 40)), 0.3),
        (pa.array([None, None, None, "x" * 9] * 250), 2.5),
        (pa.array(["web", "mobile", "web", "web"] * 250), 1.1),
        (pa.array([f"{n:010d}" for n in range(1000)]), 10),
        (pa.array([["web"]] * 1000), 0.1),
        (pa.array([None] * 1000, TOUCH), 0),
    ],
)
def test_what_repeats_costs_little(values, most_bytes_each):
    assert pack(values).nbytes <= most_bytes_each * len(values)


def test_a_column_without_a_byte_keeps_none():
    """Its array must not be a view of one with all bytes: `nbytes` would not tell."""
    (parts,) = (v for v in vars(pack(pa.array(np.full(1000, 5)))).values() if isinstance(v, np.ndarray))
    assert parts.base is None


def sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + b


KNOWN = Known(mostly={"like": "a"}, follows={"sum": (("a", "b"), sums)})
small = st.integers(0, 5)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(small, small, small, small), min_size=1, max_size=40), st.booleans())
def test_what_is_known_of_columns_is_not_believed(rows, is_right):
    a, b, like, total = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    table = pa.table({"a": a, "b": b, "like": like, "sum": a + b if is_right else total})
    packed = packed_rows(table.schema, len(rows), lambda n: table[n].chunk(0), KNOWN, "a")
    every = np.arange(len(rows))
    assert packed.take(every, table.column_names).equals(table)
    assert all(np.array_equal(packed.all_numbers(n), table[n].to_numpy()) for n in table.column_names)


def test_what_follows_from_others_is_not_held():
    a = np.arange(1000) << 40
    table = pa.table({"a": a, "b": a, "like": a, "sum": a + a})
    packed = packed_rows(table.schema, len(a), lambda n: table[n].chunk(0), KNOWN, "a").nbytes_by_column()
    plain = packed_rows(
        table.schema, len(a), lambda n: table[n].chunk(0), NOTHING_KNOWN, "a"
    ).nbytes_by_column()
    assert packed["sum"] == 0 < plain["sum"]
    assert packed["like"] < plain["like"] / 10


SCHEMA = pa.schema(
    [("a", pa.int64()), ("group", pa.int64()), ("like", pa.int64()), ("spans", pa.list_(SPAN))]
)
INDEXES = ("a", "group", "like")
stored = st.lists(
    st.tuples(small, st.none() | small, small, st.none() | st.lists(spans, max_size=2)), max_size=12
)
questions = st.tuples(st.sampled_from(INDEXES), st.lists(st.integers(1, 5), max_size=4))
steps = st.lists(st.tuples(questions, stored), max_size=8)


def table(rows: list[tuple]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def listed(rows: pa.Table) -> list[str]:
    return sorted(map(repr, rows.to_pylist()))


@settings(max_examples=examples(200))
@given(stored, steps, st.sampled_from([1 << 30, 200]))
def test_rows_are_found_and_replaced_as_if_they_were_not_packed(rows, steps, most_bytes):
    """Seen to fail where a merge packs the dead rows too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keyed_rows, "PACKED_FROM", 4)
        patched.setattr(keyed_rows, "_MOST_BYTES", most_bytes)
        packed = loaded(SCHEMA, INDEXES, table(rows), Known(mostly={"like": "a"}))
        for (index, values), new in steps:
            dead = packed.find(index, np.array(values, np.int64))
            packed.replace(dead, table(new))
            packed.settle()
    plain = KeyedRows(SCHEMA, INDEXES)
    plain.load(table(rows))
    for (index, values), new in steps:
        plain.replace(plain.find(index, np.array(values, np.int64)), table(new))
    assert len(packed) == len(plain)
    assert listed(packed.all_rows()) == listed(plain.all_rows())
    for index in INDEXES:
        for value in range(1, 6):
            asked = np.array([value], np.int64)
            found = packed.rows(index, asked)
            assert found.schema == SCHEMA
            assert listed(found) == listed(plain.rows(index, asked))


def test_no_column_of_a_segment_has_more_texts_than_arrows_offsets_reach(monkeypatch):
    """Seen to fail: 2 GiB of texts in one column were an offset overflow, when they were loaded and when merged."""
    most = 4000
    monkeypatch.setattr(keyed_rows, "_MOST_BYTES", most)
    monkeypatch.setattr(keyed_rows, "PACKED_FROM", 10)
    schema = pa.schema([("a", pa.int64()), ("text", pa.string())])

    def texts(ids: np.ndarray, word: str) -> pa.Table:
        return pa.table([ids, [f"{word} {n:030d}" for n in ids.tolist()]], schema=schema)

    held = loaded(schema, ("a",), texts(np.arange(1, 601)[::-1].copy(), "loaded"))
    assert len(held._segments) > 5
    expected = dict.fromkeys(range(1, 601), "loaded")
    random = np.random.default_rng(5)
    for turn in range(80):
        ids = np.unique(random.integers(1, 601, 40))
        held.replace(held.find("a", ids), texts(ids, f"turn {turn}"))
        held.settle()
        expected |= dict.fromkeys(ids.tolist(), f"turn {turn}")
        assert all(segment.nbytes <= most for segment in held._segments)
        assert sum(len(segment.alive) for segment in held._segments) < 3 * len(held)
    found = held.rows("a", np.arange(1, 601))
    assert dict(zip(found["a"].to_pylist(), found["text"].to_pylist(), strict=True)) == {
        n: f"{word} {n:030d}" for n, word in expected.items()
    }


def test_a_packed_session_has_the_types_of_the_table():
    row = dict.fromkeys(SESSIONS.arrow.names) | {"anchor_node_id": 7, "platforms": [], "spans": None}
    numbers = {f.name: 1 for f in SESSIONS.arrow if not f.nullable and pa.types.is_int64(f.type)}
    sessions = pa.Table.from_pylist(
        [row | numbers] * 3, schema=pa.schema([f.with_nullable(True) for f in SESSIONS.arrow])
    )
    packed = packed_rows(sessions.schema, 3, lambda n: sessions[n].chunk(0), NOTHING_KNOWN, "anchor_node_id")
    assert packed.take(np.array([2, 0]), sessions.column_names).equals(sessions.take(pa.array([2, 0])))
