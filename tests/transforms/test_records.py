"""Landed files become parsed records, in Spark as in the kernel."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from transforms import records
from transforms.parsed_schema import PARSED_SCHEMA
from transforms.records import framed, parsed, parsing

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


def test_files_that_are_known_are_left_out():
    batch = files(**{"a.jsonl": lines(0, 2), "b.jsonl": lines(2, 3)})
    (portion,) = framed([batch], frozenset({("here", "a.jsonl"), ("elsewhere", "b.jsonl")}))
    assert (portion.origin, portion.origin_ordinal) == (["b.jsonl"], [0])


def test_slices_report_the_file_they_are_part_of():
    (portion,) = framed([files(**{"d/a.rows000300.jsonl": lines(0, 2)})])
    assert (portion.origin, portion.origin_ordinal) == (["d/a.jsonl"] * 2, [300, 301])


def test_a_file_without_content_has_no_records():
    assert list(framed([files(**{"a.jsonl": None, "b.jsonl": b""})])) == []


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
    assert [len(p.payload) for p in framed([files(**{"a.jsonl": lines(0, 3)})])] == [1, 1, 1]


def test_spark_says_what_the_kernel_says(spark, make_parser):
    contents = {
        "a.jsonl": lines(0, 2500) + b"{\n",
        "d/b.rows000100.jsonl.gz": gzip.compress(lines(2500, 4000)),
        "c.json": b"[" + b",".join(lines(4000, 5000).splitlines()) + b"]",
        "known.jsonl": lines(5000, 5001),
    }
    batch = files(**contents)
    known = frozenset({("here", "known.jsonl")})
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
    (portion,) = framed([pa.RecordBatch.from_pydict(columns)], frozenset({("topic", "clicks-0")}))
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
