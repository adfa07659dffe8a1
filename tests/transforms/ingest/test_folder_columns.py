"""Columns that stand in the names of folders."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from transforms.ingest.mapping.folder_columns import columns_of, innermost
from transforms.ingest.records import parsing

AT = pa.array([0], pa.timestamp("us", "UTC"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tenant=acme/part-0.parquet", {"tenant": "acme"}),
        ("in/tenant=a%2Fb%3Dc/dt=2026-03-01/x.csv", {"tenant": "a/b=c", "dt": "2026-03-01"}),
        ("tenant=__HIVE_DEFAULT_PARTITION__/a=/x.csv", {}),
        ("tenant=a/tenant=b/x.csv", {"tenant": "b"}),
        ("a=b=c/=d/x.csv", {"a": "b=c"}),
        ("tenant=acme.jsonl", {}),  # a file, not a folder
        ("clicks-0", {}),
    ],
)
def test_columns_are_read_from_folders(name, wanted):
    assert columns_of(name) == wanted


def test_of_a_path_the_folders_count_from_the_first_column_on():
    assert innermost("/data/in/tenant=a/daily/x.csv") == "tenant=a/daily/x.csv"
    assert innermost("/data/in/x=1.csv") == "x=1.csv"


def rows_of(make_parser, name: str, mapping: str, *records: dict) -> list[dict]:
    columns = {"source": ["s"], "mapping": [mapping], "feed": ["events"], "path": [name]}
    content = b"\n".join(json.dumps(r).encode() for r in records)
    landed = pa.table({**columns, "content": [content], "transport_at": AT})
    (rows,) = parsing(make_parser())(landed.to_batches())
    return rows.to_pylist()


EVENT = {"event_id": "1", "timestamp": "2026-03-01T18:00:00Z", "identifiers": {"cookie_id": "c"}}


def test_a_column_that_the_mapping_names_is_the_records(make_parser):
    """Seen to fail as it was: two tenants became one."""
    acme, other = (
        rows_of(make_parser, f"tenant={t}/hour=3/p.jsonl", "native", EVENT)[0] for t in ("acme", "other")
    )
    assert (acme["tenant"], other["tenant"]) == ("acme", "other")
    assert acme["node_ids"] != other["node_ids"]
    assert acme["properties"] is None  # the hour says nothing of the event
    own = {**EVENT, "tenant": "its own"}
    both = rows_of(make_parser, "tenant=acme/p.jsonl", "native", own, {**EVENT, "tenant": None})
    assert [r["tenant"] for r in both] == ["its own", "acme"]


def test_identifiers_and_long_numbers_beside_them_are_found_too(make_parser):
    record = {"timestamp": "2026-03-01T18:00:00Z", "device_id": 12345678901234567890123, "customer_id": None}
    (row,) = rows_of(make_parser, "customer_id=acme/user_id=u%201/p.jsonl", "flat", record)
    assert (row["tenant"], row["reasons"]) == ("acme", [])
    assert {(i["namespace"], i["value"]) for i in row["identifiers"]} == {
        ("user_id", "u 1"), ("device_id", "12345678901234567890123"),
    }  # fmt: skip
