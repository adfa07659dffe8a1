"""A source changes its schema, between files and inside one: nothing breaks, nothing is lost."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from conf.tables import BATCHES, EVENTS, IDENTIFIERS
from tests.dirty.direct_lake import DirectLake
from transforms.ingest.framing.frames import frame
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

PARSER = RecordParser({"flat": load_mapping("flat")}, load_policy(), b"k" * 32)
Record = dict[str, Any]

INNER = st.fixed_dictionaries({"x": st.text("ab", min_size=1)})
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**40), 2**40),
    "text": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    "truth": st.booleans(),
    "fraction": st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: x + 0.0),
    "list": st.lists(st.integers(0, 9), min_size=1, max_size=3),
    "nested": st.fixed_dictionaries({"inner": st.integers(0, 9), "deeper": INNER}),
}  # fmt: skip
NEEDED = ("event_id", "timestamp", "device_id")
NAMES = ("color", "size", "price", "note", "extra", "Größe", "a b", "_x")
_serial = itertools.count()


@st.composite
def version(draw: st.DrawFn) -> list[Record]:
    """The records of one file: the same columns throughout, of the same types, in the same order."""
    kinds = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(VALUES)), max_size=5))
    order = draw(st.permutations([*NEEDED, *kinds]))
    needed = {
        "event_id": st.builds(lambda: f"e{next(_serial)}"),
        "timestamp": st.just(1772366400),
        "device_id": st.just("d1"),
    }
    columns = {name: needed[name] if name in needed else st.none() | VALUES[kinds[name]] for name in order}
    return draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=4))


def as_json_lines(records: list[Record]) -> bytes:
    return b"\n".join(orjson.dumps(r) for r in records)


def as_csv(records: list[Record]) -> bytes:
    out = io.StringIO()
    names = list(records[0])
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: as_text(v) for k, v in r.items()} for r in records])
    return out.getvalue().encode()


def as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def as_parquet(records: list[Record]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out)
    return out.getvalue()


def rows_of(files: list[tuple[str, bytes]]) -> list[Record]:
    """What the parser makes of landed files, in their order."""
    frames = [(name, f) for name, content in files for f in frame(name, content)]
    n = len(frames)
    batch = PARSER.parse(
        Records(
            ["s"] * n, ["flat"] * n, ["events"] * n, [name for name, _ in frames], [f.ordinal for _, f in frames],
            [f.payload_format for _, f in frames], [f.payload for _, f in frames], [0] * n,
        )
    )  # fmt: skip
    return batch.to_pylist()


def free(record: Record) -> Record:
    return {k: v for k, v in record.items() if k not in NEEDED and v is not None}


def kept(row: Record) -> Record:
    assert row["reasons"] == row["flags"] == []
    return json.loads(row["properties"] or "{}")


@given(st.lists(version(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_json_with_other_fields_in_every_record_keeps_them_all(versions, chance):
    """Seen to fail when free fields are taken only from the first record's names."""
    records = [r for v in versions for r in v]
    chance.shuffle(records)  # versions change inside one file
    rows = rows_of([("a.jsonl", as_json_lines(records))])
    assert [kept(r) for r in rows] == [free(r) for r in records]
    assert len({r["anchor_node_id"] for r in rows}) == 1


@given(st.lists(version(), min_size=1, max_size=4))
def test_csv_with_another_header_in_every_file_keeps_its_columns(versions):
    """Seen to fail when the parser remembers one header for all files."""
    rows = rows_of([(f"{n}.csv", as_csv(v)) for n, v in enumerate(versions)])
    wanted = [free(r) for v in versions for r in v]
    assert [kept(r) for r in rows] == [
        {k.strip(): as_text(v) for k, v in r.items() if as_text(v)} for r in wanted
    ]


@given(st.lists(version(), min_size=1, max_size=4))
def test_parquet_with_another_schema_in_every_file_keeps_its_columns(versions):
    rows = rows_of([(f"{n}.parquet", as_parquet(v)) for n, v in enumerate(versions)])
    assert [kept(r) for r in rows] == [free(r) for v in versions for r in v]


@pytest.mark.thorough
def test_a_retyped_field_says_the_same(tmp_path):
    """The same three events as numbers and as text, from three formats: sent three times, there once."""
    records = [{"event_id": n, "timestamp": 1772366400 + n, "user_id": n, "device_id": n} for n in (1, 2, 3)]
    texts = [{k: str(v) for k, v in r.items()} for r in records]
    fractions = [{k: float(v) for k, v in reversed(r.items())} for r in records]
    lake = DirectLake(tmp_path / "lake")
    lake.land([("flat", "a.jsonl", as_json_lines(records)), ("flat", "b.csv", as_csv(texts))])
    lake.land([("flat", "c.parquet", as_parquet(texts)), ("flat", "d.parquet", as_parquet(records))])
    lake.land([("flat", "e.jsonl", as_json_lines(fractions)), ("flat", "f.parquet", as_parquet(fractions))])
    batches = lake.rows(BATCHES)
    assert [sum(b[f"{c}_count"] for b in batches) for c in ("valid", "quarantined", "duplicate")] == [
        3,
        0,
        15,
    ]
    assert sorted(r["value"] for r in lake.rows(IDENTIFIERS)) == sorted("123" * 2)


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("event_type", {"name": "click"}, "wrong_type_event_type"),
        ("event_name", ["a"], "wrong_type_event_name"),
        ("platform", {"os": "ios", "version": 17}, "wrong_type_platform"),
        ("event_id", {"a": 1}, "wrong_type_event_id"),
    ],
)
def test_a_field_that_became_an_object_is_flagged_and_kept(tmp_path, field, value, flag):
    """Seen to fail before: the value was in bronze only."""
    record = {"event_id": "e1", "timestamp": 1772366400, "device_id": "d"} | {field: value}
    (row,) = rows_of([("a.parquet", as_parquet([record]))])
    assert row["flags"] == [flag]
    assert json.loads(row["properties"])[field] == value
    (other,) = rows_of([("a.jsonl", as_json_lines([record | {field: [value]}]))])
    assert other["content_digest"] != row["content_digest"]


@pytest.mark.thorough
def test_a_lake_takes_every_version_of_a_source_one_after_the_other(tmp_path):
    """Old rows keep what they had, new ones have what came; queries by name find both."""
    lake = DirectLake(tmp_path / "lake")
    base = {"timestamp": 1772366400, "device_id": "d"}
    lake.land([("flat", "1.csv", b"event_id,timestamp,device_id,color\n1,1772366400,d,red\n")])
    lake.land([("flat", "2.csv", b"color,size,device_id,event_id,timestamp\nblue,7,d,2,1772366400\n")])
    lake.land([("flat", "3.parquet", as_parquet([{**base, "event_id": "3", "size": {"eu": 42, "us": 9}}]))])
    lake.land([("flat", "4.parquet", as_parquet([{**base, "event_id": 4, "size": 42}]))])
    lake.land_records(
        [{**base, "event_id": 5, "size": None}, {**base, "event_id": 6, "color": ["red", "blue"]}], "flat"
    )
    found = {r["event_id"]: json.loads(r["properties"] or "{}") for r in lake.rows(EVENTS)}
    assert found == {
        "1": {"color": "red"}, "2": {"color": "blue", "size": "7"}, "3": {"size": {"eu": 42, "us": 9}},
        "4": {"size": 42}, "5": {}, "6": {"color": ["red", "blue"]},
    }  # fmt: skip
