"""Look-ups by Spark find what the published snapshot holds, and a lake that is looked up is the lake that was held."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from chispa import assert_df_equality

from conf.tables import (
    BATCHES,
    EVENTS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_REDIRECTS,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.generator import generate
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.writing.compaction import compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.state.identity_state import pair_key
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import EVENT_KEYS
from pipelines.state.spark_lookup import SparkLookup, _matching
from tests.pipelines.lake_rows import make_lake as empty_lake
from tests.pipelines.lake_rows import minute, plain, publish, rows_of

GONE = {"is_deleted": True}


def put(lake: Lake, spec, batch: int, *rows: dict) -> None:
    table = rows_of(spec.hot, *({"updated_batch_id": batch, **row} for row in rows))
    DeltaRsWriter(lake).append(spec.hot, table, Txn("s", batch))


def session(number: int, owner: int, anchor: int = 1) -> dict:
    return {"session_id": number, "owner_node_id": owner, "anchor_node_id": anchor, "event_count": owner}


def numbers(rows: pa.Table, column: str) -> list[int]:
    return sorted(rows[column].to_pylist())


def test_newest_rows_of_base_and_hot_part_are_found_by_any_index_and_only_as_published(spark, lake_dir: Path):
    lake = empty_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    put(lake, SESSIONS, 1, session(1, 10), session(2, 10), session(3, 10), session(4, 20, anchor=2))
    compact_hot(lake, SESSIONS, 1, writer)
    put(lake, SESSIONS, 2, session(2, 30), session(3, 10) | GONE, session(5, 10))
    put(lake, SESSIONS, 3, session(2, 10), session(5, 40), session(6, 10), session(7, 10) | GONE)
    publish(lake, writer, 3)
    put(lake, SESSIONS, 4, session(1, 10) | GONE, session(8, 10))  # written, but never published
    look_up = SparkLookup(published(lake), spark)

    def ids(**asked: list[int]) -> list[int]:
        rows = look_up.rows(
            SESSIONS, list(SESSIONS.names), {column: np.array(values) for column, values in asked.items()}
        )
        assert rows.schema.equals(SESSIONS.arrow)
        held = published(lake).arrow(SESSIONS)
        masks = [pc.is_in(held[column], pa.array(values)).to_numpy() for column, values in asked.items()]
        assert plain(rows, "session_id") == plain(held.filter(pa.array(np.any(masks, axis=0))), "session_id")
        return numbers(rows, "session_id")

    assert ids(owner_node_id=[10]) == [1, 2, 6]
    assert ids(owner_node_id=[10, 30, 40], anchor_node_id=[2], session_id=[5]) == [1, 2, 4, 5, 6]
    assert ids(session_id=[3, 7, 8]) == []


def test_edges_are_found_by_pair_events_by_anchor_and_time_and_empty_tables_cost_no_job(
    spark, lake_dir: Path
):
    lake = empty_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    rng = np.random.default_rng(3)
    left, right = rng.integers(1, 2**62, 40), rng.integers(1, 2**62, 40)
    pairs = [
        {"left_node_id": a, "right_node_id": b} for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]
    put(lake, IDENTITY_EDGES, 1, *pairs)
    hours = [{"event_id": str(n), "anchor_node_id": n % 2, "event_at": minute(60 * n)} for n in range(10)]
    writer.append(EVENTS, rows_of(EVENTS, *hours), Txn("s", 1))
    publish(lake, writer, 1)
    look_up = SparkLookup(published(lake), spark)

    wanted = pair_key(left[:7], right[:7])
    found = look_up.rows(
        IDENTITY_EDGES, ["left_node_id", "right_node_id"], {"pair": wanted, "left_node_id": left[5:9]}
    )
    assert numbers(found, "left_node_id") == sorted(left[:9].tolist())

    found = look_up.rows(
        EVENTS, ["event_id"], {"anchor_node_id": np.array([1])}, ("event_at", minute(60), minute(5 * 60))
    )
    assert numbers(found, "event_id") == ["1", "3", "5"]

    tracker = spark.sparkContext.statusTracker()
    before = set(tracker.getJobIdsForGroup())
    assert look_up.rows(REJECTED_EDGES, ["left_node_id"], {"left_node_id": left}).num_rows == 0
    assert look_up.rows(IDENTITY_EDGES, ["left_node_id"], {"left_node_id": left[:0]}).num_rows == 0
    assert set(tracker.getJobIdsForGroup()) == before


def _messy_batches(folder: Path) -> list[bytes]:
    """A few hundred events in four batches that come late, twice, from shared devices and beyond limits."""
    generate(40, 320, seed=23, out=folder, events_per_file=320)
    lines = (folder / "part-00000.jsonl").read_bytes().splitlines(keepends=True)
    random.Random(5).shuffle(lines)  # most events are late
    at = minute(0).strftime("%Y-%m-%dT%H:%M:%SZ")

    def extra(event_id: str, **identifiers: str) -> bytes:
        event = {"event_id": event_id, "event_type": "login", "timestamp": at, "identifiers": identifiers}
        return json.dumps(event).encode() + b"\n"

    def chain(
        n: str,
    ) -> list[bytes]:  # two people, tied by an address and a device: one pair is to be refused
        return [
            extra(f"{n}1", user_id=f"{n}1", email=f"{n}@example.org"),
            extra(f"{n}2", email=f"{n}@example.org", device_id=n),
            extra(f"{n}3", user_id=f"{n}2", device_id=n),
        ]

    # A third user of the first chain's device makes it shared, which lifts the refusal.
    tied = [b"".join(pair) for pair in zip(chain("x"), chain("y"), strict=True)]
    tied.append(extra("x4", user_id="x3", device_id="x"))
    cut = [len(lines) * n // 4 for n in range(5)]
    batches = [b"".join([*lines[cut[n] : cut[n + 1]], tied[n]]) for n in range(4)]
    batches[2] += b"".join(lines[: cut[1]])  # seen before
    batches[3] += extra("x1", user_id="somebody else")  # one id, two contents
    return batches


def test_looked_up_and_held_in_memory_leave_the_same_tables(make_lake, tmp_path):
    parts = _messy_batches(tmp_path)
    worlds = {}
    for lookup in ("driver", "tables"):
        world = make_lake(max_files_per_trigger=1, lookup=lookup, writer="delta_rs")
        for number, part in enumerate(parts):
            world.drop(f"{number}.jsonl", part)
            os.utime(world.landing / f"{number}.jsonl", (number, number))  # the order in which they are read
            # A run ends with folding the hot parts in: the third batch finds all in the base, the fourth in both.
            if number % 2:
                assert world.once().batch_count == 2
        worlds[lookup] = world
    held, looked_up = worlds["driver"], worlds["tables"]
    assert looked_up.contents() == held.contents()
    # Even the minted ids, the redirects and the log: the same questions were answered in the same order.
    for spec in (IDENTITY_LOG, IDENTITY_REDIRECTS):
        columns = [c for c in spec.names if c not in ("logged_at",)]
        assert plain(pa.Table.from_pylist(looked_up.rows(spec, columns)), *spec.key) == plain(
            pa.Table.from_pylist(held.rows(spec, columns)), *spec.key
        )
    # And the events have what is said of them.
    assert len(held.rows(REJECTED_EDGES)) == 1
    metrics = [dict(r["metrics"]) for r in held.rows(BATCHES) if r["kind"] == "batch"]
    assert sum(m["conflicting_duplicate_count"] for m in metrics) >= 1
    assert sum(r["duplicate_count"] for r in held.rows(BATCHES)) >= len(parts)
    assert any(m.get("nodes_shared") for m in metrics)
    assert any(m.get("nodes_merge") for m in metrics)


def test_auto_holds_a_lake_in_memory_until_it_is_too_large(make_lake):
    from pipelines.state.open_state import row_count, state_opener
    from pipelines.state.table_state import TableState

    world = make_lake(writer="delta_rs")
    world.drop("1.jsonl", [{"event_id": "a", "timestamp": 1_772_000_000, "identifiers": {"cookie_id": "c"}}])
    world.once()
    snapshot = published(world.lake)
    count = row_count(snapshot)
    assert count == 3  # an event, a node, a session
    enough, too_few = (state_opener("auto", world.policy, world.spark, n) for n in (count, count - 1))
    assert not isinstance(enough(snapshot), TableState)
    assert isinstance(too_few(snapshot), TableState)
    state = state_opener("auto", world.policy, world.spark, count)
    first = state(snapshot)
    first.event_keys.replace(np.empty(0, np.int64), pa.table([[1]] * 3, schema=EVENT_KEYS))
    first.settle()
    assert first.is_dirty
    assert isinstance(state(snapshot), TableState)
    assert numpy_of(state(snapshot).event_keys.rows("event_key", np.array([1]))["event_key"]).tolist() == []


def test_a_row_that_several_keys_find_is_there_once_and_a_null_finds_nothing(spark):
    at = [minute(n).replace(tzinfo=None) for n in range(5)]
    columns = "session_id long, anchor_node_id long, owner_node_id long, start_at timestamp"
    given = [
        (1, 10, 7, at[0]),
        (2, 20, 7, at[1]),
        (3, 10, 8, at[2]),
        (4, 30, 9, at[3]),
        (5, None, None, at[4]),
    ]
    rows = spark.createDataFrame(given, columns)
    anchors, owners = (
        spark.createDataFrame([(n,) for n in asked], "__asked long") for asked in ((10, 40, None), (7,))
    )

    def finds(keys, between, *wanted: int) -> None:
        expected = spark.createDataFrame([row for row in given if row[0] in wanted], columns)
        assert_df_equality(_matching(rows, keys, between), expected, ignore_row_order=True)

    finds({"anchor_node_id": anchors}, None, 1, 3)
    finds({"anchor_node_id": anchors, "owner_node_id": owners}, None, 1, 2, 3)
    finds({"anchor_node_id": anchors, "owner_node_id": owners}, ("start_at", at[1], at[2]), 2, 3)
