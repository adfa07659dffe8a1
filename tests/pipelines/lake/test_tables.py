"""How tables are made, and when a lake is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable, Schema

from conf.table_spec import ColumnSpec, TableSpec
from conf.tables import ALL, SESSIONS, UPSERTED
from conf.tables import columns as c
from pipelines.lake.lake import Lake, SchemaMismatch, with_hot_parts
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import make_lake, rows_of

SMALL = TableSpec(
    "silver",
    "small",
    "one small thing",
    (c.TENANT, c.NODE_ID, ColumnSpec("name", "string", "what it is called"), c.UPDATED_BATCH_ID),
    ("node_id",),
    "upsert",
)


def changed(column: ColumnSpec) -> TableSpec:
    return replace(SMALL, columns=tuple(column if old.name == column.name else old for old in SMALL.columns))


def with_new(column: ColumnSpec) -> TableSpec:
    return replace(SMALL, columns=(*SMALL.columns[:-1], column, SMALL.columns[-1]))


def test_every_table_has_the_declared_schema_and_comments(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    for spec in with_hot_parts(ALL):
        table = DeltaTable(lake_dir / spec.schema / spec.name)
        assert table.schema().to_json() == Schema.from_arrow(spec.arrow).to_json()
        assert {f.name: f.metadata["comment"] for f in table.schema().fields} == {
            column.name: column.comment for column in spec.columns
        }
        assert table.metadata().description == spec.grain
        assert table.metadata().configuration == spec.properties
        assert lake.version(spec) == 0


def test_every_upserted_table_has_a_hot_part_beside_it(lake_dir: Path) -> None:
    make_lake(lake_dir)
    for spec in UPSERTED:
        assert (lake_dir / spec.schema / f"{spec.name}_hot" / "_delta_log").is_dir()


def test_no_table_needs_a_feature_that_only_spark_knows(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    for spec in with_hot_parts(ALL):
        protocol = lake.open(spec).protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_columns_with_personal_data_have_no_statistics(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    for spec in ALL:
        writer.append(spec, rows_of(spec, {}, {}), Txn("s", 0))
        found = set()
        for entry in sorted((lake.table_path(spec) / "_delta_log").glob("*.json")):
            for line in entry.read_text().splitlines():
                if "add" in (action := json.loads(line)):
                    stats = json.loads(action["add"]["stats"])
                    found |= {*stats["minValues"], *stats["maxValues"], *stats["nullCount"]}
        assert found, spec.full_name
        assert not found & {column.name for column in spec.columns if column.personal}, spec.full_name


def test_making_the_tables_twice_changes_nothing(lake_dir: Path) -> None:
    lake = make_lake(lake_dir)
    lake.create_missing()
    assert {lake.version(spec) for spec in with_hot_parts(ALL)} == {0}


def test_a_new_nullable_column_is_added_and_older_rows_read_as_null(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SMALL)
    DeltaRsWriter(lake).append(SMALL, rows_of(SMALL, {"node_id": 1}), Txn("s", 0))
    wider = with_new(ColumnSpec("colour", "string", "its colour"))
    lake.create_missing([wider])
    DeltaRsWriter(lake).append(wider, rows_of(wider, {"node_id": 2, "colour": "red"}), Txn("s", 1))
    found = lake.open(wider).to_pyarrow_table().select(["node_id", "name", "colour"]).sort_by("node_id")
    assert found["colour"].to_pylist() == [None, "red"]
    assert found["name"].to_pylist() == ["name-0", "name-0"]
    assert "colour" in lake.open(wider.hot).schema().to_arrow().names


def test_a_reworded_comment_is_taken_over(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SMALL)
    reworded = replace(changed(replace(SMALL.columns[2], comment="its name")), grain="one little thing")
    lake.create_missing([reworded])
    table = lake.open(reworded)
    assert table.metadata().description == "one little thing"
    assert {f.name: f.metadata["comment"] for f in table.schema().fields}["name"] == "its name"


@pytest.mark.parametrize(
    "declared, column, found, wanted",
    [
        (changed(replace(SMALL.columns[2], type="long")), "name", "string", "long"),
        (changed(replace(SMALL.columns[1], nullable=True)), "node_id", "long not null", "long"),
        (replace(SMALL, columns=(*SMALL.columns[:2], SMALL.columns[3])), "name", "string", "no such column"),
        (
            with_new(ColumnSpec("colour", "string", "its colour", nullable=False)),
            "colour",
            "no such column",
            "string not null",
        ),
    ],
    ids=["other type", "other nullability", "column gone", "new column that must not be null"],
)
def test_another_schema_is_refused_with_table_column_and_way_out(
    lake_dir: Path, declared: TableSpec, column: str, found: str, wanted: str
) -> None:
    lake = make_lake(lake_dir, SMALL)
    with pytest.raises(SchemaMismatch) as refusal:
        lake.create_missing([declared])
    said = str(refusal.value)
    assert said.startswith(f"silver.small: column {column}: found {found}, declared {wanted}.")
    assert "--lake" in said
    assert lake.version(SMALL) == 0


def test_a_lake_is_found_from_whatever_folder_one_works_in(
    lake_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lake_dir.parent)
    assert Lake(Path("lake")).table_path(SESSIONS) == lake_dir / "silver" / "sessions"
