"""Whoever goes round the lock is noticed: rows that somebody else changed stop the line; `repair` takes them back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from conf.table_spec import TableSpec
from conf.tables import BATCHES, BRONZE_EVENTS, BY_NAME, EVENTS, IDENTITY_LOG, IDENTITY_MAP, PROFILES
from pipelines.apps.cli.__main__ import main
from pipelines.lake.fence import LakeChanged, require_as_left
from pipelines.lake.snapshot import published
from pipelines.operations.attempt import take_back_unfinished
from pipelines.operations.decisions.inbox import apply_waiting, settle
from pipelines.operations.repair import repair
from pipelines.stream.batch.intent import INTENT
from tests.direct_lake import DirectLake

pytestmark = pytest.mark.thorough  # a copy of a real lake each

EVENTS_OF_BATCHES = [
    [
        {
            "event_id": f"{n}-{i}",
            "timestamp": f"2026-03-0{n + 1}T10:0{i}:00Z",
            "identifiers": {"user_id": f"u{i}"},
        }
        for i in range(3)
    ]
    for n in range(5)
]
BAD = b"not json\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = DirectLake(tmp_path_factory.mktemp("template") / "lake")
    for records in EVENTS_OF_BATCHES[:3]:
        world.feed(records)
    world.processor.compact()
    return world.path


class World(DirectLake):
    """A copy of a lake of three batches and a compaction, with a process that writes it."""

    def __init__(self, template: Path, path: Path) -> None:
        shutil.copytree(template, path)
        super().__init__(path)
        self.batches = 3

    def start(self) -> None:
        """What whoever takes the lock does first, and the first batch after it."""
        take_back_unfinished(self.lake, published(self.lake))
        self.processor = self.new_processor()
        self.processor.last.ready()

    def contents(self) -> dict[str, list]:
        snapshot = published(self.lake)
        return {
            name: sorted(map(repr, snapshot.arrow(spec, [*spec.with_role("content")]).to_pylist()))
            for name, spec in BY_NAME.items()
            if spec.schema != "ops"
        }

    def break_off(self, monkeypatch: pytest.MonkeyPatch, records: list) -> None:
        """A batch that writes its tables and dies before the row that publishes them."""
        with monkeypatch.context() as patched:
            patched.setattr("pipelines.stream.batch.steps.publication_row", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                self.feed(records)
        self.processor = self.new_processor()


@pytest.fixture
def world(template: Path, tmp_path: Path) -> World:
    return World(template, tmp_path / "lake")


def table(world: World, spec: TableSpec) -> DeltaTable:
    return world.lake.open(spec)


def append_again(world: World, spec: TableSpec) -> None:
    rows = table(world, spec).to_pyarrow_table()
    write_deltalake(table(world, spec), rows.slice(0, 1), mode="append")


def append_in_a_transaction(world: World, spec: TableSpec) -> None:
    rows = table(world, spec).to_pyarrow_table()
    properties = CommitProperties(app_transactions=[Transaction("another program", 3)])
    write_deltalake(table(world, spec), rows.slice(0, 1), mode="append", commit_properties=properties)


def overwrite(world: World, spec: TableSpec) -> None:
    write_deltalake(table(world, spec), table(world, spec).to_pyarrow_table(), mode="overwrite")


def merge(world: World, spec: TableSpec) -> None:
    rows = table(world, spec).to_pyarrow_table().slice(0, 1)
    on = " AND ".join(f"t.{k} = s.{k}" for k in spec.key or ("batch_id",))
    merging = table(world, spec).merge(rows, on, source_alias="s", target_alias="t")
    merging.when_matched_update(
        {"batch_id" if "batch_id" in spec.names else "updated_batch_id": "0"}
    ).execute()


FOREIGN: dict[str, Callable[[World, TableSpec], None]] = {
    "DELETE": lambda world, spec: table(world, spec).delete("true") and None,
    "UPDATE": lambda world, spec: table(world, spec).update({"tenant": "'x'"}) and None,
    "RESTORE": lambda world, spec: table(world, spec).restore(table(world, spec).version() - 1) and None,
    "WRITE": append_again,
    "WRITE in a transaction": append_in_a_transaction,
    "WRITE over": overwrite,
    "MERGE": merge,
}


def optimize(world: World, spec: TableSpec) -> None:
    table(world, spec).optimize.compact()


def vacuum(world: World, spec: TableSpec) -> None:
    table(world, spec).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def describe(world: World, spec: TableSpec) -> None:
    table(world, spec).alter.set_table_description("ours")


def touch(world: World, spec: TableSpec) -> None:
    assert table(world, spec).delete("tenant = 'nobody'")["num_deleted_rows"] == 0


HARMLESS = {"OPTIMIZE": optimize, "VACUUM": vacuum, "a comment": describe, "a DELETE of nothing": touch}


@pytest.mark.parametrize(
    ("operation", "spec"),
    [
        *((operation, EVENTS) for operation in FOREIGN),
        ("DELETE", BATCHES),
        ("MERGE", PROFILES),
        ("UPDATE", IDENTITY_LOG),
    ],
    ids=lambda value: getattr(value, "full_name", value),
)
def test_rows_that_somebody_else_changed_stop_the_next_start_and_repair_takes_them_back(
    world: World, operation: str, spec: TableSpec, capsys: pytest.CaptureFixture
) -> None:
    before, left = world.contents(), world.lake.version(spec)
    FOREIGN[operation](world, spec)
    words = rf"{spec.full_name}.*version {left + 1} \({operation.split()[0]}\).*`stitchlake repair`"
    if spec is not BATCHES or operation != "DELETE":  # with no row left, nothing is published
        with pytest.raises(LakeChanged, match=words) as stop:
            world.start()
        assert "\n" not in str(stop.value)
    assert main(["repair", "--lake", str(world.path)]) == 0
    assert f"{spec.full_name}: from version {left + 1} back to {left}" in capsys.readouterr().out
    assert world.contents() == before
    world.start()
    assert repair(world.path) == []
    world.feed(EVENTS_OF_BATCHES[3])
    assert len(published(world.lake).arrow(EVENTS)) == 12


@pytest.mark.parametrize("operation", HARMLESS)
def test_what_changes_no_rows_is_let_pass(world: World, operation: str) -> None:
    for spec in (EVENTS, PROFILES, BATCHES):
        HARMLESS[operation](world, spec)
    world.start()
    world.feed(EVENTS_OF_BATCHES[3])
    for spec in (EVENTS, PROFILES.hot, BATCHES):  # and between two batches
        HARMLESS[operation](world, spec)
    world.feed(EVENTS_OF_BATCHES[4])
    world.processor.compact()
    assert len(published(world.lake).arrow(EVENTS)) == 15
    world.start()


@pytest.mark.parametrize("spec", [BRONZE_EVENTS, EVENTS, PROFILES.hot, BATCHES], ids=lambda s: s.full_name)
def test_a_foreign_commit_between_two_batches_stops_the_batch_that_meets_it(
    world: World, spec: TableSpec
) -> None:
    world.feed(EVENTS_OF_BATCHES[3])
    before, left = world.contents(), world.lake.version(spec)
    append_again(world, spec)
    with pytest.raises(LakeChanged, match=rf"{spec.full_name}: version {left + 1} \(WRITE\)"):
        world.feed(EVENTS_OF_BATCHES[4])
    with pytest.raises(LakeChanged):
        world.start()
    assert repair(world.path)
    world.stream = "a new checkpoint"
    world.start()
    assert world.contents() == before
    world.feed(EVENTS_OF_BATCHES[4])
    assert len(published(world.lake).arrow(EVENTS)) == 15


def test_compaction_does_not_fold_in_what_somebody_else_put_into_a_hot_part(world: World) -> None:
    world.feed(EVENTS_OF_BATCHES[3])
    base = world.lake.version(PROFILES)
    append_again(world, PROFILES.hot)
    with pytest.raises(LakeChanged, match="profiles_hot"):
        world.processor.compact()
    assert world.lake.version(PROFILES) == base


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_table_put_back_from_an_older_copy_is_refused_before_anything_is_written(
    world: World, tmp_path: Path, is_gone: bool
) -> None:
    folder = world.lake.table_path(EVENTS)
    shutil.copytree(folder, tmp_path / "copy")
    world.feed(EVENTS_OF_BATCHES[3])
    shutil.rmtree(folder)
    if not is_gone:
        shutil.copytree(tmp_path / "copy", folder)
    world.lake.create_missing()
    with pytest.raises(
        LakeChanged, match=r"silver.events is at version \d+, and this lake left it at .*put back"
    ):
        world.start()
    with pytest.raises(LakeChanged, match="put back"):
        repair(world.path)


def test_a_removed_or_older_ops_batches_is_refused(world: World, tmp_path: Path) -> None:
    folder = world.lake.table_path(BATCHES)
    shutil.copytree(folder, tmp_path / "copy")
    for records in EVENTS_OF_BATCHES[3:]:
        world.feed(records)
    shutil.rmtree(folder)
    world.lake.create_missing()
    with pytest.raises(LakeChanged, match="no published batch knows of"):
        world.start()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    with pytest.raises(LakeChanged, match="is not this lake's own"):
        world.start()
    repair(world.path)  # the batches that it does not know are taken back, to be read again
    world.stream = "a new checkpoint"
    world.start()
    assert len(published(world.lake).arrow(EVENTS)) == 9
    world.feed(EVENTS_OF_BATCHES[3])
    assert len(published(world.lake).arrow(EVENTS)) == 12


def test_a_restored_ops_batches_is_brought_back_to_its_newest_row(world: World) -> None:
    before = world.contents()
    table(world, BATCHES).restore(2)
    with pytest.raises(LakeChanged):
        world.start()
    assert repair(world.path) == ["ops.batches: from version 5 back to 4"]
    assert world.contents() == before
    world.start()


def test_half_written_batches_and_broken_off_compactions_are_our_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.break_off(monkeypatch, EVENTS_OF_BATCHES[3])
    world.start()
    world.feed(EVENTS_OF_BATCHES[3])
    assert len(published(world.lake).arrow(EVENTS)) == 12
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.compacting.publication_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.processor.compact()
    world.start()
    world.feed(EVENTS_OF_BATCHES[4])
    assert len(published(world.lake).arrow(EVENTS)) == 15


def test_what_was_taken_back_because_nobody_completes_it_is_explained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail while the deletion alone was marked: the rows it took back had come from nobody."""
    world.break_off(monkeypatch, EVENTS_OF_BATCHES[3])
    assert settle(world.lake, "a new checkpoint", is_continued=False)
    assert not (world.path / INTENT).exists()
    world.stream = "a new checkpoint"
    for _ in range(2):
        world.start()
        world.feed(EVENTS_OF_BATCHES[3])
    assert len(published(world.lake).arrow(EVENTS)) == 12


def test_a_half_written_batch_whose_intent_was_lost_is_no_longer_our_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.break_off(monkeypatch, EVENTS_OF_BATCHES[3])
    intent = world.path / INTENT
    content = intent.read_text()
    for damage in ("", "{", json.dumps({"stream": "x"})):
        intent.write_text(damage)
        with pytest.raises(Exception, match="`stitchlake repair`"):
            world.start()
    intent.unlink()
    with pytest.raises(LakeChanged):
        world.start()
    intent.write_text(content)
    world.start()


def test_repair_takes_a_half_written_batch_along_because_restore_keeps_its_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued with the same transactions, the retry would write nothing and publish that."""
    world.break_off(monkeypatch, EVENTS_OF_BATCHES[3])
    append_again(world, IDENTITY_MAP)
    (world.path / "_stitchlake/stream.json").write_text('{"stream": "direct", "sources": []}')
    repair(world.path)
    assert not (world.path / "_stitchlake/stream.json").exists()
    assert not (world.path / INTENT).exists()
    world.stream = "a new checkpoint"
    world.start()
    world.feed(EVENTS_OF_BATCHES[3])
    assert len(published(world.lake).arrow(EVENTS)) == 12


def test_two_processes_with_one_checkpoint_are_noticed_by_the_first_commit(world: World) -> None:
    """Where no lock holds them apart. Of one batch they would write the same rows, once; the next one is noticed."""
    world.processor.last.ready()
    other = DirectLake(world.path)
    other.batches = 3
    other.feed(EVENTS_OF_BATCHES[3])
    world.batches = 4
    with pytest.raises(LakeChanged, match=r"\(WRITE\) is not this lake's own"):
        world.feed(EVENTS_OF_BATCHES[4])


def test_every_way_of_taking_the_lock_looks_first(world: World) -> None:
    append_again(world, EVENTS)
    with pytest.raises(LakeChanged):
        apply_waiting(world.path, world.policy, world.settings)


def test_what_was_cleaned_from_the_log_is_not_taken_for_ours(world: World) -> None:
    left = published(world.lake).table_versions
    for _ in range(2):
        append_again(world, EVENTS)
    table(world, EVENTS).create_checkpoint()
    for version in range(left["silver.events"] + 2):
        (world.lake.table_path(EVENTS) / "_delta_log" / f"{version:020d}.json").unlink()
    with pytest.raises(LakeChanged, match="removed from the log"):
        require_as_left(world.lake, left)
