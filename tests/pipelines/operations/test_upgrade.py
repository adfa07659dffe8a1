"""A lake that an older program made: read as it is, brought to the present format once, and then like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from conf.policy import load_policy
from conf.settings import load_settings
from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    EVENTS,
    FILES,
    FORMAT,
    IDENTITY_DECISIONS,
    IDENTITY_REDIRECTS,
    MIGRATIONS,
    OUTSIDE_BATCHES,
    PROFILES,
    QUARANTINE,
    SESSIONS,
)
from pipelines.apps.cli.__main__ import main
from pipelines.lake import migrations
from pipelines.lake.lake import FIRST_FORMAT, Lake, LakeTooNew, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations import upgrade
from pipelines.operations.attempt import begin
from pipelines.operations.rebuild.backfill import rebuild
from pipelines.operations.upgrade import ready_to_write
from pipelines.stream.batch.intent import INTENT, Intent, IntentConflict, record_intent
from tests.pipelines.driver_lake import DriverLake, State, differences, state_of
from tests.pipelines.lake_rows import rows_of
from tests.pipelines.old_lake import but_claims_and_parts, part, tree

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.thorough  # whole lakes; left to the whole run

ALL_MIGRATIONS = [(1, 2, "places_in_records"), (2, 3, "sessions_of_one_span"), (3, 4, "files_by_name")]
OLD_STREAM = "0123456789abcdef0123456789abcdef"


def upgraded(lake: Lake) -> list[str]:
    said: list[str] = []
    ready_to_write(lake, said.append)
    return said


def recorded(lake: Lake) -> list[tuple[int | None, int, str]]:
    rows = lake.open(MIGRATIONS).to_pyarrow_table().sort_by("to_format").to_pylist()
    return [(r["from_format"], r["to_format"], r["migration"]) for r in rows]


def no_spark() -> SparkSession:
    raise AssertionError("so few records are read by this process")


def ids(lake: Lake, spec: TableSpec, column: str) -> set[int]:
    return set(published(lake).arrow(spec, [column])[column].to_pylist())


def test_the_old_lake_and_a_new_one_end_alike(old: Lake, tmp_path: Path) -> None:
    """Fails without the migration (silver.quarantine's keys), and failed while the offsets of record were looked for
    with a filter that finds every row of a file without the column."""
    assert upgraded(old) == [
        f"the lake {old.path} is brought to format {number} ({name}) …" for _, number, name in ALL_MIGRATIONS
    ]
    assert upgraded(old) == []
    before = ids(old, PROFILES, "canonical_id")
    new = DriverLake(tmp_path / "new")
    for number in (1, 2, 3):
        new.land(f"{number}.jsonl", part(number))
    assert differences(but_claims_and_parts(state_of(old)), but_claims_and_parts(state_of(new.lake))) == []
    assert rebuild(old.path, load_policy(), load_settings("laptop"), spark=no_spark) is not None
    assert differences(state_of(old), state_of(new.lake)) == []
    continued = DriverLake(tmp_path / "world", stream="another")
    for world in (continued, new):
        world.land("4.jsonl", part(4))
        world.land("again.jsonl", part(1))
        world.processor.compact()
    assert differences(state_of(old), state_of(new.lake)) == []
    assert before <= ids(old, PROFILES, "canonical_id") | ids(old, IDENTITY_REDIRECTS, "retired_canonical_id")
    assert recorded(old) == ALL_MIGRATIONS
    batches = published(old).arrow(BATCHES).sort_by("batch_id").to_pylist()
    kinds = ["batch", "batch", "compaction", "batch", "migration", "migration", "migration"]
    assert [b["kind"] for b in batches[:7]] == kinds
    assert all(b["record_count"] == b["received_count"] for b in batches)


def test_a_migration_changes_what_it_says_and_nothing_else(old: Lake) -> None:
    old.create_missing(ALL)  # columns that are added are another matter
    was = state_of(old) | {BATCHES: published(old).arrow(BATCHES)}
    transactions = {spec: old.open(spec).transaction_version(OLD_STREAM) for spec in with_hot_parts(ALL)}
    upgraded(old)
    now = state_of(old) | {BATCHES: published(old).arrow(BATCHES)}
    now[BATCHES] = now[BATCHES].filter(pc.field("kind") != "migration")
    files = now.pop(FILES).select(["path", "content_digest", "first_ordinal", "last_ordinal", "batch_id"])
    assert sorted(tuple(f.values()) for f in files.to_pylist()) == [
        ("1.jsonl", None, 0, 39, 1), ("2.jsonl", None, 0, 45, 2), ("3.jsonl", None, 0, 45, 4),
    ]  # fmt: skip
    for spec in now:
        names = [n for n in spec.names if n not in ("record_position", "record_count", "spans")]
        assert _sorted(now[spec], names) == _sorted(was[spec], names), spec.full_name
    assert now[QUARANTINE]["record_position"].to_pylist() == [0] * now[QUARANTINE].num_rows
    assert now[EVENTS]["record_position"].to_pylist() == [0] * now[EVENTS].num_rows
    assert was[SESSIONS]["spans"].to_pylist() != now[SESSIONS]["spans"].to_pylist()
    assert all(len(spans) != 1 for spans in now[SESSIONS]["spans"].to_pylist())
    # A batch that the old program has published is still known to every table.
    assert transactions == {
        spec: old.open(spec).transaction_version(OLD_STREAM) for spec in with_hot_parts(ALL)
    }
    assert all(old.open(s).protocol().min_reader_version == 1 for s in with_hot_parts(ALL))


def test_what_a_migration_writes_has_no_statistics_on_personal_data(old: Lake) -> None:
    upgraded(old)
    for spec in (QUARANTINE, EVENTS):
        statistics = pa.table(old.open(spec).get_add_actions(flatten=True)).column_names
        personal = [c.name for c in spec.columns if c.personal]
        assert not [s for s in statistics if s.partition(".")[2].split(".")[0] in personal]


def _sorted(rows: pa.Table, names: list[str]) -> list[str]:
    return sorted(repr(row) for row in rows.select(names).to_pylist())


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


STEPS = ("create_missing", *(f"update {n}" for n in range(1, 6)), "file_rows", "_publish", "_record")


@pytest.mark.parametrize("step", STEPS)
def test_an_upgrade_killed_anywhere_is_completed_by_the_next_start(
    old: Lake, fresh: State, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed just before each step. Fails where a migration is put on record before it is applied or published."""
    with monkeypatch.context() as killing:
        if step.startswith("update"):
            _kill(killing, migrations, "_update", int(step[-1]))
        elif step == "file_rows":
            _kill(killing, migrations, step)
        elif step == "create_missing":
            _kill(killing, Lake, step)
        else:
            _kill(killing, upgrade, step)
        with pytest.raises(Killed):
            upgraded(old)
    assert published(old).arrow(EVENTS).num_rows == fresh[EVENTS].num_rows  # what readers see meanwhile
    upgraded(old)
    assert recorded(old) == ALL_MIGRATIONS
    batches = published(old).arrow(BATCHES)
    assert sorted(batches["batch_id"].to_pylist()) == [1, 2, 3, 4, 5, 6, 7]
    assert batches["kind"].to_pylist().count("migration") == len(ALL_MIGRATIONS)
    assert differences(but_claims_and_parts(state_of(old)), but_claims_and_parts(fresh)) == []


def _kill(killing: pytest.MonkeyPatch, place: object, name: str, time: int = 1) -> None:
    real, calls = getattr(place, name), iter(range(1, 100))

    def killed(*args: object) -> object:
        if next(calls) == time:
            raise Killed
        return real(*args)

    killing.setattr(place, name, killed)


def test_readers_take_an_older_lake_as_it_is_and_write_nothing(
    old: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` failed with a stack trace: it asked for a column that the old table does not have."""
    lake, files = ["--lake", str(old.path)], tree(old)
    assert main(["status", *lake]) == 0
    shown = capsys.readouterr().out
    assert f"format 1; the next `stitchlake run` brings it to {FORMAT}" in shown
    assert "records       132" in shown
    assert main(["status", "--json", *lake]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 1
    for view in (
        "gold.profiles_live",
        "silver.sessions_live",
        "silver.identity_decisions_live",
        "gold.events",
    ):
        assert main(["sql", "--json", f"SELECT count(*) AS n FROM {view}", *lake]) == 0, (
            capsys.readouterr().err
        )
        count = json.loads(capsys.readouterr().out)["n"]
        assert (count == 0) == (view == "silver.identity_decisions_live"), view
    assert main(["sql", "--json", "SELECT DISTINCT record_position FROM silver.events", *lake]) == 0
    assert json.loads(capsys.readouterr().out) == {"record_position": None}
    (row, *_) = published(old).arrow(PROFILES, ["canonical_id"]).to_pylist()
    assert main(["profile", str(row["canonical_id"]), "--json", *lake]) == 0, capsys.readouterr().err
    assert tree(old) == files


def test_a_lake_of_a_newer_program_is_refused_and_left_alone(
    old: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    upgraded(old)
    row = rows_of(MIGRATIONS, {"from_format": FORMAT, "to_format": FORMAT + 1})
    DeltaRsWriter(old).append(MIGRATIONS, row, Txn("lake-format", FORMAT + 1))
    files = tree(old)
    with pytest.raises(LakeTooNew, match=f"is in format {FORMAT + 1}.*up to {FORMAT}; install"):
        ready_to_write(old)
    for command in (["status"], ["sql", "SELECT 1"], ["profile", "1"], ["decisions"]):
        assert main([*command, "--lake", str(old.path)]) == 1
        assert f"in format {FORMAT + 1}" in capsys.readouterr().err
    assert tree(old) == files


def test_a_new_lake_is_made_in_the_present_format(lake_dir: Path) -> None:
    lake = Lake(lake_dir)
    assert upgraded(lake) == []
    assert recorded(lake) == [(None, FORMAT, upgrade.MADE_NEW)]
    assert lake.format() == FORMAT > FIRST_FORMAT
    assert all(lake.has(spec) for spec in with_hot_parts((*ALL, *OUTSIDE_BATCHES)))
    assert upgraded(lake) == []
    assert len(recorded(lake)) == 1


def add_rows(lake: Lake, spec: TableSpec, txn: Txn, **values: object) -> None:
    """One more row as the old program wrote them: a copy of one that is there, with some values changed."""
    table = lake.open(spec)
    rows = table.to_pyarrow_table().slice(0, 1)
    for name, value in values.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array([value]))
    properties = CommitProperties(app_transactions=[Transaction(txn.app_id, txn.version)])
    write_deltalake(table, rows, mode="append", commit_properties=properties)


def begun(lake: Lake, batch_id: int) -> None:
    """The old program was killed in this batch: its intent and some of its rows are there."""
    record_intent(lake.path / INTENT, Intent(OLD_STREAM, 3, batch_id, 0, {}, "p", "older", "k", "i"))
    add_rows(lake, EVENTS, Txn(OLD_STREAM, 3), event_id="half", batch_id=batch_id)


def test_a_batch_that_the_old_program_has_begun_is_left_for_it_to_complete(old: Lake) -> None:
    """Had a column been added first, neither program could have gone on."""
    begun(old, 5)
    checkpoint = old.path / "_checkpoints" / OLD_STREAM
    checkpoint.mkdir(parents=True)
    (checkpoint / "metadata").touch()
    files = tree(old)
    with pytest.raises(IntentConflict, match="run that version once, then this one, or remove"):
        ready_to_write(old)
    assert tree(old) == files
    shutil.rmtree(checkpoint.parent)  # the way out that the message names
    upgraded(old)
    assert "half" not in old.open(EVENTS).to_pyarrow_table()["event_id"].to_pylist()
    assert published(old).batch_id == 4 + len(ALL_MIGRATIONS)
    assert old.format() == FORMAT


def test_a_rebuild_that_the_old_program_broke_off_is_taken_back_before_columns_are_added(old: Lake) -> None:
    """The other way round, what is restored to the published version has lost the new columns again."""
    snapshot = published(old)
    was = sorted(snapshot.arrow(QUARANTINE)["origin_ordinal"].to_pylist())
    attempt = begin(snapshot, 0, "another policy")
    txn = Txn(attempt.app_id, attempt.batch_id)
    add_rows(old, QUARANTINE, txn, origin_ordinal=99, batch_id=attempt.batch_id)
    assert ready_to_write(old).is_taken_back
    now = published(old).arrow(QUARANTINE)
    assert sorted(now["origin_ordinal"].to_pylist()) == was
    assert now["record_position"].null_count == 0


def test_decisions_can_be_taken_at_once(old: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of decisions is newer than the lake."""
    assert not old.has(IDENTITY_DECISIONS)
    assert main(["decisions", "--json", "--lake", str(old.path)]) == 0, capsys.readouterr().err
