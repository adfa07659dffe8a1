"""Archived records belong to the lake: a restore point has them, and no copy of a lake takes them from another."""

from __future__ import annotations

import shutil

import pytest
from deltalake import DeltaTable

from conf.tables import BRONZE_EVENTS
from pipelines.lake.hashing_key import key_path
from pipelines.lake.snapshot import published
from pipelines.operations.backup.manifest import BackupProblem
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import back_up
from pipelines.operations.upkeep.archive import ArchiveProblem, archive_folder, archived_record_count
from tests.direct_lake import KEY, DirectLake
from tests.pipelines.operations.upkeep.worlds import (
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
def archived(made, tmp_path):
    """A lake three of whose four files of records are in `cheap`, and what they say."""
    world = copy_of(made, tmp_path / "lake")
    do_upkeep(world, options(archive_days=0.0, archive_to=str(tmp_path / "cheap")))
    world.processor = world.new_processor()
    world.feed(records(9))
    return world, records_here_and_archived(world.lake, tmp_path / "cheap")


def opened(path) -> DirectLake:
    key_path(path).write_bytes(KEY)
    return DirectLake(path, stream="another")


def test_archived_records_survive_the_loss_of_lake_and_archive(archived, tmp_path):
    """Seen to fail while the archive was in no restore point: they were gone."""
    world, before = archived
    taken = back_up(world.path, tmp_path / "backup")
    assert taken.manifest.archived_row_count == 20
    assert back_up(world.path, tmp_path / "backup").copied_file_count == 0
    for folder in (world.path, tmp_path / "cheap"):
        shutil.rmtree(folder)
    done = restore(tmp_path / "backup", tmp_path / "again" / "lake")
    assert done.archive == tmp_path / "again" / "lake.archive"
    again = opened(done.lake)
    assert records_here_and_archived(again.lake, done.archive) == before
    do_upkeep(again, options(is_restore=True))
    assert records_here_and_archived(again.lake, None) == before
    assert not (tmp_path / "cheap").exists()


def test_records_brought_back_after_the_last_backup_are_lost_with_no_copy(archived, tmp_path):
    """Seen to fail while bringing back removed the archive's files, and no restore point had them."""
    world, before = archived
    back_up(world.path, tmp_path / "backup", with_archive=False)
    do_upkeep(world, options(is_restore=True))
    shutil.rmtree(world.path)
    again = opened(restore(tmp_path / "backup", tmp_path / "again" / "lake").lake)
    assert archive_folder(again.lake) == str(tmp_path / "cheap")
    do_upkeep(again, options(is_restore=True))
    assert records_here_and_archived(again.lake, None) == before


def test_what_was_archived_after_the_backup_comes_back_once(archived, tmp_path):
    """The archive is ahead of the restored lake. Seen to fail while all of it was brought back: records were there
    twice."""
    world, before = archived
    back_up(world.path, tmp_path / "backup", with_archive=False)
    do_upkeep(world, options(archive_days=0.0, archive_to=str(tmp_path / "cheap")))
    assert DeltaTable(str(tmp_path / "cheap" / "bronze" / "events")).count() == 25
    again = opened(restore(tmp_path / "backup", tmp_path / "again" / "lake").lake)
    assert archived_record_count(published(again.lake)) == 20
    with pytest.raises(ArchiveProblem, match="a copy of the lake archives there"):
        do_upkeep(again, options(archive_days=0.0, archive_to=str(tmp_path / "cheap")))
    do_upkeep(again, options(is_restore=True))
    assert records_here_and_archived(again.lake, None) == before


def test_a_copied_lake_takes_nothing_from_the_archive_of_its_original(archived, tmp_path):
    """Seen to fail: bringing back on the copy emptied the original's archive."""
    world, before = archived
    copy = copy_of(world, tmp_path / "copy")
    do_upkeep(copy, options(is_restore=True))
    assert records_here_and_archived(copy.lake, None) == before
    assert records_here_and_archived(world.lake, tmp_path / "cheap") == before
    do_upkeep(world, options(is_restore=True))
    assert records_here_and_archived(world.lake, None) == before


def test_an_archive_that_is_not_connected_is_taken_from_the_last_restore_point(archived, tmp_path):
    world, before = archived
    (tmp_path / "cheap").rename(tmp_path / "away")
    with pytest.raises(BackupProblem, match="connect that first; --without-archive"):
        back_up(world.path, tmp_path / "backup")
    (tmp_path / "away").rename(tmp_path / "cheap")
    back_up(world.path, tmp_path / "backup")
    (tmp_path / "cheap").rename(tmp_path / "away")
    world.feed(records(10))
    back_up(world.path, tmp_path / "backup", keep=1)
    done = restore(tmp_path / "backup", tmp_path / "again", archive_to=tmp_path / "elsewhere")
    assert done.archive == tmp_path / "elsewhere"
    assert len(records_here_and_archived(opened(done.lake).lake, done.archive)) == len(before) + 5


def test_a_path_of_the_archive_that_leads_out_of_it_is_not_followed(archived, tmp_path):
    """Seen to fail where it is followed: the file is there, and whole."""
    world, _ = archived
    records_of = tmp_path / "cheap" / "bronze" / "events"
    shutil.copytree(records_of, tmp_path / "away", ignore=shutil.ignore_patterns("_delta_log"))
    log = records_of / "_delta_log"
    for commit in log.glob("*.json"):
        text = commit.read_text().replace('"path":"month', f'"path":"{tmp_path}/away/month')
        commit.write_text(text, encoding="utf-8")
    before = world.lake.version(BRONZE_EVENTS)
    with pytest.raises(ValueError, match="leads out of"):
        do_upkeep(world, options(is_restore=True))
    assert world.lake.version(BRONZE_EVENTS) == before
