"""What is a question to a lake, for DuckDB and for Spark: reading its published tables, and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import pytest

from conf.tables import PROFILES
from pipelines.apps.questions import QueryRefused, duckdb_question, require_spark_question
from pipelines.apps.reading_sessions import reading_sessions
from pipelines.lake.lake import Lake
from pipelines.lake.views import reading_duckdb, view_statements
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import make_lake, publish, rows_of


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """One published profile, in a folder whose name is a pattern to DuckDB."""
    lake = make_lake(tmp_path_factory.mktemp("questions") / "o'hara [1]*" / "lake")
    writer = DeltaRsWriter(lake)
    person = {"canonical_id": 7, "login_count": 1, "updated_batch_id": 1}
    writer.append(PROFILES.hot, rows_of(PROFILES.hot, person), Txn("s", 1))
    publish(lake, writer, 1)
    return lake


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Statements that do more than read. What the engine lets this connection do, it would really do.
STOPPED_BY_THE_ENGINE_TOO = [
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{log}'",
    "EXPLAIN (ANALYZE, FORMAT JSON) COPY (SELECT 1) TO '{log}'",
    "/* ö */ EXPLAIN -- ANALYZE\n ANALYZE /* SELECT */ COPY (SELECT 1) TO '{log}'",
    "EXPLAIN COPY (SELECT 1) TO '{log}'",
    "PRAGMA threads = 1",
    "ATTACH '{log}.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '{log}.d'",
    "SELECT 1; COPY (SELECT 1) TO '{log}'",
    "CALL enable_logging()",
]
STOPPED_BY_THE_JUDGE_ALONE = [
    "EXPLAIN ANALYZE COPY (SELECT 1 a) TO '{data}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE CREATE TABLE main.t AS SELECT 1",
    "EXPLAIN ANALYZE DROP VIEW gold.profiles",
    "EXPLAIN SET threads = 1",
    "WITH a AS (SELECT 1) INSERT INTO gold.__profiles_columns (canonical_id) FROM a",
    "PREPARE p AS SELECT 1",
]


def about(lake: Lake, query: str) -> str:
    """`query` with a published file, and the next commit of a table's log, in their places."""
    data = next(lake.path.rglob("gold/*/*.parquet"))
    log = lake.path / "bronze" / "events" / "_delta_log" / "00000000000000000001.json"
    return query.format(**{n: str(p).replace("'", "''") for n, p in (("log", log), ("data", data))})


@pytest.mark.parametrize("query", STOPPED_BY_THE_ENGINE_TOO + STOPPED_BY_THE_JUDGE_ALONE)
def test_duckdb_writes_nothing_whatever_is_asked(lake: Lake, query: str) -> None:
    before = contents(lake.path)
    with pytest.raises(QueryRefused):
        duckdb_question(reading_duckdb(lake), about(lake, query))
    assert contents(lake.path) == before


def test_without_the_judge_no_log_can_be_written_and_the_other_statements_would_run(
    lake: Lake, tmp_path: Path
) -> None:
    """So none is refused above for another reason than what it does."""
    copy = Lake(shutil.copytree(lake.path, tmp_path / "lake"))
    before = contents(copy.path)
    for query in STOPPED_BY_THE_ENGINE_TOO:
        with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)) as refused:
            reading_duckdb(copy).execute(about(copy, query))
        assert re.search("Cannot access|is disabled|Cannot change configuration", str(refused.value)), query
    assert contents(copy.path) == before
    for query in STOPPED_BY_THE_JUDGE_ALONE[::-1]:  # the one that overwrites a file at the end
        reading_duckdb(copy).execute(about(copy, query))
    assert contents(copy.path) != before


@pytest.mark.parametrize(
    "query",
    [
        "EXPLAIN SELECT canonical_id FROM gold.profiles_live",
        "EXPLAIN ANALYZE (SELECT 'ü', ';' FROM gold.profiles_live)",
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1",
        "explain (format json) with a as (select 1) from a",
        "-- a remark: ö\nEXPLAIN /* and ) another */ FROM gold.profiles_live;",
        "(SELECT count(*) FROM gold.events) UNION ALL VALUES (1)",
        "SUMMARIZE gold.profiles",
    ],
)
def test_duckdb_answers_every_question_and_explains_it(lake: Lake, query: str) -> None:
    con = reading_duckdb(lake)
    assert con.execute(duckdb_question(con, query)).fetchall()


@pytest.mark.parametrize(
    "source",
    [
        "read_text('/etc/hostname')",
        "read_blob('{lake}/bronze/events/_delta_log/00000000000000000000.json')",
        "read_csv('{lake}/../key')",
        "glob('{lake}/**')",
        "'{lake}/stray.parquet'",
        "read_parquet('{lake}/gold/*/*.parquet')",
    ],
)
def test_duckdb_opens_the_published_files_and_no_other(lake: Lake, source: str) -> None:
    if "stray" in source:  # as a batch leaves one that was never published
        shutil.copy(next((lake.path / "gold").rglob("*.parquet")), lake.path / "stray.parquet")
    con = reading_duckdb(lake)
    assert con.execute("SELECT canonical_id FROM gold.profiles_live").fetchall() == [(7,)]
    folder = str(lake.path).replace("'", "''")
    with pytest.raises(duckdb.PermissionException):
        con.execute(f"FROM {source.format(lake=folder)}").fetchall()


def test_a_lake_named_by_a_relative_path_answers_too(lake: Lake, monkeypatch) -> None:
    monkeypatch.chdir(lake.path.parent)
    assert reading_duckdb(Lake(Path("lake"))).execute("FROM gold.profiles_live").fetchall()


FILE = "text.`/etc/hostname`"
SPARK_QUESTIONS = """
    -- a remark\\nSELECT 1
    /* a remark */ SELECT count(*) FROM gold.profiles_live p JOIN gold.events e ON true GROUP BY ALL HAVING count(*) > 1
    WITH a AS (SELECT 1 x), b AS (TABLE a) SELECT * FROM a UNION ALL SELECT * FROM b EXCEPT SELECT 2 INTERSECT SELECT 1
    WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT * FROM t
    FROM gold.profiles SELECT canonical_id ORDER BY 1 LIMIT 3 OFFSET 1
    FROM gold.profiles |> WHERE canonical_id > 1 |> AGGREGATE count(*)
    SELECT * FROM VALUES (1, 2) t(a, b)
    SELECT * FROM range(3) r(x)
    SELECT * FROM gold.profiles LATERAL VIEW explode(platforms) p AS platform
    SELECT * FROM gold.profiles, LATERAL (SELECT 1)
    SELECT row_number() OVER w FROM gold.profiles WINDOW w AS (ORDER BY canonical_id)
    SELECT * FROM (SELECT 1 a, 2 b) PIVOT (sum(b) FOR a IN (1))
    SELECT * FROM (SELECT 1 a, 2 b) UNPIVOT (v FOR k IN (a, b))
    SELECT /*+ BROADCAST(p) */ * FROM spark_catalog.gold.profiles TABLESAMPLE (10 PERCENT) p
    SELECT (SELECT max(canonical_id) FROM gold.profiles), exists(array(1), x -> x > 0), 1 AS `reflect`
    SELECT * FROM gold.profiles DISTRIBUTE BY canonical_id SORT BY canonical_id
    DESCRIBE EXTENDED gold.profiles
    DESCRIBE QUERY SELECT 1
    SHOW TABLES IN gold
    SHOW COLUMNS IN gold.profiles
    EXPLAIN FORMATTED SELECT * FROM gold.profiles
"""
SPARK_REFUSED = f"""
    WITH p AS (SELECT 1) INSERT INTO gold.profiles SELECT * FROM p
    FROM gold.profiles INSERT INTO gold.profiles_hot SELECT *
    INSERT OVERWRITE DIRECTORY '/tmp/nowhere' USING csv SELECT 1
    EXPLAIN INSERT INTO gold.profiles VALUES (1)
    MERGE INTO gold.profiles USING gold.profiles_hot ON true WHEN MATCHED THEN DELETE
    DELETE FROM delta.`/tmp/nowhere`
    VACUUM delta.`/tmp/nowhere`
    CREATE TEMP VIEW v USING csv OPTIONS (path '/etc/hostname')
    CACHE TABLE x AS SELECT 1
    ADD JAR '/tmp/x.jar'
    SET a = b
    USE gold
    EXECUTE IMMEDIATE 'CREATE VIEW v AS SELECT 1'
    SELECT TRANSFORM (1) USING 'cat /etc/hostname'
    SELECT reflect('java.lang.System', 'getProperty', 'user.home')
    SELECT system.builtin.`java_method`('java.lang.System', 'getProperty', 'user.home')
    SELECT transform(array(1), x -> reflect('a', 'b'))
    SELECT * FROM explode(array(reflect('a', 'b')))
    SELECT sum(reflect('a', 'b')) OVER () FROM gold.profiles
    SELECT * FROM table_changes_by_path('/tmp/nowhere', 0)
    SELECT * FROM IDENTIFIER('{FILE}')
    SELECT * FROM {FILE}
    SELECT * FROM {FILE} VERSION AS OF 1
    WITH a AS (SELECT * FROM {FILE}) SELECT * FROM a
    SELECT (SELECT max(value) FROM {FILE})
    SELECT 1 IN (SELECT value FROM {FILE})
    SELECT 1 WHERE EXISTS (SELECT 1 FROM {FILE})
    SELECT * FROM gold.profiles, LATERAL (SELECT * FROM {FILE})
    EXPLAIN SELECT * FROM {FILE}
    DESCRIBE SELECT * FROM {FILE}
    DESCRIBE {FILE}
    SHOW COLUMNS IN {FILE}
"""


def listed(text: str) -> list[str]:
    return [line.strip().replace("\\n", "\n") for line in text.splitlines() if line.strip()]


def test_spark_reads_the_lakes_tables_and_refuses_everything_else(spark) -> None:
    parser = spark._jsparkSession.sessionState().sqlParser()
    for query in [*listed(SPARK_QUESTIONS), *view_statements().values()]:
        require_spark_question(parser.parsePlan(query))
    for query in listed(SPARK_REFUSED):
        plan = parser.parsePlan(query)
        with pytest.raises(QueryRefused):
            require_spark_question(plan)


def test_a_connection_of_the_sql_server_reads_views_and_refuses_to_change_anything(
    spark, tmp_path: Path
) -> None:
    """The server's own session goes on as it was, and after the server so does every new one."""
    file = tmp_path / "file.txt"
    file.write_text("a line\n")
    spark.sql("CREATE DATABASE IF NOT EXISTS gold")
    spark.sql(f"CREATE OR REPLACE VIEW gold.events AS SELECT * FROM text.`{file}`")
    try:
        with reading_sessions(spark):
            connection = spark._jsparkSession.newSession()
            connection.sql("USE gold")
            connection.sql("SET spark.sql.shuffle.partitions = 2")
            assert connection.sql("SELECT value FROM events").first().getString(0) == "a line"
            for query, said in (
                (f"SELECT * FROM text.`{file}`", "only the lake's tables are read"),
                (f"INSERT OVERWRITE DIRECTORY '{tmp_path}/out' USING csv SELECT 1", "only questions"),
                ("SELEC 1", "PARSE_SYNTAX_ERROR"),
            ):
                with pytest.raises(Exception, match=said):
                    connection.sql(query).collectAsList()
            assert spark.sql(f"SELECT * FROM text.`{file}`").count() == 1
        assert spark._jsparkSession.newSession().sql(f"SELECT * FROM text.`{file}`").count() == 1
        assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    finally:
        spark.sql("DROP DATABASE gold CASCADE")
