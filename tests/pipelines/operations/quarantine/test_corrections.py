"""Corrected payloads in place of those that were received, in Spark and in this process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from chispa import assert_df_equality

from pipelines.operations.quarantine.corrections import corrected, corrected_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = "source string, origin string, origin_ordinal long, payload binary, received_at timestamp"
AT = datetime(2026, 3, 1, 12)
BRONZE = [
    ("here", "a.jsonl", 0, bytearray(b"{"), AT),
    ("here", "a.jsonl", 1, bytearray(b"[]"), AT),
    ("here", "b.jsonl", 0, None, AT),
    ("there", "a.jsonl", 0, bytearray(b"{"), AT),
]


def corrections(*rows: tuple[str, str, int, bytes]) -> pa.Table:
    columns = ("source", "origin", "origin_ordinal", "payload")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.binary())
    given = [[row[place] for row in rows] for place in range(4)]
    return pa.table({n: pa.array(v, t) for n, v, t in zip(columns, given, kinds, strict=True)})


GIVEN = corrections(
    ("here", "a.jsonl", 0, b"{}"), ("here", "b.jsonl", 0, b"{1}"), ("nowhere", "a.jsonl", 1, b"{2}")
)


def test_a_record_with_a_correction_has_its_payload_and_every_other_one_its_own(spark: SparkSession) -> None:
    """A record is known by source, origin and ordinal together, and a correction of none adds none."""
    wanted = [
        ("here", "a.jsonl", 0, bytearray(b"{}"), AT),
        BRONZE[1],
        ("here", "b.jsonl", 0, bytearray(b"{1}"), AT),
        BRONZE[3],
    ]
    found = corrected(spark.createDataFrame(BRONZE, COLUMNS), GIVEN)
    assert_df_equality(
        found, spark.createDataFrame(wanted, COLUMNS), ignore_row_order=True, ignore_column_order=True
    )


def test_without_corrections_nothing_is_joined(spark: SparkSession) -> None:
    bronze = spark.createDataFrame(BRONZE, COLUMNS)
    assert corrected(bronze, corrections()) is bronze


def test_rows_in_this_process_are_corrected_in_the_same_way() -> None:
    rows = [(*row[:3], row[3] and bytes(row[3]), row[4].replace(tzinfo=UTC)) for row in BRONZE]
    names = ("source", "origin", "origin_ordinal", "payload", "received_at")
    bronze = pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})
    assert corrected_rows(bronze, GIVEN)["payload"].to_pylist() == [b"{}", b"[]", b"{1}", b"{"]
    assert corrected_rows(bronze, corrections()) is bronze
