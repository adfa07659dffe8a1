"""The session starts with what the rest relies on: Delta, GraphFrames, Kafka, Arrow, UTC."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines.runtime.session import NOISE, SETTINGS, Scope, build_session
from tests.engine import MASTER


def test_every_setting_has_a_reason_and_is_declared_once() -> None:
    assert all(len(setting.why) > 10 for setting in SETTINGS)
    keys = [setting.key for setting in SETTINGS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "line, is_noise",
    [
        ("WARNING: Using incubator modules: jdk.incubator.vector", True),
        ("Picked up JAVA_TOOL_OPTIONS: -Xmx1g", True),
        ("java.lang.OutOfMemoryError: Java heap space", False),
        ("10:00:00 ERROR MicroBatchExecution: Query terminated with error", False),
    ],
)
def test_only_what_nobody_can_act_on_is_kept_from_the_terminal(line: str, is_noise: bool) -> None:
    assert bool(NOISE.search(line)) == is_noise


def test_a_delta_table_round_trips(spark, lake_dir: Path) -> None:
    rows = [(1, "one"), (2, "two")]
    table = str(lake_dir / "numbers")
    spark.createDataFrame(rows, "id long, word string").write.format("delta").save(table)
    spark.createDataFrame([(3, "three")], "id long, word string").write.format("delta").mode("append").save(
        table
    )
    assert {tuple(row) for row in spark.read.format("delta").load(table).collect()} == {*rows, (3, "three")}


def test_graphframes_finds_connected_components(spark) -> None:
    # 1 ── 2 ── 3      4 ── 5      6
    from graphframes import GraphFrame

    nodes = spark.createDataFrame([(n,) for n in range(1, 7)], "id long")
    edges = spark.createDataFrame([(1, 2), (2, 3), (4, 5)], "src long, dst long")
    found: dict[int, set[int]] = {}
    for row in GraphFrame(nodes, edges).connectedComponents().collect():
        found.setdefault(row["component"], set()).add(row["id"])
    assert {frozenset(component) for component in found.values()} == {
        frozenset({1, 2, 3}),
        frozenset({4, 5}),
        frozenset({6}),
    }


def test_the_kafka_source_and_what_it_needs_can_be_loaded(spark) -> None:
    with pytest.raises(Exception, match=r"kafka\.bootstrap\.servers|subscribe"):
        spark.readStream.format("kafka").load()


def test_functions_on_arrow_run_in_this_interpreter(spark) -> None:
    from pyspark.sql.functions import udf

    where = udf(lambda _: sys.executable, "string", useArrow=True)
    assert {row[0] for row in spark.range(4).select(where("id")).collect()} == {sys.executable}


def test_workers_import_from_no_archive(spark) -> None:
    """Seen to fail with Spark's own daemon: two zips and a jar, read anew for every task."""

    def places(batches):
        import sys

        import pyarrow as pa

        for _ in batches:
            yield pa.record_batch([pa.array(sys.path)], names=["place"])

    rows = spark.range(1).mapInArrow(places, "place string").collect()
    assert [row.place for row in rows if Path(row.place).is_file()] == []


def test_instants_are_utc(spark) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sql("SELECT string(timestamp_micros(0))").first()[0] == "1970-01-01 00:00:00"


def test_a_second_call_finds_the_session_and_leaves_its_settings(spark) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    assert build_session("another name", "local[7]").sparkContext is spark.sparkContext
    assert spark.sparkContext.master == MASTER
    assert spark.conf.get("spark.sql.shuffle.partitions") == before


def test_what_decides_results_holds_in_a_session_that_somebody_else_made(spark) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        build_session("a job")
        for setting in SETTINGS:
            if setting.scope is Scope.ALWAYS:
                assert spark.conf.get(setting.key) == setting.value
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_java_options_of_a_caller_are_added_to_ours(spark) -> None:
    options = spark.sparkContext.getConf().get("spark.driver.extraJavaOptions")
    assert "log4j2.configurationFile" in options
    assert options.endswith("-XX:TieredStopAtLevel=1")
