"""A backup is of one published batch, whatever is being written meanwhile; what is restored is that, or nothing."""

from __future__ import annotations

import json
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, BRONZE_EVENTS, EVENTS, IDENTITY_MAP, PROFILES, SESSIONS
from pipelines.apps.cli.__main__ import main
from pipelines.lake.hashing_key import KeyProblem, key_path
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.writer import Txn
from pipelines.operations.backup import take
from pipelines.operations.backup.manifest import BackupProblem, chosen, restore_points
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.store import Store
from pipelines.operations.backup.take import back_up
from pipelines.operations.decisions.inbox import INBOX, put
from pipelines.operations.upgrade import ready_to_write
from tests.pipelines.driver_lake import KEY, DriverLake, State, copy_of, differences, state_of
from tests.pipelines.old_lake import but_claims_and_parts, part, tree

pytestmark = pytest.mark.thorough  # whole lakes; left to the whole run


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take, "_RETRY_SECONDS", 0.0)


@pytest.fixture
def world(filled: Path, tmp_path: Path) -> DriverLake:
    return copy_of(filled, tmp_path / "world")


def rows_in(snapshot: Snapshot) -> dict[str, list[str]]:
    """Every physical row that a snapshot refers to, and every published row."""
    physical = {s.full_name: snapshot.dataset(s).to_table() for s in with_hot_parts(ALL) if s is not BATCHES}
    live = {f"{s.full_name} live": snapshot.arrow(s) for s in ALL}
    return {name: sorted(map(repr, rows.to_pylist())) for name, rows in (physical | live).items()}


def at_batch(lake: Lake, batch_id: int) -> Snapshot:
    rows = (
        lake.open(BATCHES).to_pyarrow_dataset().to_table(filter=pc.field("batch_id") == batch_id).to_pylist()
    )
    return Snapshot(lake, batch_id, dict(rows[0]["table_versions"]), "s", rows[0]["published_at"], rows[0])


def checkpoints_of(lake: Lake, spec: TableSpec) -> list[int]:
    """The versions that a table's log has checkpoints of."""
    log = lake.table_path(spec) / "_delta_log"
    return [int(file.name.partition(".")[0]) for file in log.glob("*.checkpoint.parquet")]


def restored(backup: Path, folder: Path, batch_id: int | None = None) -> Lake:
    shutil.rmtree(folder, ignore_errors=True)
    return Lake(restore(backup, folder / "lake", batch_id).lake)


def test_a_restored_lake_is_the_batch_and_opens_at_no_other_version(
    world: DriverLake, tmp_path: Path
) -> None:
    backup, before = tmp_path / "backup", tree(world.lake)
    back_up(world.path, backup)
    assert tree(world.lake) == before  # nothing is written to the lake, its lock included
    expected = rows_in(published(world.lake))
    world.land("3.jsonl", part(3))
    lake = restored(backup, tmp_path / "restored")
    assert rows_in(published(lake)) == expected
    recorded = published(lake).table_versions
    for spec in with_hot_parts(ALL):
        if spec is not BATCHES:
            assert lake.version(spec) == recorded[spec.full_name], spec.full_name
    assert lake.format() == world.lake.format()


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize(
    "spec",
    [
        PROFILES.hot,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (BRONZE_EVENTS, IDENTITY_MAP.hot, BATCHES)),
    ],
    ids=lambda s: s.full_name,
)
def test_half_a_batch_is_in_no_backup(
    world: DriverLake,
    fresh: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: TableSpec,
) -> None:
    """The process dies when the batch has written this table (of ops.batches: just before). Fails where the latest
    version of a table is taken instead of the one that the batch recorded."""
    expected = rows_in(published(world.lake))
    real = world.processor.setup.writer.append

    def append(to: TableSpec, rows: pa.Table, txn: Txn) -> int:
        version = 0 if to is BATCHES else real(to, rows, txn)
        if to == spec:
            raise Interrupted
        return version

    monkeypatch.setattr(world.processor.setup.writer, "append", append)
    with pytest.raises(Interrupted):
        world.land("3.jsonl", part(3))
    back_up(world.path, tmp_path / "backup")
    shutil.rmtree(world.path)
    lake = restored(tmp_path / "backup", tmp_path / "restored")
    assert rows_in(published(lake)) == expected
    for each in with_hot_parts(ALL):
        column = "updated_batch_id" if "updated_batch_id" in each.names else "batch_id"
        rows = lake.open(each).to_pyarrow_table()
        assert not rows.num_rows or pc.max(rows[column]).as_py() <= published(lake).batch_id
    again = DriverLake(tmp_path / "restored", stream="another")
    again.land("3.jsonl", part(3))
    again.processor.compact()
    assert differences(state_of(again.lake), fresh) == []
    counts = [b["received_count"] for b in published(again.lake).arrow(BATCHES).to_pylist()]
    assert sum(counts) == sum(len(part(n).splitlines()) for n in (1, 2, 3))


def test_backups_beside_a_stream_are_each_one_published_batch(tmp_path: Path) -> None:
    world, backup = DriverLake(tmp_path / "world"), tmp_path / "backup"
    lines = b"".join(part(n) for n in (1, 2, 3, 4)).splitlines(keepends=True)
    world.land("first.jsonl", b"".join(lines[:10]))
    failed: list[BaseException] = []

    def stream() -> None:
        try:
            for number in range(1, 12):
                world.land(f"{number}.jsonl", b"".join(lines[10 * number : 10 * number + 10]))
                if number % 3 == 0:
                    world.processor.compact()
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=stream)
    thread.start()
    taken = {back_up(world.path, backup).manifest.batch_id}
    while thread.is_alive():
        taken.add(back_up(world.path, backup).manifest.batch_id)
    assert not failed
    assert len(taken) > 2
    for batch_id in random.sample(sorted(taken), min(len(taken), 4)):
        lake = restored(backup, tmp_path / "restored", batch_id)
        assert published(lake).batch_id == batch_id
        assert rows_in(published(lake)) == rows_in(at_batch(world.lake, batch_id))


def test_a_second_backup_copies_what_is_new_and_the_first_one_stays(
    world: DriverLake, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    first = back_up(world.path, backup)
    expected = rows_in(published(world.lake))
    assert first.copied_file_count > 50
    assert back_up(world.path, backup).copied_file_count == 0
    assert len(restore_points(backup)) == 1  # of the same batch
    world.land("3.jsonl", part(3))
    third = back_up(world.path, backup)
    data = [f for f in third.manifest.files if take._is_data(f.path)]
    assert third.copied_file_count < len(third.manifest.files) / 2
    assert {f.path for f in data} > {f.path for f in first.manifest.files if take._is_data(f.path)}
    lake = restored(backup, tmp_path / "restored", first.manifest.batch_id)
    assert rows_in(published(lake)) == expected
    assert rows_in(published(restored(backup, tmp_path / "restored"))) == rows_in(published(world.lake))


def test_a_lake_that_was_restored_may_go_another_way_in_the_same_backup(
    world: DriverLake, tmp_path: Path
) -> None:
    """Its commits have the numbers of those that were lost, and other contents."""
    backup = tmp_path / "backup"
    back_up(world.path, backup)
    world.land("3.jsonl", part(3))
    lost = back_up(world.path, backup).manifest
    restore(backup, tmp_path / "restored" / "lake", lost.batch_id - 1)
    again = DriverLake(tmp_path / "restored", stream="another")
    again.land("4.jsonl", part(4))
    mine = back_up(again.path, backup).manifest
    assert mine.batch_id == lost.batch_id
    assert len(restore_points(backup)) == 3
    lake = restored(backup, tmp_path / "third", mine.batch_id)
    assert rows_in(published(lake)) == rows_in(published(again.lake))


def test_only_so_many_restore_points_are_kept_and_no_more_bytes_than_they_need(
    world: DriverLake, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up(world.path, backup)
    world.land("3.jsonl", part(3))
    world.processor.compact()
    taken = back_up(world.path, backup, keep=1)
    assert taken.forgotten_point_count == 1
    needed = {f.sha256 for f in taken.manifest.files}
    assert {f.name for f in (backup / "objects").glob("*/*")} == needed
    assert rows_in(published(restored(backup, tmp_path / "restored"))) == rows_in(published(world.lake))


def vacuum(lake: Lake) -> None:
    for spec in with_hot_parts(ALL):
        lake.open(spec).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def test_files_that_vanish_under_a_backup_make_it_take_a_newer_batch(
    world: DriverLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_first = Store.put, iter([True])

    def put_late(store: Store, file: Path, path: str) -> object:
        if next(is_first, False):
            world.processor.compact()
            vacuum(world.lake)
        return real(store, file, path)

    monkeypatch.setattr(Store, "put", put_late)
    begun_at = published(world.lake).batch_id
    taken = back_up(world.path, tmp_path / "backup")
    assert taken.manifest.batch_id == begun_at + 1
    assert rows_in(published(restored(tmp_path / "backup", tmp_path / "r"))) == rows_in(published(world.lake))


def test_a_lake_that_has_lost_a_file_is_not_backed_up(world: DriverLake, tmp_path: Path) -> None:
    lost = next(world.lake.table_path(EVENTS).glob("*.parquet"))
    lost.unlink()
    with pytest.raises(BackupProblem, match=f"{lost.name}.*vacuumed while"):
        back_up(world.path, tmp_path / "backup")
    assert restore_points(tmp_path / "backup") == []


def test_a_log_that_was_cleaned_up_is_copied_from_its_checkpoint_and_no_later_one(
    world: DriverLake, tmp_path: Path
) -> None:
    expected = rows_in(published(world.lake))
    log = world.lake.table_path(EVENTS) / "_delta_log"
    world.lake.open(EVENTS).create_checkpoint()
    version = world.lake.version(EVENTS)
    for number in range(version):
        (log / f"{number:020d}.json").unlink()
    of_batch = world.lake.version(SESSIONS.hot)  # half a batch follows, and a checkpoint behind it
    world.processor.setup.writer.append(
        SESSIONS.hot, world.lake.open(SESSIONS.hot).to_pyarrow_table(), Txn("x", 9)
    )
    world.lake.open(SESSIONS.hot).create_checkpoint()
    assert max(checkpoints_of(world.lake, SESSIONS.hot)) == of_batch + 1
    back_up(world.path, tmp_path / "backup")
    lake = restored(tmp_path / "backup", tmp_path / "restored")
    assert rows_in(published(lake)) == expected
    names = {f.name for f in (lake.table_path(EVENTS) / "_delta_log").iterdir()}
    assert names == {f"{version:020d}.checkpoint.parquet", f"{version:020d}.json"}
    assert max(checkpoints_of(lake, SESSIONS.hot), default=0) <= of_batch  # the writer's own may be there


@pytest.mark.parametrize("after", [0, 7, 60])
def test_a_backup_that_was_broken_off_is_none_and_the_next_one_is_whole(
    world: DriverLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Fails where the manifest is written first."""
    backup, real, count = tmp_path / "backup", Store.put, iter(range(1000))

    def put_some(store: Store, file: Path, path: str) -> object:
        if next(count) == after:
            (store.backup / "partial" / "file").write_bytes(b"half a fi")
            raise Interrupted
        return real(store, file, path)

    with monkeypatch.context() as dying:
        dying.setattr(Store, "put", put_some)
        with pytest.raises(Interrupted):
            back_up(world.path, backup)
    assert restore_points(backup) == []
    with pytest.raises(BackupProblem, match="there is no restore point"):
        restore(backup, tmp_path / "restored" / "lake")
    back_up(world.path, backup)
    assert not list((backup / "partial").iterdir())
    assert rows_in(published(restored(backup, tmp_path / "restored"))) == rows_in(published(world.lake))


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [Path.unlink, _truncated, _changed], ids=["missing", "truncated", "one bit"]
)
def test_a_damaged_backup_is_found_and_leaves_no_lake(
    world: DriverLake, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """One bit passes where sizes alone are compared."""
    backup = tmp_path / "backup"
    back_up(world.path, backup)
    stored = random.choice([f for f in chosen(backup, None).files if f.size])
    damage(Store(backup).place(stored))
    with pytest.raises(
        BackupProblem, match=r"the backup is damaged.*of the lake, (is missing|has other bytes)"
    ):
        restore(backup, tmp_path / "restored" / "lake")
    assert list((tmp_path / "restored").iterdir()) == []


def test_the_hashing_key_is_copied_when_asked_for_and_never_otherwise(
    world: DriverLake, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    assert not back_up(world.path, backup).has_key
    assert not any(KEY in f.read_bytes() for f in backup.rglob("*") if f.is_file())
    lake = tmp_path / "restored" / "lake"
    assert not restore(backup, lake).has_key
    assert not key_path(lake).exists()
    shutil.rmtree(lake)
    assert back_up(world.path, backup, with_key=True).has_key
    (kept,) = (backup / "keys").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert restore(backup, lake).has_key
    assert key_path(lake).read_bytes() == KEY
    assert stat.S_IMODE(key_path(lake).stat().st_mode) == 0o600
    shutil.rmtree(lake)
    key_path(lake).write_bytes(b"another lake's key, of 32 bytes."[:32])
    with pytest.raises(KeyProblem, match="is not the one the backed-up lake was made with"):
        restore(backup, lake)
    assert not lake.exists()


def test_a_decision_that_waits_is_not_lost(world: DriverLake, tmp_path: Path) -> None:
    decision = put(world.path, {"decision": "merge"})
    back_up(world.path, tmp_path / "backup")
    (waiting,) = (restored(tmp_path / "backup", tmp_path / "restored").path / INBOX).iterdir()
    assert json.loads(waiting.read_bytes())["decision_id"] == decision


def test_an_older_lake_is_backed_up_as_it_is_and_upgraded_when_it_is_written_again(
    old: Lake,
    tmp_path: Path,
    fresh: State,
) -> None:
    files = tree(old)
    manifest = back_up(old.path, tmp_path / "backup").manifest
    assert manifest.lake_format == 1
    assert tree(old) == files
    lake = restored(tmp_path / "backup", tmp_path / "restored")
    ready_to_write(lake, print)
    assert differences(but_claims_and_parts(state_of(lake)), but_claims_and_parts(fresh)) == []


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Iterator[dict]:
    assert main([*words, "--json"]) == 0
    return (json.loads(line) for line in capsys.readouterr().out.splitlines())


def test_the_commands(world: DriverLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup, lake, target = str(tmp_path / "backup"), ["--lake", str(world.path)], str(tmp_path / "elsewhere")
    assert main(["restore", backup]) == 1
    assert "there is no restore point" in capsys.readouterr().err
    assert main(["backup", backup, *lake]) == 0
    shown = capsys.readouterr()
    assert "rows in" in shown.out
    assert "the hashing key (fingerprint" in shown.err
    assert "the backup holds raw identifiers and events without it too" in shown.err
    world.land("3.jsonl", part(3))
    (taken,) = said(capsys, "backup", backup, *lake, "--with-key")
    assert taken["batch_id"] == 4
    assert taken["has_key"]
    assert [p["batch_id"] for p in said(capsys, "restore", backup)] == [3, 4]
    assert main(["restore", backup]) == 0
    assert capsys.readouterr().out.count("\n") > 3
    (done,) = said(capsys, "restore", backup, target, "--batch", "3")
    assert (done["batch_id"], done["has_key"]) == (3, True)
    assert main(["status", "--lake", target]) == 0
    assert main(["sql", "SELECT count(*) FROM gold.profiles_live", "--lake", target]) == 0
    capsys.readouterr()
    for words, code, problem in (
        (["restore", backup, target], 1, "is not empty, and nothing is overwritten"),
        (
            ["restore", backup, target + "2", "--batch", "9"],
            1,
            "has no restore point of batch 9; it has 3, 4",
        ),
        (["restore", backup, "--batch", "3"], 2, "--batch needs DEST_LAKE"),
        (["backup", backup, "--lake", str(tmp_path / "nowhere")], 1, "no lake in"),
        (["backup", str(world.path / "inside"), *lake], 1, "must not lie in each other"),
    ):
        assert main(words) == code
        assert problem in capsys.readouterr().err
