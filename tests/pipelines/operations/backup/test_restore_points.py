"""Restore points: the newest is the one taken last, whatever the clock says, and none leads out of the lake."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conf.tables import EVENTS
from pipelines.lake.snapshot import published
from pipelines.operations.backup import manifest as manifests
from pipelines.operations.backup.manifest import POINTS, BackupProblem, chosen, read_manifest, restore_points
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.store import OBJECTS, Store
from pipelines.operations.backup.take import back_up
from pipelines.runtime.contained import LeadsOutside, contained
from pipelines.stream.batch import publish
from tests.pipelines.driver_lake import DriverLake, copy_of
from tests.pipelines.old_lake import part

pytestmark = pytest.mark.thorough  # whole lakes; left to the whole run


@pytest.fixture
def world(filled: Path, tmp_path: Path) -> DriverLake:
    return copy_of(filled, tmp_path / "world")


def set_clock(patch: pytest.MonkeyPatch, year: int) -> None:
    """Let batches be published in that year."""
    at = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1e9)
    patch.setattr(publish.time, "time_ns", lambda: at)


class TestOrder:
    def test_a_point_taken_with_the_clock_ahead_does_not_stay_the_newest(
        self, world: DriverLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seen to fail while points were ordered by `published_at`: `keep` removed each new one."""
        backup = tmp_path / "backup"
        with monkeypatch.context() as ahead:
            set_clock(ahead, 2099)
            world.land("3.jsonl", part(3))
        assert back_up(world.path, backup).manifest.published_at.startswith("2099")
        for number in (4, 5):
            world.land(f"{number}.jsonl", part(1))
            taken = back_up(world.path, backup, keep=1).manifest
            assert chosen(backup, None).batch_id == taken.batch_id == published(world.lake).batch_id
            assert len(restore_points(backup)) == 1

    def test_points_of_a_program_that_ordered_them_by_time_are_older_than_any_new_one(
        self, world: DriverLake, tmp_path: Path
    ) -> None:
        backup = tmp_path / "backup"
        said = json.loads(back_up(world.path, backup).manifest.to_json())
        (point,) = restore_points(backup)
        for name in ("sequence", "archive"):
            del said[name]
        point.unlink()
        (backup / POINTS / "2099-01-01T000000.000000Z-batch-0000000003.json").write_text(json.dumps(said))
        assert chosen(backup, 3).sequence == 0
        world.land("3.jsonl", part(3))
        assert back_up(world.path, backup).manifest.sequence == 1
        assert [read_manifest(p).batch_id for p in restore_points(backup)] == [3, 4]
        assert chosen(backup, None).batch_id == 4

    def test_a_damaged_point_does_not_hinder_the_next_one(self, world: DriverLake, tmp_path: Path) -> None:
        backup = tmp_path / "backup"
        back_up(world.path, backup)
        restore_points(backup)[-1].write_text("{")
        (backup / POINTS / "notes.json").write_text("{}")  # somebody's own
        assert back_up(world.path, backup).manifest.sequence == 2
        assert restore(backup, tmp_path / "r" / "lake").manifest.sequence == 2


def _absolute(said: dict, backup: Path, outside: Path) -> None:
    said["files"][0]["path"] = str(outside / "planted")


def _upwards(said: dict, backup: Path, outside: Path) -> None:
    said["files"][0]["path"] = f"bronze/../../../{outside.name}/planted"


def _digest_is_a_path(said: dict, backup: Path, outside: Path) -> None:
    said["files"][0]["sha256"] = str(outside / "secret")


def _object_is_a_link(said: dict, backup: Path, outside: Path) -> None:
    digest = said["files"][0]["sha256"]
    place = backup / OBJECTS / digest[:2] / digest
    place.rename(outside / "bytes")  # the right ones, so that the digest does not give it away
    place.symlink_to(outside / "bytes")


def _table_elsewhere(said: dict, backup: Path, outside: Path) -> None:
    said["tables"][f"..{outside}"] = said["tables"].pop("silver.events")


def _key_elsewhere(said: dict, backup: Path, outside: Path) -> None:
    said["key_fingerprint"] = f"../../{outside.name}/secret"


def _log_names_a_file_outside(said: dict, backup: Path, outside: Path) -> None:
    """The log itself is hostile: a reader of the restored lake would follow it."""
    commits = [
        f for f in said["files"] if f["path"].startswith("silver/events/_delta_log") and ".json" in f["path"]
    ]
    for commit in commits:
        place = Store(backup).place(manifests.StoredFile(**commit))
        text = place.read_text(encoding="utf-8").replace('"path":"', f'"path":"{outside}/')
        changed = outside / "commit"
        changed.write_text(text, encoding="utf-8")
        stored = Store(backup).put(changed, commit["path"])
        commit["size"], commit["sha256"] = stored.size, stored.sha256


OUTSIDE, NO_POINT = "leads out of", "is not a readable restore point"  # contained, _require_plain
HOSTILE = {
    _absolute: OUTSIDE, _upwards: OUTSIDE, _object_is_a_link: OUTSIDE, _log_names_a_file_outside: OUTSIDE,
    _digest_is_a_path: NO_POINT, _table_elsewhere: NO_POINT, _key_elsewhere: NO_POINT,
}  # fmt: skip


class TestContainment:
    @pytest.mark.parametrize("make_hostile", HOSTILE, ids=lambda f: f.__name__.lstrip("_"))
    def test_a_hostile_restore_point_writes_and_reads_nothing_outside(
        self, world: DriverLake, tmp_path: Path, make_hostile: Callable[[dict, Path, Path], None]
    ) -> None:
        """Seen to fail with `contained` taken out, the first four; and the others with `_require_plain` taken out."""
        backup, outside = tmp_path / "backup", tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"not of the lake")
        back_up(world.path, backup)
        (point,) = restore_points(backup)
        said = json.loads(point.read_text())
        make_hostile(said, backup, outside)
        point.write_text(json.dumps(said))
        before = {f: f.read_bytes() for f in outside.iterdir()}
        with pytest.raises(BackupProblem, match=HOSTILE[make_hostile]):
            restore(backup, tmp_path / "r" / "lake")
        assert {f: f.read_bytes() for f in outside.iterdir()} == before
        assert not list((tmp_path / "r").glob("*"))

    def test_a_link_in_the_place_of_the_half_made_lake_is_not_followed(
        self, world: DriverLake, tmp_path: Path
    ) -> None:
        back_up(world.path, tmp_path / "backup")
        (tmp_path / "outside").mkdir()
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / ".lake.restoring").symlink_to(tmp_path / "outside")
        with pytest.raises(FileExistsError):
            restore(tmp_path / "backup", tmp_path / "r" / "lake")
        assert not list((tmp_path / "outside").iterdir())

    def test_a_log_that_names_a_file_outside_is_not_backed_up(
        self, world: DriverLake, tmp_path: Path
    ) -> None:
        log = world.lake.table_path(EVENTS) / "_delta_log"
        for commit in log.glob("*.json"):
            commit.write_text(commit.read_text().replace('"path":"', '"path":"../../../'), encoding="utf-8")
        for checkpoint in (*log.glob("*.parquet"), *log.glob("_last*")):
            checkpoint.unlink()
        with pytest.raises(BackupProblem, match="not its own"):
            back_up(world.path, tmp_path / "backup")

    @pytest.mark.parametrize(
        "name", ["/etc/passwd", "../x", "a/../../x", "", ".", "a\0b", "file:///etc/passwd", "link/x", "link"]
    )
    def test_what_is_contained(self, tmp_path: Path, name: str) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (root / "link").symlink_to(tmp_path)
        with pytest.raises(LeadsOutside):
            contained(root, name)

    def test_a_root_may_be_a_link_itself(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "root").symlink_to(tmp_path / "disk")
        assert contained(tmp_path / "root", "a/b.parquet") == tmp_path / "root" / "a" / "b.parquet"
