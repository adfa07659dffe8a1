"""Bookkeeping reads what is new of ops.batches: with the files of older batches gone, it says the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from conf.tables import BATCHES
from pipelines.lake.batch_rows import OLDEST_READABLE, RECORDS_UP_TO_HERE, UPKEEP, BatchRows
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import oldest_readable_batch, published
from pipelines.lake.writing.data_files import add_action, exchange, write_files
from pipelines.operations.rebuild.read_again import portions
from pipelines.operations.upkeep.archive import archived_record_count
from pipelines.operations.upkeep.history import History, oldest_to_keep, versions_of
from pipelines.operations.upkeep.schedule import seconds_until_due
from pipelines.state.published_events import kinds_after, last_published_of
from pipelines.stream.checkpoint import of_record
from pipelines.stream.kafka.offsets import offsets_of_record
from tests.pipelines.lake_rows import make_lake, rows_of

PER_FILE, FILES = 500, 20
LAST = PER_FILE * FILES
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def row(number: int) -> dict:
    is_upkeep = number % 450 == 0
    metrics = [(OLDEST_READABLE, number - 400), (RECORDS_UP_TO_HERE, 3 * (number - number // 450))]
    return {
        "batch_id": number,
        "stream": f"stream-{number // 4000}",
        "kind": UPKEEP if is_upkeep else "batch",
        "stream_batch_id": None if is_upkeep else number,
        "offset_entry": f"entry-{number}",
        "record_count": 0 if is_upkeep else 3,
        "received_count": 0 if is_upkeep else 3,
        "metrics": metrics if is_upkeep else [("valid", 1)],
        "table_versions": [(BATCHES.full_name, number)],
        "offsets": "{}",
        "published_at": NOW - timedelta(seconds=LAST - number),
    }


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Ten thousand batches in twenty files, of which only the two newest are still on disk."""
    lake = make_lake(tmp_path_factory.mktemp("long") / "lake", BATCHES)
    files: list[Path] = []
    for first in range(1, LAST + 1, PER_FILE):
        rows = rows_of(BATCHES, *map(row, range(first, first + PER_FILE)))
        files += write_files(lake.table_path(BATCHES), BATCHES, [rows])
    shuffled = random.sample(files, len(files))
    added = [add_action(BATCHES, file, True) for file in shuffled]
    exchange(lake.open(BATCHES), added, {}, data_change=True)
    for file in files[:-2]:
        file.unlink()
    return lake


def test_bookkeeping_reads_no_file_of_older_batches(lake: Lake) -> None:
    """Seen to fail: each of these read a column of every batch there ever was."""
    snapshot = published(lake)
    assert snapshot is not None
    assert snapshot.batch_id == LAST
    assert snapshot.row["offset_entry"] == f"entry-{LAST}"
    assert oldest_readable_batch(lake) == 9900 - 400
    assert versions_of(lake, LAST - 10) == {BATCHES.full_name: LAST - 10}
    assert oldest_to_keep(lake, History(7.0, 100), None, NOW) == LAST - 99
    assert 0 < seconds_until_due(lake, 1.0, NOW) < 3600
    assert BatchRows(lake).record_count(LAST) == 3 * (LAST - LAST // 450)
    assert BatchRows(lake).record_count(LAST - 150) == 3 * (LAST - 150 - (LAST - 150) // 450)
    assert archived_record_count(snapshot, None) == 3 * (LAST - LAST // 450)
    assert offsets_of_record(lake, snapshot) == {}
    assert last_published_of(lake, "stream-2") == LAST
    assert kinds_after(lake, LAST - 3) == ["batch"] * 3
    assert [p.upto for p in portions(snapshot, LAST - 2)] == [LAST]
    record = of_record(snapshot, None, "stream-2")
    assert (record.last_published, record.offset_entry, record.is_superseded) == (
        LAST,
        f"entry-{LAST}",
        False,
    )
    assert of_record(snapshot, None, "", LAST - 1).is_superseded


def test_rows_come_newest_first_from_files_that_overlap(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", BATCHES)
    for numbers in ((1, 5, 9), (2, 3, 8), (4, 6, 7), (10,)):
        rows = rows_of(BATCHES, *map(row, numbers))
        written = write_files(lake.table_path(BATCHES), BATCHES, [rows])
        exchange(lake.open(BATCHES), [add_action(BATCHES, written[0], True)], {}, data_change=True)
    rows = BatchRows(lake)
    assert [r["batch_id"] for r in rows.newest_first(["kind"])] == list(range(10, 0, -1))
    assert [r["batch_id"] for r in rows.newest_first([], 6)] == [6, 5, 4, 3, 2, 1]
    assert rows.between(["batch_id"], 3, 6)["batch_id"].to_pylist() == [3, 4, 5, 6]
    assert (rows.first(), rows.last()) == (1, 10)


def test_a_table_without_rows_or_without_statistics_is_read_all_the_same(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", BATCHES)
    rows = BatchRows(lake)
    assert (rows.first(), rows.last(), rows.last_upkeep([]), rows.record_count(9)) == (None, None, None, 0)
    written = write_files(lake.table_path(BATCHES), BATCHES, [rows_of(BATCHES, row(7), row(3))])
    action = add_action(BATCHES, written[0], True)
    action.stats = '{"numRecords": 2}'
    newer = write_files(lake.table_path(BATCHES), BATCHES, [rows_of(BATCHES, row(9))])
    exchange(lake.open(BATCHES), [action, add_action(BATCHES, newer[0], True)], {}, data_change=True)
    rows = BatchRows(lake)
    assert (rows.first(), rows.last()) == (3, 9)
    assert isinstance(rows.between(["kind"]), pa.Table)
    assert [r["batch_id"] for r in rows.newest_first(["kind"])] == [9, 7, 3]
