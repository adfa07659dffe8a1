"""The lake's tables and views in DuckDB and in Spark: the same names, and one SQL text for both."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import unquote

from conf.errors import Refusal
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, OUTSIDE_BATCHES, UPSERTED
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published
from pipelines.runtime.contained import contained

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

SQL = files("pipelines") / "sql"
ANALYST_VIEWS = (
    "silver.device_ownership",
    "gold.events",
    "gold.person_sessions",
    "gold.campaign_touches",
    "gold.daily_activity",
    "gold.person_identifiers",
)
COHORTS = ("logged_in_and_used_mobile", "anonymous_three_times_then_logged_in")
_QUOTE = str.maketrans({"'": "''"})
_SPARK_TEXT = str.maketrans({"'": "\\'", "\\": "\\\\"})
_PATTERN = str.maketrans({c: f"[{c}]" for c in "*?["})  # DuckDB takes a path for a pattern


class CatalogConflict(Refusal):
    """Spark's catalog has something else under the name of one of the lake's tables."""


def view_statements() -> dict[str, str]:
    """Every view's SELECT by its name, in an order in which they can be created."""
    template = Template((SQL / "live.sql").read_text(encoding="utf-8"))
    views = {f"{spec.full_name}_live": live_select(template, spec) for spec in UPSERTED}
    for name in ANALYST_VIEWS:
        views[name] = (SQL / f"{name.replace('.', '_')}.sql").read_text(encoding="utf-8")
    return views


def view_grain(name: str) -> str:
    """What one row of a view is: the first line of its SQL."""
    first = view_statements()[name].splitlines()[0]
    return first.removeprefix(f"-- {name}: ").removesuffix(".")


def cohort_query(name: str) -> str:
    """The SQL of a shipped cohort question."""
    return (SQL / "cohorts" / f"{name}.sql").read_text(encoding="utf-8")


def register_duckdb(
    con: duckdb.DuckDBPyConnection, lake: Lake, at: Snapshot | None = None
) -> Snapshot | None:
    """Every table at the version of the last published batch, and every view, in the schemas of the lake.

    Calling it again moves the connection to the batch published last, or to `at`. Before the first one all tables are
    empty.
    """
    snapshot = at or published(lake)
    _register_files(con, lake, snapshot)
    return snapshot


def reading_duckdb(lake: Lake, at: Snapshot | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own with the lake's tables and views, which opens the files of those and nothing else."""
    import duckdb

    con = duckdb.connect()
    # Names mean tables of the lake, not variables of this program.
    con.execute("SET python_enable_replacements = false")
    paths = _register_files(con, lake, at or published(lake))
    con.execute(f"SET allowed_paths = [{', '.join(map(_duckdb_text, paths))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def _register_files(con: duckdb.DuckDBPyConnection, lake: Lake, snapshot: Snapshot | None) -> list[str]:
    """Every table and view; returns the files behind them, each as it lies and as the pattern that finds it."""
    con.execute("SET TimeZone = 'UTC'")
    tables = tuple(with_hot_parts((*ALL, *OUTSIDE_BATCHES)))
    for schema in dict.fromkeys(spec.schema for spec in tables):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    paths: list[str] = []
    for spec in tables:
        only = f"batch_id <= {snapshot.batch_id}" if spec is BATCHES and snapshot is not None else "true"
        files = _files(lake, spec, snapshot)
        _duckdb_table(con, spec, files, only)
        paths += [*files, *(path.translate(_PATTERN) for path in files)]
    for name, statement in view_statements().items():
        con.execute(f"CREATE OR REPLACE VIEW {name} AS {statement}")
    return paths


def register_spark(
    spark: SparkSession, lake: Lake, shown: Snapshot | None = None, at: Snapshot | None = None
) -> Snapshot | None:
    """The same names in the session's catalog, every table as a view of its published version.

    Calling it again moves the catalog to the batch published last, or to `at`; `shown`, what the catalog shows already,
    keeps that to the tables that have changed. CatalogConflict when a table of somebody else's has one of the names.
    """
    snapshot = at or published(lake)
    if shown is not None and snapshot == shown:
        return snapshot
    tables = tuple(with_hot_parts((*OUTSIDE_BATCHES, *ALL)))
    for schema in dict.fromkeys(spec.schema for spec in tables):
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {schema}")
    for spec in tables:  # ops.batches last: until then the views show nothing that is newer
        if (
            shown is None
            or snapshot is None
            or spec is BATCHES
            or spec in OUTSIDE_BATCHES
            or snapshot.version(spec) != shown.version(spec)
        ):
            _spark_view(spark, spec.full_name, spec.grain, _spark_select(lake, spec, snapshot))
    if shown is None:
        for name, statement in view_statements().items():
            _spark_view(spark, name, view_grain(name), statement)
    return snapshot


def _spark_view(spark: SparkSession, name: str, grain: str, select: str) -> None:
    from pyspark.errors import AnalysisException

    try:
        spark.sql(f"CREATE OR REPLACE VIEW {name} COMMENT '{grain.translate(_SPARK_TEXT)}' AS {select}")
    except AnalysisException as e:
        if (e.getCondition() or "").startswith("EXPECT_VIEW_NOT_TABLE"):
            raise CatalogConflict(
                f"the catalog has a table {name} of its own, which is not touched; use another catalog for the lake"
            ) from None
        raise


def _spark_select(lake: Lake, spec: TableSpec, snapshot: Snapshot | None) -> str:
    """The rows of a table as of a snapshot; a column that was declared after its version is null."""
    if spec in OUTSIDE_BATCHES and lake.has(spec):  # its own version: no batch writes it
        version: int | None = lake.version(spec)
    else:
        version = None if snapshot is None else snapshot.version(spec)
    if snapshot is None or (version is None and spec is not BATCHES):
        return _select(spec, set(), "WHERE false")
    table = lake.open(spec, version)
    if spec.is_hot and table.count() == 0:
        return _select(
            spec, set(), "WHERE false"
        )  # Spark then drops it from the plan: a live view is its base
    present = {f.name for f in table.schema().fields}
    path = f"delta.`{str(lake.table_path(spec)).replace('`', '``')}`"
    if spec is BATCHES:  # its last row cannot name the version that it becomes itself
        return _select(spec, present, f"FROM {path} WHERE batch_id <= {snapshot.batch_id}")
    return _select(spec, present, f"FROM {path} VERSION AS OF {version}")


def _select(spec: TableSpec, present: set[str], rows: str) -> str:
    columns = (c.name if c.name in present else f"CAST(NULL AS {c.type}) AS {c.name}" for c in spec.columns)
    return f"SELECT {', '.join(columns)} {rows}"


def live_select(
    template: Template, spec: TableSpec, base: str = "", hot: str = "", batches: str = BATCHES.full_name
) -> str:
    """The SELECT of a table's live rows, from `live.sql`. `base`, `hot`, `batches`: other names for what it reads."""
    return template.substitute(
        view=f"{spec.full_name}_live",
        base=base or spec.full_name,
        hot=hot or spec.hot.full_name,
        batches=batches,
        key=", ".join(f"hot.{k}" for k in spec.key),
        columns=", ".join(spec.names),
        same_key=" AND ".join(f"newest.{k} = base.{k}" for k in spec.key),
    )


def _files(lake: Lake, spec: TableSpec, snapshot: Snapshot | None) -> list[str]:
    version = None if snapshot is None else snapshot.version(spec)
    is_newest = (spec is BATCHES and snapshot is not None) or (spec in OUTSIDE_BATCHES and lake.has(spec))
    if version is None and not is_newest:
        return []
    # The row that publishes a batch cannot know the version that it becomes itself, so ops.batches is read as it is.
    table = lake.open(spec, None if is_newest else version)
    # Not `file_uris()`: those are URIs, with the folder's own spaces and umlauts encoded.
    return [
        str(contained(lake.table_path(spec), unquote(path)))
        for path in table.get_add_actions()["path"].to_pylist()
    ]


def _duckdb_text(text: str) -> str:
    return f"'{text.translate(_QUOTE)}'"


def _duckdb_table(
    con: duckdb.DuckDBPyConnection, spec: TableSpec, paths: list[str], only: str = "true"
) -> None:
    """A view over the table's files: delta-rs says which those are, and DuckDB reads them faster than a dataset."""
    declared = f"{spec.schema}.__{spec.name}_columns"
    empty = spec.arrow.empty_table()
    con.register("__declared", empty)
    con.execute(f"DROP VIEW IF EXISTS {spec.full_name}")
    con.execute(f"CREATE OR REPLACE TABLE {declared} AS SELECT * FROM __declared")
    con.unregister("__declared")
    rows = f"SELECT * FROM {declared}"
    if paths:
        listed = ", ".join(_duckdb_text(path.translate(_PATTERN)) for path in paths)
        # BY NAME: an older file lacks the columns that were declared after it, and they read as null.
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"
    con.execute(f"CREATE OR REPLACE VIEW {spec.full_name} AS FROM ({rows}) WHERE {only}")
