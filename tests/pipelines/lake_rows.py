"""Small rows for any declared table: a value of the right type in every column, unless the test says otherwise."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from conf.table_spec import DELETED, TableSpec
from conf.tables import ALL, BATCHES, IDENTITY_REDIRECTS
from pipelines.lake import views
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.writing.writer import TableWriter, Txn

T0 = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def minute(n: float) -> datetime:
    return T0 + timedelta(minutes=n)


def rows_of(spec: TableSpec, *given: dict[str, Any]) -> pa.Table:
    """One row of `spec` per dict, with what it leaves out filled in."""
    return pa.Table.from_pylist(
        [
            {f.name: row.get(f.name, _value(f.type, f.name, i)) for f in spec.arrow}
            for i, row in enumerate(given)
        ],
        schema=spec.arrow,
    )


def plain(table: pa.Table, *key: str) -> list[dict]:
    """Rows as dicts, sorted by key, to compare."""
    return sorted(table.to_pylist(), key=lambda row: repr([row[k] for k in key]))


def publish(lake: Lake, writer: TableWriter, batch_id: int, **counts: int) -> None:
    """The ops.batches row of a batch, with the present version of every table."""
    counts = {
        "record_count": 3,
        "received_count": 3,
        "valid_count": 2,
        "quarantined_count": 1,
        "duplicate_count": 0,
    } | counts
    versions = [
        (spec.full_name, lake.version(spec)) for spec in with_hot_parts_of_lake(lake) if spec is not BATCHES
    ]
    row = {
        "batch_id": batch_id,
        "stream": "s",
        "table_versions": versions,
        "published_at": minute(batch_id),
        "offsets": None,
        **counts,
    }
    writer.append(BATCHES, rows_of(BATCHES, row), Txn("s", batch_id))


def with_hot_parts_of_lake(lake: Lake) -> list[TableSpec]:

    return [spec for spec in with_hot_parts(ALL) if lake.has(spec)]


def drop_lake(spark: Any) -> None:
    """Take a lake's names out of Spark's catalog again."""
    for schema in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP DATABASE IF EXISTS {schema} CASCADE")


def only_redirects_in_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `register_spark` and `register_duckdb` show this one table and its live view: of all views Spark takes ten
    seconds to plan."""
    name = f"{IDENTITY_REDIRECTS.full_name}_live"
    statements = {name: views.view_statements()[name]}
    monkeypatch.setattr(views, "view_statements", lambda: statements)
    monkeypatch.setattr(views, "ALL", (IDENTITY_REDIRECTS, BATCHES))
    monkeypatch.setattr(views, "OUTSIDE_BATCHES", ())


def make_lake(folder: Path, *specs: TableSpec) -> Lake:
    """An empty lake: a copy of one that is made once, because making its tables takes longer than most tests."""
    shutil.copytree(_template((*specs, BATCHES) if specs else ALL), folder, dirs_exist_ok=True)
    return Lake(folder)


@cache
def _template(specs: tuple[TableSpec, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stitchlake-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Lake(folder).create_missing(specs)
    return folder


def _value(kind: pa.DataType, name: str, i: int) -> Any:
    if name == DELETED:
        return False
    if name == "tenant":
        return "default"
    if pa.types.is_struct(kind):
        return {f.name: _value(f.type, f.name, i) for f in kind}
    if pa.types.is_map(kind):
        return [("one", _value(kind.item_type, "", i)), ("two", _value(kind.item_type, "", i + 1))]
    if pa.types.is_list(kind):
        return [_value(kind.value_type, "", i)]
    if pa.types.is_timestamp(kind):
        return minute(i)
    values = {
        pa.int64(): i,
        pa.int32(): i,
        pa.float64(): i / 2,
        pa.bool_(): i % 2 == 0,
        pa.string(): f"{name}-{i}",
    }
    return {**values, pa.binary(): b"\x00\xff" + bytes([i % 256]), pa.date32(): date(2026, 3, 1)}[kind]
