"""Landed files become parsed records, in Spark as in the kernel."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from chispa import assert_df_equality

from transforms.ingest import records
from transforms.ingest.framing.files_read import Reading, content_digest, facts_of, record_digest
from transforms.ingest.parsed_schema import PARSED_SCHEMA
from transforms.ingest.records import framed, parsed, parsed_for_driver, parsed_here, parsing

AT = datetime(2024, 5, 1, tzinfo=UTC)
FILES = pa.schema(
    [(n, pa.string()) for n in ("source", "mapping", "feed", "kind", "path")]
    + [("content", pa.binary()), ("transport_at", pa.timestamp("us", "UTC"))]
)


def files(**contents: bytes | None) -> pa.RecordBatch:
    rows = [("here", "native", "events", "file", name, content, AT) for name, content in contents.items()]
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, FILES, strict=True)], schema=FILES
    )


def lines(first: int, end: int) -> bytes:
    return b"".join(
        json.dumps(
            {
                "event_id": f"e{n}",
                "timestamp": 1714564800 + n,
                "identifiers": {"device_id": f"d{n % 97}"},
                "n": n,
            }
        ).encode()
        + b"\n"
        for n in range(first, end)
    )


def test_files_that_are_known_are_left_out_and_told():
    batch = files(**{"a.jsonl": lines(0, 2), "b.jsonl": lines(2, 3)})
    known = Reading(content_digest(lines(0, 2)), 0, None)
    ((portion, told),) = framed([batch], {("here", "a.jsonl"): known, ("elsewhere", "b.jsonl"): known})
    assert (portion.origin, portion.origin_ordinal) == (["b.jsonl"], [0])
    assert [(f.path, f.outcome, f.first, f.record_count) for f in told] == [
        ("a.jsonl", "known", None, 0), ("b.jsonl", "read", 0, 1),
    ]  # fmt: skip


def test_a_file_that_is_not_as_it_was_looked_at_gives_nothing_and_is_told():
    """Seen to fail where the executor trusted the driver's look: what came between was known and never read."""
    looked_at = Reading(content_digest(b"before"), 0, None)
    ((portion, told),) = framed([files(**{"a.jsonl": lines(0, 2)})], {("here", "a.jsonl"): looked_at})
    assert (portion.payload, [f.outcome for f in told]) == ([], ["moving"])


def test_of_a_changed_file_the_records_are_new_whose_bytes_were_not_there_each_as_often():
    old, new = lines(0, 1), lines(1, 2)
    seen = Counter([record_digest("json", old.rstrip())])
    content = new + old + old + new
    reading = Reading(content_digest(content), 10, seen)
    ((portion, (file,)),) = framed([files(**{"a.jsonl": content})], {("here", "a.jsonl"): reading})
    assert portion.payload == [new.rstrip(), old.rstrip(), new.rstrip()]
    assert portion.origin_ordinal == [10, 12, 13]
    assert (file.outcome, file.first, file.last, file.record_count, file.known_count) == (
        "changed",
        10,
        13,
        3,
        1,
    )


def test_files_without_a_record_are_told_too(make_parser):
    rows = parsed_here([files(**{"a.jsonl": b"", "b.csv": b"id,name\n"})], make_parser())
    assert [(f.path, f.size, f.record_count) for f in facts_of(rows)] == [("a.jsonl", 0, 0), ("b.csv", 8, 0)]


def test_slices_report_the_file_they_are_part_of():
    ((portion, _),) = framed([files(**{"d/a.rows000300.jsonl": lines(0, 2)})])
    assert (portion.origin, portion.origin_ordinal) == (["d/a.jsonl"] * 2, [300, 301])


def test_a_file_without_content_has_no_records():
    ((portion, _),) = framed([files(**{"a.jsonl": None, "b.jsonl": b""})])
    assert portion.payload == []


@pytest.mark.parametrize(("name", "value"), [("MAX_RECORDS", 10), ("MAX_BYTES", 1000)])
def test_portions_are_small_and_together_complete(make_parser, monkeypatch, name, value):
    monkeypatch.setattr(records, name, value)
    batch = files(**{"a.jsonl": lines(0, 25), "b.jsonl": lines(25, 50)})
    portions = list(parsing(make_parser())([batch]))
    assert len(portions) >= 5
    ids = [i for p in portions for i in p.column("event_id").to_pylist()]
    assert ids == [f"e{n}" for n in range(50)]


def test_a_record_larger_than_a_portion_is_a_portion_of_its_own(monkeypatch):
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    assert [len(p.payload) for p, _ in framed([files(**{"a.jsonl": lines(0, 3)})])] == [1, 1, 1]


def test_spark_says_what_the_kernel_says(spark, make_parser):
    contents = {
        "a.jsonl": lines(0, 2500) + b"{\n",
        "d/b.rows000100.jsonl.gz": gzip.compress(lines(2500, 4000)),
        "c.json": b"[" + b",".join(lines(4000, 5000).splitlines()) + b"]",
        "known.jsonl": lines(5000, 5001),
    }
    batch = files(**contents)
    known = {("here", "known.jsonl"): Reading(content_digest(lines(5000, 5001)), 0, None)}
    df = spark.createDataFrame([tuple(r.values()) for r in batch.to_pylist()], _SPARK_FILES).repartition(1)
    result = pa.Table.from_batches(
        df.transform(parsed, make_parser(), known).toArrow().to_batches()
    ).to_pylist()
    wanted = [r for b in parsing(make_parser(), known)([batch]) for r in b.to_pylist()]
    assert len(result) == 5001
    told: set[int] = set()
    for rows in (result, wanted):
        rows.sort(key=lambda r: (r["origin"], r["origin_ordinal"]))
        told.symmetric_difference_update(i["node_id"] for r in rows for i in r.pop("identifiers"))
    assert result == wanted
    assert told == set()


def test_records_of_landed_files_are_rows_in_a_frame_and_in_the_driver(spark, make_parser):
    """One row per record: its place, its payload, what it says, and why it is refused."""
    good = b'{"event_id": "e1", "timestamp": 1714564800, "event_type": "login", "identifiers": {"user_id": "u1"}}'
    landed = files(**{"a.jsonl": good + b"\n{\n", "b.jsonl": b"[]\n"})
    df = spark.createDataFrame([tuple(r.values()) for r in landed.to_pylist()], _SPARK_FILES)
    place = "origin string, origin_ordinal long, payload binary"
    wanted = spark.createDataFrame(
        [
            ("a.jsonl", 0, bytearray(good), "e1", "login", []),
            ("a.jsonl", 1, bytearray(b"{"), None, None, ["malformed_json"]),
            ("b.jsonl", 0, bytearray(b"[]"), None, None, ["not_an_object"]),
        ],
        f"{place}, event_id string, event_type string, reasons array<string>",
    )
    names = wanted.columns
    in_driver = spark.createDataFrame(parsed_for_driver(df, make_parser()).select(names))
    for found in (df.transform(parsed, make_parser()).select(names), in_driver):
        assert_df_equality(found, wanted, ignore_row_order=True, ignore_nullable=True)


def test_the_spark_schema_is_the_arrow_schema(spark, make_parser):
    from pyspark.sql.pandas.types import to_arrow_schema

    df = parsed(spark.createDataFrame([], _SPARK_FILES), make_parser())
    kinds = to_arrow_schema(df.schema)
    assert kinds.names == PARSED_SCHEMA.names
    assert df.count() == 0


_SPARK_FILES = (
    "source string, mapping string, feed string, kind string, path string, content binary, "
    "transport_at timestamp"
)


def test_a_topics_record_is_one_record_at_its_offset_beside_landed_files():
    columns = {
        "source": ["topic", "here", "topic"],
        "mapping": ["native"] * 3,
        "feed": ["events"] * 3,
        "path": ["clicks-0", "a.jsonl", "clicks-0"],
        "content": [b'{"two":\n"lines"}', lines(0, 2), None],
        "transport_at": pa.array([AT, AT, None], pa.timestamp("us", "UTC")),
        "offset": pa.array([7, None, 8], pa.int64()),
        "record_key": [b"k", None, None],
        "headers": [[{"key": "h", "value": b"v"}], None, None],
    }
    known = {("topic", "clicks-0"): Reading("", 0, None)}
    ((portion, _),) = framed([pa.RecordBatch.from_pydict(columns)], known)
    assert list(zip(portion.origin, portion.origin_ordinal, portion.payload_format, strict=True)) == [
        ("clicks-0", 7, "json"), ("clicks-0", 8, "tombstone"), ("a.jsonl", 0, "json"), ("a.jsonl", 1, "json"),
    ]  # fmt: skip
    assert portion.payload[:2] == [b'{"two":\n"lines"}', None]
    assert portion.record_key == [b"k", None, None, None]
    assert portion.headers == [[{"key": "h", "value": b"v"}], None, None, None]


def test_a_tombstone_is_refused_as_one_and_keeps_its_key(make_parser):
    columns = {
        **{name: ["x"] for name in ("source", "feed")}, "mapping": ["native"], "path": ["clicks-0"],
        "content": pa.nulls(1, pa.binary()), "transport_at": pa.nulls(1, pa.timestamp("us", "UTC")),
        "offset": [3], "record_key": [b"k"], "headers": pa.nulls(1, PARSED_SCHEMA.field("headers").type),
    }  # fmt: skip
    (rows,) = parsing(make_parser())([pa.RecordBatch.from_pydict(columns)])
    (row,) = rows.to_pylist()
    assert (row["reasons"], row["payload"], row["record_key"]) == (["tombstone"], None, b"k")
