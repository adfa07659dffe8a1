"""The views say the same in DuckDB and in Spark, and never more than what is published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from chispa import assert_df_equality

from conf.table_spec import TableSpec
from conf.tables import EVENTS, IDENTITY_MAP, PROFILES, SESSIONS, UPSERTED
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.views import (
    ANALYST_VIEWS,
    COHORTS,
    CatalogConflict,
    cohort_query,
    register_duckdb,
    register_spark,
    view_grain,
    view_statements,
)
from pipelines.lake.writing.compaction import compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import drop_lake, make_lake, minute, plain, publish, rows_of

pytestmark = pytest.mark.thorough  # many small tables; left to the whole run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEYS = (
    "event_id",
    "session_id",
    "node_id",
    "anchor_node_id",
    "canonical_id",
    "activity_date",
    "platform",
    "batch_id",
)
PHONE, ADA, BOB, KIOSK = 1, 11, 12, 5


def put(lake: Lake, spec: TableSpec, batch: int, *rows: dict[str, Any]) -> None:
    stamp = "updated_batch_id" if "updated_batch_id" in spec.names else "batch_id"
    DeltaRsWriter(lake).append(spec, rows_of(spec, *({stamp: batch, **row} for row in rows)), Txn("s", batch))


def duck(lake: Lake) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    register_duckdb(con, lake)
    return con


def event(name: str, at: float, anchor: int = PHONE) -> dict[str, Any]:
    return {"event_id": name, "event_at": minute(at), "anchor_node_id": anchor}


def session(number: int, first: tuple[str, float], last: tuple[str, float], **columns: Any) -> dict[str, Any]:
    (start_id, start), (end_id, end) = first, last
    return {
        "session_id": number,
        "anchor_node_id": PHONE,
        "owner_node_id": PHONE,
        "user_node_id": None,
        "is_anonymous": True,
        **{
            "start_at": minute(start),
            "start_event_id": start_id,
            "end_at": minute(end),
            "end_event_id": end_id,
        },
        **columns,
    }


def owner(node: int, person: int) -> dict[str, Any]:
    return {"node_id": node, "canonical_id": person}


@pytest.fixture
def lake(lake_dir: Path) -> Lake:
    """An anonymous phone in batch 1; Ada logs in on it in batch 2; batch 3 is half-written."""
    lake = make_lake(lake_dir)
    put(lake, EVENTS, 1, event("a", 0), event("b", 5), event("c", 60), event("d", 60, KIOSK))
    put(lake, SESSIONS.hot, 1, session(1, ("a", 0), ("b", 5)), session(2, ("c", 60), ("c", 60)))
    unclaimed = {"anchor_node_id": KIOSK, "owner_node_id": -KIOSK}
    put(lake, IDENTITY_MAP.hot, 1, owner(PHONE, 100), owner(-KIOSK, 105))
    put(
        lake,
        PROFILES.hot,
        1,
        {"canonical_id": 100, "login_count": 0},
        {"canonical_id": 105, "login_count": 0},
    )
    publish(lake, DeltaRsWriter(lake), 1)
    put(lake, EVENTS, 2, event("e", 60), event("f", 61))
    # The kiosk's session comes with batch 2, and the phone's second one grows into a login.
    put(
        lake,
        SESSIONS.hot,
        2,
        session(2, ("c", 60), ("f", 61), owner_node_id=ADA, user_node_id=ADA, is_anonymous=False),
        session(3, ("d", 60), ("d", 60), **unclaimed),
    )
    put(lake, IDENTITY_MAP.hot, 2, owner(PHONE, 110), owner(ADA, 110))
    ada = {"login_count": 1, "has_used_mobile": True, "anonymous_session_count_before_first_login": 3}
    put(lake, PROFILES.hot, 2, {"canonical_id": 100, "is_deleted": True}, {"canonical_id": 110, **ada})
    publish(lake, DeltaRsWriter(lake), 2)
    put(lake, EVENTS, 3, event("g", 62))
    put(lake, PROFILES.hot, 3, {"canonical_id": 110, "is_deleted": True}, {"canonical_id": 120, **ada})
    return lake


def test_unpublished_hot_rows_are_invisible_in_live_views(lake: Lake) -> None:
    con = duck(lake)
    found = con.sql("SELECT canonical_id FROM gold.profiles_live ORDER BY 1").fetchall()
    assert found == [(105,), (110,)]
    assert con.sql("SELECT max(batch_id) FROM silver.events").fetchall() == [(2,)]


def test_before_the_first_published_batch_every_table_is_there_and_empty(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    put(lake, PROFILES.hot, 1, {"canonical_id": 1})
    con = duck(lake)
    for name in (*view_statements(), "gold.profiles", "gold.profiles_hot", "ops.batches", "bronze.events"):
        assert con.sql(f"SELECT count(*) FROM {name}").fetchall() == [(0,)], name


def test_an_anonymous_history_is_the_persons_as_soon_as_she_logs_in(lake: Lake) -> None:
    con = duck(lake)
    found = con.sql("SELECT event_id, session_id, canonical_id FROM gold.events ORDER BY event_id").fetchall()
    assert found == [("a", 1, 110), ("b", 1, 110), ("c", 2, 110), ("d", 3, 105), ("e", 2, 110), ("f", 2, 110)]


def test_a_device_is_owned_in_intervals_of_neighbouring_sessions_of_one_person(lake: Lake) -> None:
    found = duck(lake).sql(
        """SELECT anchor_node_id, interval_number, owner_node_id, canonical_id, owned_from_at, owned_to_at,
                  session_count, anonymous_session_count, is_claimed
           FROM silver.device_ownership ORDER BY ALL"""
    )
    assert found.fetchall() == [
        (PHONE, 1, ADA, 110, minute(0), minute(61), 2, 1, True),
        (KIOSK, 1, -KIOSK, 105, minute(60), minute(60), 1, 1, False),
    ]


def test_live_views_say_what_the_snapshot_says_before_and_after_compaction(lake: Lake) -> None:
    for _ in range(2):
        snapshot, con = published(lake), duck(lake)
        for spec in UPSERTED:
            rows = con.sql(f"SELECT * FROM {spec.full_name}_live").to_arrow_table().cast(spec.arrow)
            assert plain(rows, *spec.key) == plain(snapshot.arrow(spec), *spec.key)
            compact_hot(lake, spec, 2, DeltaRsWriter(lake))
        publish(lake, DeltaRsWriter(lake), 4)


def test_registering_again_moves_on_to_the_batch_published_last(lake: Lake) -> None:
    con = duck(lake)
    publish(lake, DeltaRsWriter(lake), 3)
    assert register_duckdb(con, lake).batch_id == 3
    assert con.sql("SELECT canonical_id FROM gold.profiles_live ORDER BY 1").fetchall() == [(105,), (120,)]


@pytest.mark.parametrize("name", COHORTS)
def test_a_cohort_query_states_its_question_and_finds_who_it_asks_for(lake: Lake, name: str) -> None:
    query = cohort_query(name)
    assert query.startswith("-- Who ")
    assert query.splitlines()[0].endswith("?")
    found = duck(lake).sql(query).to_arrow_table()
    assert found["canonical_id"].to_pylist() == [110]


def test_a_folder_with_a_curious_name_is_only_a_folder(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "ada's größter lake 100%* ?")
    put(lake, PROFILES.hot, 1, {"canonical_id": 1})
    publish(lake, DeltaRsWriter(lake), 1)
    assert duck(lake).sql("SELECT count(*) FROM gold.profiles_live").fetchall() == [(1,)]


@pytest.mark.slow  # Spark plans a view of views for ten seconds
def test_every_view_and_cohort_says_the_same_in_spark_and_in_duckdb(lake: Lake, spark: SparkSession) -> None:
    from pyspark.sql.pandas.types import to_arrow_schema

    compact_hot(lake, SESSIONS, 1, DeltaRsWriter(lake))
    publish(lake, DeltaRsWriter(lake), 2)  # seen before: the versions on record stay those of batch 2
    register_spark(spark, lake)
    con = duck(lake)
    try:
        queries = [
            f"SELECT * FROM {name}" for name in (f"{SESSIONS.full_name}_live", *ANALYST_VIEWS, "ops.batches")
        ]
        queries += [cohort_query(name) for name in COHORTS]
        for query in queries:
            there, here = spark.sql(query), con.sql(query).to_arrow_table()
            assert here.num_rows > 0
            key = [n for n in KEYS if n in here.column_names]
            assert_df_equality(
                there,
                spark.createDataFrame(here.cast(to_arrow_schema(there.schema))),
                transforms=[lambda frame, key=key: frame.orderBy(*key)],
                ignore_nullable=True,
                ignore_metadata=True,
            )
        comments = {row.col_name: row.comment for row in spark.sql("DESCRIBE gold.profiles").collect()}
        assert comments["session_count"] == "sessions"
    finally:
        drop_lake(spark)
    assert lake.has(SESSIONS)  # views: the data outlives the catalog


@pytest.mark.slow  # Spark plans a view of views for ten seconds
def test_spark_shows_the_published_batch_until_it_is_told_to_move_on(lake: Lake, spark: SparkSession) -> None:
    def seen() -> tuple[list[int], set[str]]:
        people = spark.sql("SELECT canonical_id FROM gold.profiles_hot WHERE NOT is_deleted").collect()
        return sorted(row[0] for row in people), {
            r[0] for r in spark.sql("SELECT event_id FROM silver.events").collect()
        }

    # The half-written batch 3 has rows in both tables, which are at their newest version already.
    try:
        shown = register_spark(spark, lake)
        before = seen()
        assert before == ([100, 105, 110], set("abcdef"))
        publish(lake, DeltaRsWriter(lake), 3)
        assert seen() == before
        moved = register_spark(spark, lake, shown)
        assert seen() == ([100, 105, 110, 120], set("abcdefg"))
        assert moved is not None
        assert moved.batch_id == 3
        assert register_spark(spark, lake, moved) == moved
    finally:
        drop_lake(spark)


def test_a_table_of_somebody_else_in_sparks_catalog_is_left_alone(lake: Lake, spark: SparkSession) -> None:
    try:
        spark.sql("CREATE DATABASE gold")
        spark.sql("CREATE TABLE gold.profiles USING parquet AS SELECT 1 AS precious")
        with pytest.raises(CatalogConflict, match=r"gold\.profiles"):
            register_spark(spark, lake)
        assert spark.sql("SELECT precious FROM gold.profiles").collect()[0][0] == 1
    finally:
        drop_lake(spark)


def test_before_the_first_published_batch_sparks_tables_are_there_and_empty(lake_dir: Path, spark) -> None:
    try:
        assert register_spark(spark, make_lake(lake_dir)) is None
        for name in ("gold.events", "gold.profiles_live", "ops.batches"):
            assert spark.sql(f"SELECT * FROM {name}").collect() == [], name
    finally:
        drop_lake(spark)


def test_sessions_are_numbered_per_person_and_know_whether_they_led_to_the_first_login(lake: Lake) -> None:
    put(lake, PROFILES.hot, 4, {"canonical_id": 110, "first_login_at": minute(60)})
    publish(lake, DeltaRsWriter(lake), 4)
    found = duck(lake).sql(
        "SELECT canonical_id, session_number, session_id, duration_seconds, is_anonymous_before_first_login"
        " FROM gold.person_sessions ORDER BY 1, 2"
    )
    assert found.fetchall() == [(105, 1, 3, 0, False), (110, 1, 1, 300, True), (110, 2, 2, 60, False)]


def test_an_analysts_view_says_what_one_row_is_and_has_no_raw_identifier() -> None:
    for name in ANALYST_VIEWS:
        assert view_grain(name).startswith("one ")
        assert "identifiers AS" not in view_statements()[name]
        assert not re.search(r"\bsilver\.identifiers\b", re.sub("--.*", "", view_statements()[name]))
