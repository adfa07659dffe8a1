"""Upkeep: readers of kept batches see the same rows, files are few, and what is not needed is gone."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from conf.tables import ALL, BATCHES, EVENTS, IDENTIFIERS, IDENTITY_DECISIONS, SESSIONS
from pipelines.apps.request_handlers import HANDLERS
from pipelines.lake.lake import with_hot_parts
from pipelines.lake.lock import lake_lock
from pipelines.lake.snapshot import NoSuchBatch, oldest_readable_batch, published, published_as
from pipelines.lake.writing import compaction
from pipelines.lake.writing.compaction import compact_files, file_bound
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations.requests.holder import NotReady
from pipelines.operations.requests.requests import RequestFailed, run_request
from pipelines.operations.upkeep import pause as pause_module
from pipelines.operations.upkeep.history import (
    History,
    oldest_to_keep,
    versions_of,
)
from pipelines.operations.upkeep.upkeep import UpkeepRefused, dry_run, run_upkeep
from pipelines.operations.upkeep.vacuum import ORPHAN_HOURS, vacuum
from tests.pipelines.lake_rows import make_lake, rows_of
from tests.pipelines.operations.upkeep.worlds import (
    content,
    copy_of,
    do_upkeep,
    filled,
    half_written,
    options,
    pause_of,
    pinned,
    records,
    seen,
)

pytestmark = pytest.mark.thorough  # lakes of several batches

BATCHES_MADE = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of a few batches, for tests to copy."""
    return filled(tmp_path_factory.mktemp("made") / "lake", BATCHES_MADE)


@pytest.fixture
def world(made, tmp_path):
    return copy_of(made, tmp_path / "lake")


@pytest.fixture(autouse=True)
def joined_early(monkeypatch):
    """Few batches are to be enough for every kind of step."""
    monkeypatch.setattr(compaction, "FROM_FILES", 3)
    monkeypatch.setattr(pause_module, "CHECKPOINT_FROM_COMMITS", 1)


def age(world, hours: float) -> None:
    """Let every file of the lake be that much older."""
    for path in world.path.rglob("*"):
        at = path.stat().st_mtime - hours * 3600
        os.utime(path, (at, at))


class TestReaders:
    def test_of_kept_batches_see_the_same_rows_and_older_ones_are_refused(self, world):
        """Seen to fail with only the present version's files kept."""
        before = {b: seen(pinned(world.lake, b)) for b in range(1, BATCHES_MADE + 1)}
        last = content(world)
        report = do_upkeep(world, options(batches=4))
        oldest = oldest_readable_batch(world.lake)
        assert (
            report["oldest_readable_batch_id"] == oldest == BATCHES_MADE - 2
        )  # the upkeep's own is the fourth
        for batch in range(oldest, BATCHES_MADE + 1):
            published_as(world.lake, batch)
            assert seen(pinned(world.lake, batch)) == before[batch]
        assert content(world) == last
        with pytest.raises(NoSuchBatch, match="6 to 9 can be read"):
            published_as(world.lake, oldest - 1)
        with pytest.raises(NoSuchBatch, match="batch 10 was never"):
            published_as(world.lake, 10)

    def test_with_no_history_only_the_last_batch_stays(self, world):
        do_upkeep(world, options(days=0))
        for spec in with_hot_parts(ALL):
            files = {p.name for p in world.lake.table_path(spec).glob("*.parquet")}
            assert len(files) <= (2 if spec is BATCHES else 1), spec.full_name
        assert oldest_readable_batch(world.lake) == published(world.lake).batch_id
        world.processor = world.new_processor()
        world.feed(records(world.batches))

    def test_a_second_upkeep_finds_nothing_to_do(self, world):
        do_upkeep(world, options(days=0))
        versions = [world.lake.version(s) for s in with_hot_parts(ALL)]
        report = do_upkeep(world, options(days=0))
        assert [world.lake.version(s) for s in with_hot_parts(ALL)] == versions
        assert sum(t["removed_files"] for t in report["tables"]) == 0

    def test_a_dry_run_changes_nothing(self, world):
        files = {p: p.stat().st_mtime_ns for p in world.path.rglob("*") if p.is_file()}
        age(world, 30)
        report = dry_run(world.lake, options(days=0))
        age(world, -30)
        assert report["is_dry_run"]
        assert {p: p.stat().st_mtime_ns for p in world.path.rglob("*") if p.is_file()}.keys() == files.keys()


class TestHistory:
    def test_reaches_back_to_the_batch_that_was_the_last_when_its_time_began(self, world):
        at = published(world.lake).published_at
        days = 1.0
        day_later = at + timedelta(days=days)
        first = oldest_to_keep(world.lake, History(days, 10**6), None, at)
        assert first == 1
        assert oldest_to_keep(world.lake, History(days, 10**6), None, day_later) == BATCHES_MADE
        just_before = day_later - timedelta(microseconds=1)
        assert oldest_to_keep(world.lake, History(days, 10**6), None, just_before) == BATCHES_MADE - 1

    def test_never_begins_earlier_again(self, world):
        do_upkeep(world, options(batches=3))
        oldest = oldest_readable_batch(world.lake)
        do_upkeep(world, options())
        assert oldest_readable_batch(world.lake) == oldest == BATCHES_MADE - 1
        assert oldest_to_keep(world.lake, History(10**4, 10**6), None, datetime.now(UTC)) == oldest


class TestBesideABatch:
    @pytest.mark.parametrize("appends", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 5))])
    def test_a_half_written_batch_is_completed_exactly(self, made, world, tmp_path, appends):
        """The batch begins and breaks off after the pause, before files are removed."""
        clean = copy_of(made, tmp_path / "clean")
        clean.feed(records(clean.batches))
        batch = []

        def pause(arguments):
            answer = pause_of(world)(arguments)
            if not batch:
                batch.append(half_written(world, appends))
            return answer

        run_upkeep(world.lake, options(days=0), pause)
        with pytest.raises(NotReady):  # and another one waits until it is complete
            do_upkeep(world, options(days=0))
        world.processor = world.new_processor()
        world.feed(records(world.batches))
        assert content(world) == content(clean)
        do_upkeep(world, options(days=0))
        assert content(world) == content(clean)

    def test_files_of_a_killed_writer_go_after_a_day_and_younger_ones_stay(self, world):
        folder = world.lake.table_path(EVENTS)
        old, young = folder / "part-old.parquet", folder / "part-young.parquet"
        for orphan in (old, young):
            orphan.write_bytes(b"left by a writer that was killed")
        at = time.time() - (ORPHAN_HOURS + 1) * 3600
        os.utime(old, (at, at))
        do_upkeep(world)
        assert (old.exists(), young.exists()) == (False, True)

    def test_a_file_that_is_about_to_be_committed_stays(self, world, monkeypatch):
        """Seen to fail with orphans removed at any age: the commit names a file that is gone."""
        commit = compaction.exchange

        def commit_later(*args, **kwargs):
            vacuum(world.lake, EVENTS, world.lake.version(EVENTS), time.time_ns(), lambda: None)
            commit(*args, **kwargs)

        monkeypatch.setattr(compaction, "exchange", commit_later)
        before = world.lake.open(EVENTS).to_pyarrow_table().num_rows
        compact_files(world.lake, EVENTS)
        assert world.lake.open(EVENTS).to_pyarrow_table().num_rows == before

    def test_the_stream_keeps_its_state_and_goes_on_from_the_new_files(self, world):
        world.processor = world.new_processor()
        world.feed(records(world.batches))
        state = world.processor.last.state
        do_upkeep(world, options(days=0))
        world.processor.last.refresh()
        assert not state.is_dirty
        world.feed(records(world.batches))
        assert world.processor.last.state is state
        snapshot = published(world.lake)
        assert all(
            snapshot.version(s) == world.lake.version(s) for s in with_hot_parts(ALL) if s is not BATCHES
        )

    def test_a_table_kept_open_goes_on_when_its_next_log_entry_is_gone(self, world):
        """A commit in the place of that entry, behind the checkpoint, would be found by nobody. Seen to fail where only
        the next entry was looked for."""
        writer = DeltaRsWriter(world.lake)
        before = world.lake.open(IDENTIFIERS).count()
        row = {"node_id": 1, "batch_id": 10**6}
        writer.append(IDENTIFIERS, rows_of(IDENTIFIERS, row), Txn("s", 1))  # opens the table
        other = DeltaRsWriter(world.lake)
        for n in range(4):
            version = other.append(IDENTIFIERS, rows_of(IDENTIFIERS, row), Txn("o", n))
        world.lake.open(IDENTIFIERS).create_checkpoint()
        vacuum(world.lake, IDENTIFIERS, version, time.time_ns(), lambda: None)
        log = world.lake.table_path(IDENTIFIERS) / "_delta_log"
        assert sorted(int(p.stem) for p in log.glob("*.json")) == [version]
        writer.append(IDENTIFIERS, rows_of(IDENTIFIERS, row), Txn("s", 2))
        assert world.lake.open(IDENTIFIERS).count() == before + 6

    def test_another_upkeep_is_refused(self, world):
        def pause(arguments):
            with pytest.raises(UpkeepRefused, match="another upkeep"):
                do_upkeep(world)
            return pause_of(world)(arguments)

        run_upkeep(world.lake, options(), pause)

    def test_a_pause_is_cut_off_and_what_is_left_gets_further_ones(self, world, monkeypatch):
        """With no time at all each pause is one step, and it ends all the same: beside a stream that has something to
        fold each time, pauses that begin at the first step would never come to the later ones."""
        steps = []
        monkeypatch.setattr(
            pause_module,
            "_joining",
            lambda holder: [("compact", lambda n=n: steps.append(n)) for n in range(5)],
        )
        report = do_upkeep(world, options(pause_seconds=0.0))
        assert (steps, len(report["pauses_seconds"])) == ([0, 1, 2, 3, 4], 5)


class TestFiles:
    def test_small_files_between_large_ones_are_joined_too(self, lake_dir):
        """delta-rs's OPTIMIZE leaves all of them: it joins neighbours in the log only."""
        lake = make_lake(lake_dir, SESSIONS)
        writer = DeltaRsWriter(lake)
        for n in range(12):
            count = 1 if n % 2 else 600
            rows = rows_of(
                SESSIONS, *({"session_id": n * 1000 + i, "updated_batch_id": n} for i in range(count))
            )
            writer.append(SESSIONS, rows, Txn("s", n))
        sizes = lake.open(SESSIONS).get_add_actions(flatten=True)["size_bytes"].to_pylist()
        target = 2 * sorted(sizes)[6]  # the smallest of the large ones
        compact_files(lake, SESSIONS, from_files=4, target_bytes=target)
        table = lake.open(SESSIONS)
        assert len(table.file_uris()) == 7
        assert table.count() == 6 * 600 + 6
        assert compact_files(lake, SESSIONS, from_files=4, target_bytes=target) == table.version()

    def test_joining_says_that_no_row_has_changed(self, world):
        compact_files(world.lake, EVENTS)
        (entry,) = world.lake.open(EVENTS).history(1)
        assert entry["userMetadata"] == "stitchlake"
        log = world.lake.table_path(EVENTS) / "_delta_log" / f"{entry['version']:020d}.json"
        assert '"dataChange":true' not in log.read_text()

    @pytest.mark.slow  # two hundred batches
    def test_after_200_batches_every_table_is_within_its_bound(self, tmp_path, monkeypatch):
        """The bound is `file_bound`, and between two compactions one file more for every batch."""
        monkeypatch.undo()
        world = filled(tmp_path / "lake", 0)
        every, kept = 20, 30
        for batch in range(200):
            world.feed(records(batch, 2))
            if batch % every == every - 1:
                world.processor.compact()
            if batch % 50 == 49:
                do_upkeep(world, options(batches=kept))
                world.processor.last.refresh()
        for spec in with_hot_parts(ALL):
            sizes = world.lake.open(spec).get_add_actions(flatten=True)["size_bytes"].to_pylist()
            assert len(sizes) <= file_bound(sum(sizes)) + every, spec.full_name
            on_disk = len(list(world.lake.table_path(spec).glob("*.parquet")))
            assert on_disk <= file_bound(sum(sizes)) + 2 * (kept + 50), spec.full_name
            log = len(list((world.lake.table_path(spec) / "_delta_log").iterdir()))
            assert log <= 2 * (kept + 50) + 10, spec.full_name


class TestLeftovers:
    def test_what_is_old_goes_and_what_is_in_use_stays(self, world):
        root = world.path / "_stitchlake"
        names = {
            "requests/1.answer": True,
            "errands/1.json": True,
            "intent.partial": True,
            "graph-checkpoints/a/rdd-1/part-0": True,
            "rebuild.json": False,
        }
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("{}")
        (root / "rebuild.json").unlink()
        (root / "stream.json").write_text('{"stream": "now", "sources": []}')
        for stream in ("now", "before"):
            (world.path / "_checkpoints" / stream).mkdir(parents=True)
        young = root / "requests" / "2.json"
        age(world, 25)
        young.write_text("{}")
        report = do_upkeep(world, options(days=0))
        assert [n for n, goes in names.items() if goes and (root / n).exists()] == []
        assert young.exists()
        assert [p.name for p in (world.path / "_checkpoints").iterdir()] == ["now"]
        assert report["leftover_count"] == 5

    def test_a_lake_that_is_locked_is_asked_and_says_so(self, world):
        with lake_lock(world.path), pytest.raises(RequestFailed, match="did not get to it"):
            run_request(
                world.path, world.policy, world.settings, "upkeep", HANDLERS, {}, patience_seconds=0.1
            )


def test_versions_are_those_of_the_batch(world):
    assert versions_of(world.lake, BATCHES_MADE)[IDENTITY_DECISIONS.full_name] == 0
