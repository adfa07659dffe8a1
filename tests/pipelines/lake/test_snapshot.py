"""A snapshot is one published batch: nothing of it changes, whatever is written afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conf.table_spec import ColumnSpec
from conf.tables import BATCHES, EVENTS, IDENTITY_EDGES, PROFILES, SESSIONS
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.writing.compaction import compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import make_lake, minute, publish, rows_of

pytestmark = pytest.mark.thorough  # many small tables; left to the whole run


def hot_sessions(lake: Lake, batch: int, **event_counts: int | None) -> None:
    """Sessions s<number>=<event_count>; None is a tombstone."""
    rows = [
        {"session_id": int(name[1:]), "event_count": n, "updated_batch_id": batch, "is_deleted": n is None}
        for name, n in event_counts.items()
    ]
    DeltaRsWriter(lake).append(SESSIONS.hot, rows_of(SESSIONS.hot, *rows), Txn("s", batch))


def sessions(rows) -> dict[int, int]:
    return {row["session_id"]: row["event_count"] for row in rows.to_pylist()}


def test_nothing_published_is_no_snapshot(lake_dir: Path) -> None:
    assert published(Lake(lake_dir)) is None
    assert published(make_lake(lake_dir)) is None


def test_the_last_published_batch_is_the_one_with_the_largest_number(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    for batch in range(12):
        publish(lake, writer, batch)
    snapshot = published(lake)
    assert snapshot is not None
    assert (snapshot.batch_id, snapshot.stream, snapshot.published_at) == (11, "s", minute(11))
    assert snapshot.table_versions["silver.sessions_hot"] == 0


def test_what_is_written_after_publishing_is_not_in_the_snapshot(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    writer.append(EVENTS, rows_of(EVENTS, {"event_id": "a"}), Txn("s", 0))
    hot_sessions(lake, 0, s1=10)
    publish(lake, writer, 0)
    writer.append(EVENTS, rows_of(EVENTS, {"event_id": "b"}), Txn("s", 1))
    hot_sessions(lake, 1, s1=11, s2=20)
    snapshot = published(lake)
    assert snapshot.arrow(EVENTS)["event_id"].to_pylist() == ["a"]
    assert sessions(snapshot.arrow(SESSIONS)) == {1: 10}


def test_a_compaction_of_unpublished_state_does_not_reach_an_earlier_snapshot(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    for batch, rows in enumerate([{"s1": 10, "s2": 20}, {"s1": 11}, {"s2": None, "s3": 30}]):
        hot_sessions(lake, batch, **rows)
        publish(lake, writer, batch)
    before = published(lake)
    seen = before.arrow(SESSIONS)
    assert sessions(seen) == {1: 11, 3: 30}
    compact_hot(lake, SESSIONS, 2, writer)
    assert before.arrow(SESSIONS).sort_by("session_id") == seen.sort_by("session_id")
    assert sessions(before.arrow(SESSIONS, live=False)) == {}
    publish(lake, writer, 3)
    after = published(lake)
    assert after.arrow(SESSIONS).sort_by("session_id") == seen.sort_by("session_id")
    assert sessions(after.arrow(SESSIONS, live=False)) == {1: 11, 3: 30}


def test_hot_rows_of_a_batch_that_never_came_to_publishing_are_left_out(lake_dir: Path) -> None:
    # A later version of the hot part can hold them, if a compaction was published in between.
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    hot_sessions(lake, 0, s1=10)
    hot_sessions(lake, 5, s1=99, s2=99)
    publish(lake, writer, 0)
    assert sessions(published(lake).arrow(SESSIONS)) == {1: 10}


def test_columns_are_those_asked_for_in_that_order(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    hot_sessions(lake, 0, s1=10)
    compact_hot(lake, SESSIONS, 0, writer)
    hot_sessions(lake, 1, s2=20)
    publish(lake, writer, 1)
    snapshot = published(lake)
    assert snapshot.arrow(SESSIONS, ["event_count", "spans"]).column_names == ["event_count", "spans"]
    assert snapshot.arrow(SESSIONS).schema.names == list(SESSIONS.names)
    assert snapshot.arrow(PROFILES).schema.names == list(PROFILES.names)
    assert snapshot.arrow(IDENTITY_EDGES, ["evidence_count"]).num_rows == 0


def test_a_table_or_column_declared_after_the_batch_is_empty(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SESSIONS)
    writer = DeltaRsWriter(lake)
    hot_sessions(lake, 0, s1=10)
    compact_hot(lake, SESSIONS, 0, writer)
    hot_sessions(lake, 1, s2=20)
    publish(lake, writer, 1)
    columns = (*SESSIONS.columns[:-1], ColumnSpec("mood", "string", "its mood"), SESSIONS.columns[-1])
    wider = replace(SESSIONS, columns=columns)
    lake.create_missing([wider, PROFILES])
    snapshot = published(lake)
    assert snapshot.version(PROFILES) is None
    assert snapshot.arrow(PROFILES).num_rows == 0
    assert snapshot.arrow(wider, ["session_id", "mood"]).sort_by("session_id").to_pydict() == {
        "session_id": [1, 2],
        "mood": [None, None],
    }


def test_the_publishing_row_is_at_hand(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    publish(lake, DeltaRsWriter(lake), 0, received_count=9, valid_count=9, quarantined_count=0)
    assert published(lake).row["received_count"] == 9
    assert set(published(lake).row) == set(BATCHES.names)
