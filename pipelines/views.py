"""The lake's tables and views in DuckDB and in Spark: the same names, and one SQL text for both."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import unquote

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, UPSERTED
from pipelines.tables.lake import Lake, with_hot_parts
from pipelines.tables.snapshot import Snapshot, published

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

SQL = files("pipelines") / "sql"
COHORTS = ("logged_in_and_used_mobile", "anonymous_three_times_then_logged_in")
_QUOTE = str.maketrans({"'": "''"})
_LITERAL = _QUOTE | str.maketrans({c: f"[{c}]" for c in "*?["})  # DuckDB takes a path for a pattern


def view_statements() -> dict[str, str]:
    """Every view's SELECT by its name, in an order in which they can be created."""
    template = Template((SQL / "live.sql").read_text(encoding="utf-8"))
    views = {f"{spec.full_name}_live": _live(template, spec) for spec in UPSERTED}
    views["silver.device_ownership"] = (SQL / "device_ownership.sql").read_text(encoding="utf-8")
    views["gold.events"] = (SQL / "gold_events.sql").read_text(encoding="utf-8")
    return views


def cohort_query(name: str) -> str:
    """The SQL of a shipped cohort question."""
    return (SQL / "cohorts" / f"{name}.sql").read_text(encoding="utf-8")


def register_duckdb(con: duckdb.DuckDBPyConnection, lake: Lake) -> Snapshot | None:
    """Every table at the version of the last published batch, and every view, in the schemas of the lake.

    Calling it again moves the connection to the batch published last. Before the first one all tables are empty.
    """
    snapshot = published(lake)
    con.execute("SET TimeZone = 'UTC'")
    tables = tuple(with_hot_parts(ALL))
    for schema in dict.fromkeys(spec.schema for spec in tables):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for spec in tables:
        _duckdb_table(con, spec, _files(lake, spec, snapshot))
    for name, statement in view_statements().items():
        con.execute(f"CREATE OR REPLACE VIEW {name} AS {statement}")
    return snapshot


def register_spark(spark: SparkSession, lake: Lake) -> None:
    """Every table and view of the lake in the session's catalog. Dropping one keeps its data: it is external."""
    tables = tuple(with_hot_parts(ALL))
    for schema in dict.fromkeys(spec.schema for spec in tables):
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {schema}")
    for spec in tables:
        location = str(lake.table_path(spec)).translate(_QUOTE)
        # A name may still stand for another lake's table.
        spark.sql(f"DROP TABLE IF EXISTS {spec.full_name}")
        spark.sql(f"CREATE TABLE {spec.full_name} USING delta LOCATION '{location}'")
    for name, statement in view_statements().items():
        spark.sql(f"CREATE OR REPLACE VIEW {name} AS {statement}")


def _live(template: Template, spec: TableSpec) -> str:
    return template.substitute(
        view=f"{spec.full_name}_live",
        base=spec.full_name,
        hot=spec.hot.full_name,
        key=", ".join(f"hot.{k}" for k in spec.key),
        columns=", ".join(spec.names),
        same_key=" AND ".join(f"newest.{k} = base.{k}" for k in spec.key),
    )


def _files(lake: Lake, spec: TableSpec, snapshot: Snapshot | None) -> list[str]:
    version = None if snapshot is None else snapshot.version(spec)
    if version is None and not (spec is BATCHES and snapshot is not None):
        return []
    # The row that publishes a batch cannot know the version that it becomes itself, so ops.batches is read as it is.
    table = lake.open(spec, None if spec is BATCHES else version)
    # Not `file_uris()`: those are URIs, with the folder's own spaces and umlauts encoded.
    return [
        str(lake.table_path(spec) / unquote(path)) for path in table.get_add_actions()["path"].to_pylist()
    ]


def _duckdb_table(con: duckdb.DuckDBPyConnection, spec: TableSpec, paths: list[str]) -> None:
    """A view over the table's files: delta-rs says which those are, and DuckDB reads them faster than a dataset."""
    declared = f"{spec.schema}.__{spec.name}_columns"
    empty = spec.arrow.empty_table()
    con.register("__declared", empty)
    con.execute(f"DROP VIEW IF EXISTS {spec.full_name}")
    con.execute(f"CREATE OR REPLACE TABLE {declared} AS SELECT * FROM __declared")
    con.unregister("__declared")
    rows = f"SELECT * FROM {declared}"
    if paths:
        listed = ", ".join("'" + path.translate(_LITERAL) + "'" for path in paths)
        # BY NAME: an older file lacks the columns that were declared after it, and they read as null.
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"
    con.execute(f"CREATE OR REPLACE VIEW {spec.full_name} AS {rows}")
