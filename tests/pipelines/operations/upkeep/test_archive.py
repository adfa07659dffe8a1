"""The archive: old records elsewhere, all of them to be had again, and nobody surprised that they are gone."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from conf.tables import BATCHES, BRONZE_EVENTS
from pipelines.apps.cli.status import _conservation
from pipelines.lake.files_of_record import names_read
from pipelines.lake.snapshot import published
from pipelines.lake.writing import compaction
from pipelines.operations.decisions.inbox import decided_origins
from pipelines.operations.upkeep.archive import (
    ArchiveProblem,
    archive_folder,
    archived_record_count,
    require_all_records,
)
from tests.pipelines.operations.upkeep.worlds import (
    content,
    copy_of,
    do_upkeep,
    filled,
    options,
    records,
    records_here_and_archived,
)

pytestmark = pytest.mark.thorough  # lakes of several batches


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("made") / "lake", 4)


@pytest.fixture
def world(made, tmp_path):
    return copy_of(made, tmp_path / "lake")


def test_records_go_and_come_back_and_events_are_known_meanwhile(world, tmp_path):
    archive = tmp_path / "cheap"
    before, tables = records_here_and_archived(world.lake, None), content(world)
    bronze = sorted(map(repr, published(world.lake).arrow(BRONZE_EVENTS).to_pylist()))
    report = do_upkeep(world, options(batches=1, archive_days=0.0, archive_to=str(archive)))
    assert report["moved_file_count"] == 4
    snapshot = published(world.lake)
    assert snapshot.arrow(BRONZE_EVENTS).num_rows == 0
    assert archived_record_count(snapshot) == 20 == snapshot.row["metrics"][0][1]
    assert records_here_and_archived(world.lake, archive) == before
    there = DeltaTable(str(archive / "bronze" / "events")).to_pyarrow_table()
    assert set(there.column_names) == {*BRONZE_EVENTS.names, "month"}
    assert not list(world.lake.table_path(BRONZE_EVENTS).glob("*.parquet"))
    assert content(world) == tables
    assert _conservation(world.lake)["holds"]
    with pytest.raises(ArchiveProblem, match=r"20 records .* --restore-archive"):
        require_all_records(snapshot)

    world.processor = world.new_processor()
    world.feed(records(0))  # the same events again: known, though their records are elsewhere
    assert published(world.lake).row["duplicate_count"] == 5
    assert names_read(world.lake, snapshot.batch_id + 1, "native:test") == {
        f"{n:06d}.jsonl" for n in range(5)
    }

    do_upkeep(world, options(is_restore=True))
    snapshot = published(world.lake)
    assert archived_record_count(snapshot) == 0
    require_all_records(snapshot)
    restored = snapshot.dataset(BRONZE_EVENTS).to_table()
    assert restored.num_rows == 25
    assert set(bronze) <= set(map(repr, restored.to_pylist()))
    # The only other copy until a backup has been taken: whoever owns that storage removes it.
    assert archive_folder(world.lake) is None
    assert DeltaTable(str(archive / "bronze" / "events")).to_pyarrow_table().num_rows == 20
    assert do_upkeep(world, options(is_restore=True))["moved_file_count"] == 0
    with pytest.raises(ArchiveProblem, match="a folder of its own"):
        do_upkeep(world, options(archive_days=0.0, archive_to=str(archive)))
    assert len(list(archive.glob("bronze/events/month=*/*.parquet"))) == 4  # what was copied is gone


def test_only_files_all_of_whose_batches_are_old_enough_go(world, tmp_path):
    report = do_upkeep(world, options(archive_days=1.0, archive_to=str(tmp_path / "cheap")))
    assert report["moved_file_count"] == 0
    assert published(world.lake).arrow(BRONZE_EVENTS).num_rows == 20


def test_files_of_record_are_the_origins_in_bronze(world):
    last = published(world.lake).batch_id
    bronze = published(world.lake).arrow(BRONZE_EVENTS, ["origin"])["origin"].to_pylist()
    assert names_read(world.lake, last, "native:test") == set(bronze)
    assert names_read(world.lake, 1, "native:test") == {"000000.jsonl"}
    assert decided_origins(world.lake) == frozenset()


def test_no_file_is_joined_while_files_are_on_their_way(world, monkeypatch):
    monkeypatch.setattr(compaction, "FROM_FILES", 2)
    (world.path / compaction.MOVING).write_text("{}")
    assert compaction.compact_files(world.lake, BRONZE_EVENTS) == world.lake.version(BRONZE_EVENTS) == 4
    assert compaction.compact_files(world.lake, BATCHES) > 4
    (world.path / compaction.MOVING).unlink()
    assert compaction.compact_files(world.lake, BRONZE_EVENTS) == 5


def test_an_archive_is_one_lakes_and_a_lake_has_one(world, made, tmp_path):
    archive = tmp_path / "cheap"
    with pytest.raises(ArchiveProblem, match="nothing of the lake"):
        do_upkeep(world, options(is_restore=True))
    do_upkeep(world, options(archive_days=0.0, archive_to=str(archive)))
    world.processor = world.new_processor()
    world.feed(records(9))
    with pytest.raises(ArchiveProblem, match="archive is in"):
        do_upkeep(world, options(archive_days=0.0, archive_to=str(tmp_path / "other")))
    stranger = filled(tmp_path / "stranger", 1)
    with pytest.raises(ArchiveProblem, match="another lake"):
        do_upkeep(stranger, options(archive_days=0.0, archive_to=str(archive)))
    (archive / "bronze").rename(tmp_path / "away")
    with pytest.raises(ArchiveProblem, match="connect that first"):
        do_upkeep(world, options(is_restore=True))
