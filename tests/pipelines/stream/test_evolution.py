"""A nullable column that is declared today, for every table and hot part of a lake that has rows already."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from conf.table_spec import ColumnSpec, TableSpec
from conf.tables import ALL, BATCHES, QUARANTINE, SESSIONS, UPSERTED
from pipelines.lake.lake import Lake, SchemaMismatch, with_hot_parts
from pipelines.lake.live_rows import newest_rows, upserts, without_keys_of
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.views import _duckdb_table, _files, _spark_select
from pipelines.lake.writing.compaction import compact_files, compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import back_up
from pipelines.state.spark_lookup import SparkLookup
from tests.pipelines.lake_rows import rows_of

pytestmark = pytest.mark.thorough  # whole lakes; left to the whole run

OTHERS = tuple(spec for spec in ALL if spec is not BATCHES)  # which is read as it is, at no version
COLOUR = ColumnSpec("colour", "array<struct<name:string,at:timestamp>>", "declared after rows were there")


def wider(spec: TableSpec) -> TableSpec:
    """The spec as a newer program declares it; the new column is not the last one."""
    return replace(spec, columns=(*spec.columns[:1], COLOUR, *spec.columns[1:]))


@pytest.fixture
def grown(filled: Path, tmp_path: Path) -> tuple[Lake, Snapshot]:
    """A lake after the newer program's start, and what was published before."""
    shutil.copytree(filled, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    before = published(lake)
    assert before is not None
    assert lake.lacks_columns([wider(s) for s in ALL])
    lake.create_missing([wider(s) for s in ALL])
    assert not lake.lacks_columns([wider(s) for s in ALL])
    return lake, before


def test_older_rows_read_as_null_in_every_reader(grown: tuple[Lake, Snapshot]) -> None:
    lake, before = grown
    now = published(lake)
    assert now == before  # nothing is published by it
    with duckdb.connect() as con:
        for schema in ("bronze", "silver", "gold", "ops"):
            con.execute(f"CREATE SCHEMA {schema}")
        for spec in OTHERS:
            rows = now.arrow(wider(spec))
            assert rows.schema.names == list(wider(spec).names), spec.full_name
            assert rows["colour"].null_count == rows.num_rows, spec.full_name
            assert rows.drop(["colour"]).equals(before.arrow(spec)), spec.full_name
        for spec in with_hot_parts(map(wider, OTHERS)):
            _duckdb_table(con, spec, _files(lake, spec, now))
            ((count, colours),) = con.sql(f"SELECT count(*), count(colour) FROM {spec.full_name}").fetchall()
            assert colours == 0
            assert count == lake.open(spec).count(), spec.full_name


def test_new_rows_beside_older_ones_are_written_folded_and_compacted(grown: tuple[Lake, Snapshot]) -> None:
    lake, before = grown
    writer, batch = DeltaRsWriter(lake), before.batch_id + 1
    given = {"colour": [{"name": "red", "at": None}], "updated_batch_id": batch, "batch_id": batch}
    for spec in map(wider, ALL):
        to = spec.hot if spec.write == "upsert" else spec
        count = len(_live(lake, spec))
        row = rows_of(to, {k: v for k, v in given.items() if k in to.names})
        writer.append(to, row, Txn("newer", 1))
        if spec.write == "upsert":
            compact_hot(lake, spec, batch, writer)
        else:
            compact_files(lake, spec, from_files=1)
        colours = _live(lake, spec)
        assert len(colours) == count + 1, spec.full_name
        assert [c for c in colours if c is not None] == [given["colour"]], spec.full_name


def _live(lake: Lake, spec: TableSpec) -> list[object]:
    """The new column of a table's rows, with its newest hot row of a key in place of its own."""
    base = lake.open(spec).to_pyarrow_dataset(schema=spec.arrow).to_table()
    if spec.write != "upsert":
        return base["colour"].to_pylist()
    hot = newest_rows(spec, lake.open(spec.hot).to_pyarrow_dataset(schema=spec.hot.arrow).to_table())
    parts = [*without_keys_of(spec, base.to_batches(), hot), upserts(hot)]
    return [colour for part in parts for colour in part["colour"].to_pylist()]


def test_the_program_before_it_refuses_the_grown_lake_and_changes_nothing(
    grown: tuple[Lake, Snapshot],
) -> None:
    lake, before = grown
    versions = {s.full_name: lake.version(s) for s in with_hot_parts(ALL)}
    with pytest.raises(SchemaMismatch, match=r"column colour: found .* declared no such column.*--lake"):
        lake.create_missing(ALL)
    assert versions == {s.full_name: lake.version(s) for s in with_hot_parts(ALL)}
    assert {s.full_name: before.arrow(s).num_rows for s in ALL} == {
        s.full_name: published(lake).arrow(s).num_rows for s in ALL
    }  # its readers do not mind


def test_a_backup_from_before_the_column_grows_when_it_is_restored(
    filled: Path, grown: tuple[Lake, Snapshot], tmp_path: Path
) -> None:
    for number, source in enumerate((filled, grown[0].path)):
        back_up(source, tmp_path / f"backup{number}")
        lake = Lake(restore(tmp_path / f"backup{number}", tmp_path / f"restored{number}").lake)
        lake.create_missing([wider(s) for s in ALL])
        for spec in UPSERTED:
            rows = published(lake).arrow(wider(spec))
            assert rows.drop(["colour"]).equals(grown[1].arrow(spec)), spec.full_name


def test_spark_reads_older_rows_as_null_too(spark, grown: tuple[Lake, Snapshot]) -> None:
    lake, before = grown
    for spec in with_hot_parts([wider(SESSIONS), wider(QUARANTINE)]):  # each table costs Spark a second
        rows = spark.sql(_spark_select(lake, spec, before)).select("colour").toArrow()
        assert rows.num_rows == rows["colour"].null_count == lake.open(spec).count(), spec.full_name
    sessions = before.arrow(SESSIONS)
    asked = {"session_id": sessions["session_id"].to_numpy()}
    found = SparkLookup(before, spark).rows(wider(SESSIONS), ["session_id", "colour"], asked)
    assert sorted(found["session_id"].to_pylist()) == sorted(sessions["session_id"].to_pylist())
    assert found["colour"].null_count == found.num_rows > 0
