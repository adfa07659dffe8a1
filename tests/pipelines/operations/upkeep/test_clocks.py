"""A clock that was wrong once decides nothing for ever: batches and files are ordered by what only grows."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from conf.tables import BATCHES, EVENTS, IDENTIFIERS, QUALITY_RESULTS
from pipelines.lake.lake import Lake
from pipelines.lake.writing.data_files import add_action, exchange, write_files
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.discard import discard_unpublished
from pipelines.lake.writing.writer import Txn
from pipelines.operations.decisions import inbox
from pipelines.operations.quality import run as quality_run
from pipelines.operations.upkeep import upkeep as upkeep_module
from pipelines.operations.upkeep.archive import to_archive
from pipelines.operations.upkeep.history import History, oldest_to_keep, published_about
from pipelines.operations.upkeep.schedule import seconds_until_due
from pipelines.stream.batch import publish
from tests.pipelines.lake_rows import make_lake, rows_of
from tests.pipelines.operations.upkeep.worlds import do_upkeep, filled, options, records

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def lake_of(folder, *published_at: datetime, kinds: tuple[str, ...] = ()) -> Lake:
    """A lake of batches that were published at these times by the clock."""
    lake = make_lake(folder / "lake", BATCHES)
    rows = rows_of(
        BATCHES,
        *(
            {"batch_id": n + 1, "published_at": at, "kind": (kinds or ("batch",) * 99)[n], "metrics": []}
            for n, at in enumerate(published_at)
        ),
    )
    files = write_files(lake.table_path(BATCHES), BATCHES, [rows])
    exchange(lake.open(BATCHES), [add_action(BATCHES, files[0], True)], {}, data_change=True)
    return lake


def test_a_batch_published_by_a_clock_far_behind_lets_no_younger_history_go(tmp_path):
    """Seen to fail: the batch of 1970 was the latest one before the history's time, and all before it went."""
    lake = lake_of(tmp_path, NOW - 9 * DAY, NOW - 2 * DAY, datetime(1970, 1, 2, tzinfo=UTC), NOW - DAY)
    assert oldest_to_keep(lake, History(7.0, 10**6), None, NOW) == 1
    assert oldest_to_keep(lake, History(1.5, 10**6), None, NOW) == 3


def test_a_batch_published_by_a_clock_far_ahead_is_let_go_in_its_turn(tmp_path):
    lake = lake_of(tmp_path, NOW - 9 * DAY, datetime(2099, 1, 1, tzinfo=UTC), NOW - 8 * DAY, NOW - DAY)
    assert oldest_to_keep(lake, History(7.0, 10**6), None, NOW) == 3


@pytest.mark.parametrize(
    ("days", "about"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 99, 3], [1, 3, 3]),  # no later than the next one
        ([1, -50, 3], [1, 1, 3]),  # no earlier than the one before
        ([1, 2, 99], [1, 2, 10]),  # at the latest now
        ([], []),
    ],
)
def test_when_batches_were_published_as_far_as_clocks_can_be_believed(days, about):
    start = NOW - 10 * DAY
    told = pa.chunked_array([pa.array([start + d * DAY for d in days], pa.timestamp("us", tz="UTC"))])
    expected = [int((start + d * DAY).timestamp() * 1e6) for d in about]
    assert published_about(told, NOW).tolist() == expected


def test_upkeep_is_due_though_the_last_one_is_still_to_come_by_its_clock(tmp_path):
    """Seen to fail: it was due in 2099."""
    ahead = datetime(2099, 1, 1, tzinfo=UTC)
    assert (
        seconds_until_due(lake_of(tmp_path / "a", NOW - DAY, ahead, kinds=("batch", "upkeep")), 1.0, NOW) == 0
    )
    lake = lake_of(tmp_path / "b", ahead, NOW, kinds=("upkeep", "upkeep"))
    assert seconds_until_due(lake, 1.0, NOW) == 3600


def test_what_a_batch_is_writing_when_the_clock_jumps_ahead_is_not_removed(tmp_path, monkeypatch):
    """As on a laptop that slept over the weekend. Seen to fail: the file was a day old by the clock, and gone before it
    was committed."""
    world = filled(tmp_path / "lake", 2)
    young = world.lake.table_path(EVENTS) / "part-young.parquet"
    young.write_bytes(b"written, and not committed yet")
    now = time.time_ns()
    with monkeypatch.context() as ahead:
        ahead.setattr(upkeep_module.time, "time_ns", lambda: now + 3 * 86_400 * 10**9)
        do_upkeep(world, options(days=7))
    assert young.exists()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(young, (two_days_ago, two_days_ago))
    do_upkeep(world, options(days=7))
    assert not young.exists()


def test_no_engine_shortens_a_log_by_the_clock(tmp_path):
    """Seen to fail: taking back rows made a checkpoint, and with it delta-rs removed all entries older than 30 days by
    the clock, which readable batches needed."""
    lake = make_lake(tmp_path / "lake", IDENTIFIERS)
    writer, row = DeltaRsWriter(lake), {"node_id": 1, "batch_id": 1}
    while (version := lake.version(IDENTIFIERS)) < 48:
        writer.append(IDENTIFIERS, rows_of(IDENTIFIERS, row), Txn("s", version))
    log = lake.table_path(IDENTIFIERS) / "_delta_log"
    for entry in log.iterdir():
        os.utime(entry, (0, 0))
    for _ in range(3):
        writer.append(IDENTIFIERS, rows_of(IDENTIFIERS, row), Txn("s", lake.version(IDENTIFIERS)))
        discard_unpublished(lake, 0, "x")
    assert len(list(log.glob("*.json"))) == lake.version(IDENTIFIERS) + 1 > 50


@pytest.mark.thorough
def test_a_month_is_that_of_a_clock_that_can_be_believed(tmp_path, monkeypatch):
    world = filled(tmp_path / "lake", 1)
    with monkeypatch.context() as behind:
        behind.setattr(publish.time, "time_ns", lambda: 86_400 * 10**9)
        world.feed(records(1))
    moves = to_archive(world.lake, 0.0, str(tmp_path / "cheap"), datetime.now(UTC))
    assert "1970-01" not in {move.month for move in moves.files}


def test_a_decision_taken_after_the_clock_went_back_counts_after_those_that_wait(tmp_path, monkeypatch):
    """Seen to fail: the later decision had the smaller name, so the earlier one was the last word."""
    for now in (2_000 * 10**15, 1_000 * 10**15):
        monkeypatch.setattr(inbox.time, "time_ns", lambda now=now: now)
        inbox.put(tmp_path, {"decision": "merge", "decision_id": str(now)})
    names = sorted(f.name for f in (tmp_path / inbox.INBOX).glob("*.json"))
    last = (tmp_path / inbox.INBOX / names[-1]).read_text()
    assert str(1_000 * 10**15) in last


def test_a_quality_run_by_a_clock_ahead_is_not_the_newest_for_ever(tmp_path):
    """Seen to fail while runs were ordered by `checked_at`."""
    lake = make_lake(tmp_path / "lake", QUALITY_RESULTS)
    rows = rows_of(
        QUALITY_RESULTS,
        {"run_id": "ahead", "checked_batch_id": 1, "checked_at": datetime(2099, 1, 1, tzinfo=UTC)},
        {"run_id": "later", "checked_batch_id": 2, "checked_at": NOW},
    )
    files = write_files(lake.table_path(QUALITY_RESULTS), QUALITY_RESULTS, [rows])
    exchange(lake.open(QUALITY_RESULTS), [add_action(QUALITY_RESULTS, files[0], True)], {}, data_change=True)
    assert quality_run.newest_run(lake).run_id == "later"
