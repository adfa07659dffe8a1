"""The pipeline that the textbooks give: default settings, MERGE into every table, GraphFrames over the whole graph.

`python -m benchmarks.baselines.textbook LANDING LAKE [--once]` streams a folder of native events and prints one JSON
line a batch, as `stitchlake run --json` does. What it knows of identity is plain connected components: an identifier
that two people share makes them one. It says nothing of broken batches, late sessions, stable ids or erasure.

    raw ─▶ bronze ─▶ new events ─▶ edges ─▶ GraphFrames over all edges ─▶ whose is what ─▶ sessions and profiles of
                      (MERGE)      (MERGE)                                  (MERGE)          the batch's people (MERGE)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from delta.tables import DeltaTable
from graphframes import GraphFrame
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from pipelines.runtime.jars import resolve_jars
from pipelines.runtime.java import find_java
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.stop_signals import stop_signals

NAMESPACES = ("user_id", "email", "phone", "device_id", "cookie_id")
EVENT = (
    "event_id STRING, timestamp STRING, event_type STRING, platform STRING, identifiers MAP<STRING, STRING>"
)
TABLES = {
    "bronze": "value STRING",
    "events": "event_id STRING, event_type STRING, platform STRING, event_at TIMESTAMP, anchor STRING, "
    "user_id STRING, ids ARRAY<STRING>",
    "edges": "src STRING, dst STRING, evidence_count LONG",
    "identity_map": "id STRING, canonical_id STRING",
    "sessions": "session_id STRING, canonical_id STRING, anchor STRING, start_at TIMESTAMP, end_at TIMESTAMP, "
    "event_count LONG, is_anonymous BOOLEAN",
    "profiles": "canonical_id STRING, platforms ARRAY<STRING>, session_count LONG, event_count LONG, "
    "login_count LONG, first_seen_at TIMESTAMP, last_seen_at TIMESTAMP",
}
_EPOCH = "try_cast(timestamp AS DOUBLE)"
EVENT_AT = (
    f"CASE WHEN {_EPOCH} IS NULL THEN try_to_timestamp(timestamp) "
    f"WHEN {_EPOCH} > 1e17 THEN timestamp_micros(CAST({_EPOCH} / 1e3 AS LONG)) "
    f"WHEN {_EPOCH} > 1e14 THEN timestamp_micros(CAST({_EPOCH} AS LONG)) "
    f"WHEN {_EPOCH} > 1e11 THEN timestamp_millis(CAST({_EPOCH} AS LONG)) "
    f"ELSE timestamp_seconds({_EPOCH}) END"
)


class Textbook:
    """`process` is its foreachBatch function."""

    def __init__(self, spark: SparkSession, lake: Path) -> None:
        self.spark, self.lake = spark, lake
        for name, schema in TABLES.items():
            if not DeltaTable.isDeltaTable(spark, self._path(name)):
                spark.createDataFrame([], schema).write.format("delta").save(self._path(name))

    def process(self, batch: DataFrame, batch_id: int) -> None:
        started = time.perf_counter()
        batch.persist()
        received = batch.count()
        self._append("bronze", batch)
        events = parsed(batch).dropDuplicates(["event_id"])
        # Computed now, and not merely kept: what is kept of a table is forgotten when the table is written to.
        events = events.join(
            self._read("events").select("event_id"), "event_id", "left_anti"
        ).localCheckpoint()
        self._merge("events", events, "t.event_id = s.event_id", updates=False)
        self._merge(
            "edges",
            edges_of(events),
            "t.src = s.src AND t.dst = s.dst",
            {"evidence_count": "t.evidence_count + s.evidence_count"},
        )
        self._merge("identity_map", self._components(), "t.id = s.id")
        self._fold(events)
        batch.unpersist()
        seconds = time.perf_counter() - started
        print(
            json.dumps({"batch_id": batch_id, "received": received, "seconds": round(seconds, 4)}), flush=True
        )

    def _components(self) -> DataFrame:
        """Every identifier's person: the whole graph, from the beginning."""
        vertices = self._read("events").select(F.explode("ids").alias("id")).distinct()
        found = GraphFrame(vertices, self._read("edges").select("src", "dst")).connectedComponents()
        smallest = F.min("id").over(Window.partitionBy("component"))
        return found.select("id", smallest.alias("canonical_id"))

    def _fold(self, events: DataFrame) -> None:
        """Sessions and profiles of everybody whom the batch touches."""
        owners = self._read("identity_map")
        touched = events.join(owners, events.anchor == owners.id).select("canonical_id").distinct()
        theirs = self._read("events").join(owners, F.col("anchor") == owners.id).join(touched, "canonical_id")
        before = Window.partitionBy("anchor").orderBy("event_at", "event_id")
        gap = F.unix_timestamp("event_at") - F.unix_timestamp(F.lag("event_at").over(before))
        is_start = F.when(gap.isNull() | (gap > 1800), 1).otherwise(0)
        numbered = theirs.withColumn("session", F.sum(is_start).over(before))
        sessions = (
            numbered.groupBy("canonical_id", "anchor", "session")
            .agg(
                F.min("event_at").alias("start_at"),
                F.max("event_at").alias("end_at"),
                F.count("*").alias("event_count"),
                (F.count("user_id") == 0).alias("is_anonymous"),
            )
            .withColumn("session_id", F.concat_ws("|", "anchor", F.unix_micros("start_at")))
        )
        self._merge(
            "sessions",
            sessions.select(*(n.split()[0] for n in TABLES["sessions"].split(", "))),
            "t.session_id = s.session_id",
        )
        profiles = numbered.groupBy("canonical_id").agg(
            F.array_sort(F.collect_set("platform")).alias("platforms"),
            F.count_distinct("anchor", "session").alias("session_count"),
            F.count("*").alias("event_count"),
            F.count_if(F.col("event_type") == "login").alias("login_count"),
            F.min("event_at").alias("first_seen_at"),
            F.max("event_at").alias("last_seen_at"),
        )
        self._merge("profiles", profiles, "t.canonical_id = s.canonical_id")
        gone = self._read("profiles").join(
            owners.select("canonical_id").distinct(), "canonical_id", "left_anti"
        )
        table = DeltaTable.forPath(self.spark, self._path("profiles")).alias("t")
        table.merge(gone.alias("s"), "t.canonical_id = s.canonical_id").whenMatchedDelete().execute()

    def _merge(
        self, name: str, rows: DataFrame, on: str, changed: dict[str, str] | None = None, updates: bool = True
    ) -> None:
        merge = DeltaTable.forPath(self.spark, self._path(name)).alias("t").merge(rows.alias("s"), on)
        if changed is not None:
            merge = merge.whenMatchedUpdate(set=changed)
        elif updates:
            merge = merge.whenMatchedUpdateAll()
        merge.whenNotMatchedInsertAll().execute()

    def _append(self, name: str, rows: DataFrame) -> None:
        rows.write.format("delta").mode("append").save(self._path(name))

    def _read(self, name: str) -> DataFrame:
        return self.spark.read.format("delta").load(self._path(name))

    def _path(self, name: str) -> str:
        return str(self.lake / name)


def parsed(batch: DataFrame) -> DataFrame:
    """Usable events of raw lines: an id, a time, an identifier."""
    fields = batch.select(F.from_json("value", EVENT).alias("e")).select("e.*")
    named = [F.concat(F.lit(f"{n}:"), F.col("identifiers")[n]) for n in NAMESPACES]
    best = [F.concat(F.lit(f"{n}:"), F.col("identifiers")[n]) for n in ("device_id", "cookie_id", "user_id")]
    return fields.select(
        "event_id",
        "event_type",
        "platform",
        F.expr(EVENT_AT).alias("event_at"),
        F.coalesce(*best, *named).alias("anchor"),
        F.col("identifiers")["user_id"].alias("user_id"),
        F.array_compact(F.array(*named)).alias("ids"),
    ).where("event_id IS NOT NULL AND event_at IS NOT NULL AND size(ids) > 0")


def edges_of(events: DataFrame) -> DataFrame:
    """The pairs of identifiers that events show together, each once, with how many events do."""
    pairs = events.select(F.explode("ids").alias("src"), "ids").select("src", F.explode("ids").alias("dst"))
    return pairs.where("src < dst").groupBy("src", "dst").agg(F.count("*").alias("evidence_count"))


def session() -> SparkSession:
    """Spark as it comes, with Delta; the same machine, the same memory as the product has."""
    os.environ["JAVA_HOME"] = str(find_java().home)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    return (
        SparkSession.builder.appName("textbook")
        .master("local[*]")
        .config("spark.driver.memory", "4g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.jars", ",".join(map(str, resolve_jars())))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.baselines.textbook", description=(__doc__ or "").splitlines()[0]
    )
    p.add_argument("landing", type=Path)
    p.add_argument("lake", type=Path)
    p.add_argument("--once", action="store_true")
    args = p.parse_args(argv)
    spark = session()
    spark.sparkContext.setLogLevel("ERROR")
    spark.sparkContext.setCheckpointDir(str(args.lake / "_graph"))
    lines = spark.readStream.option("maxFilesPerTrigger", 8).text(str(args.landing))
    writer = lines.writeStream.option("checkpointLocation", str(args.lake / "_checkpoint")).foreachBatch(
        Textbook(spark, args.lake).process
    )
    query = (writer.trigger(availableNow=True) if args.once else writer).start()
    with stop_signals() as stop:
        while query.isActive and not stop.wait(0.1):
            pass
        query.stop()
    spark.stop()
    return 0 if query.exception() is None else 1


if __name__ == "__main__":
    run_and_end(main)
