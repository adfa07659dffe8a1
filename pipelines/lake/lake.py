"""Where a lake's tables are, and how they are made from their declarations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError

from conf.errors import Refusal
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, FORMAT, MIGRATIONS

FIRST_FORMAT = 1  # of lakes that were made before formats were recorded


class NoLake(Refusal):
    """No batch was ever published in a folder; the message says how one comes to be."""


class LakeTooNew(Refusal):
    """A lake is in a format that this program does not know; the message says both and the way out."""


class TableDamaged(Refusal, DeltaError):
    """A table does not open; the message says which, where, and the way out."""


class SchemaMismatch(Refusal):
    """A table on disk is not the declared one; the message says table, column, found, declared and way out."""


@dataclass(frozen=True)
class Lake:
    """A folder of Delta tables, `<path>/<schema>/<table>`."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).absolute())

    def table_path(self, spec: TableSpec) -> Path:
        """The folder of a table."""
        return self.path / spec.schema / spec.name

    def has(self, spec: TableSpec) -> bool:
        """Whether the table exists."""
        return (self.table_path(spec) / "_delta_log").is_dir()

    def open(self, spec: TableSpec, version: int | None = None) -> DeltaTable:
        """The table now, or as it was at `version`. TableDamaged when its files do not make one."""
        try:
            return DeltaTable(str(self.table_path(spec)), version=version)
        except DeltaError as e:
            as_of = "" if version is None else f" as of version {version}"
            raise TableDamaged(
                f"{spec.full_name} cannot be opened{as_of} ({type(e).__name__}): files in {self.table_path(spec)} are "
                "missing or damaged; put them back, or restore the lake from a backup"
            ) from None

    def version(self, spec: TableSpec) -> int:
        """The table's last version, as the names in its log say it: nothing of it is read."""
        names = (path.name.partition(".")[0] for path in (self.table_path(spec) / "_delta_log").iterdir())
        return max((int(name) for name in names if name.isdecimal()), default=-1)

    def format(self) -> int:
        """What the rows of the lake's tables mean, as ops.migrations has it."""
        if not self.has(MIGRATIONS):
            return FIRST_FORMAT
        formats = self.open(MIGRATIONS).to_pyarrow_dataset().to_table(columns=["to_format"])["to_format"]
        return max(formats.to_pylist(), default=FIRST_FORMAT)

    def require_known_format(self) -> None:
        """LakeTooNew if a newer program has brought the lake to a format of its own."""
        if (found := self.format()) > FORMAT:
            raise LakeTooNew(
                f"the lake {self.path} is in format {found}, and this program knows formats up to {FORMAT}; install "
                "the version of the program that wrote it, or a newer one"
            )

    def lacks_columns(self, specs: Iterable[TableSpec] = ALL) -> bool:
        """Would `create_missing` add a column to a table that is there?"""
        there = [spec for spec in with_hot_parts(specs) if self.has(spec)]
        return any(set(spec.names) - {f.name for f in self.open(spec).schema().fields} for spec in there)

    def create_missing(self, specs: Iterable[TableSpec] = ALL) -> None:
        """Make every declared table and hot part that is not there, and bring the others up to their declaration.

        A new nullable column, a comment or a property is taken over; any other difference is a SchemaMismatch.
        """
        tables = tuple(with_hot_parts(specs))
        existing = [(spec, self.open(spec)) for spec in tables if self.has(spec)]
        for spec, table in existing:  # refuse before the first change
            _require_compatible(spec, table.schema())
        for spec, table in existing:
            _bring_up_to_date(spec, table)
        for spec in tables:
            if not self.has(spec):
                DeltaTable.create(
                    str(self.table_path(spec)),
                    schema=Schema.from_arrow(spec.arrow),
                    name=spec.full_name,
                    description=spec.grain,
                    configuration=dict(spec.properties),
                )


def existing_lake(path: Path) -> Lake:
    """The lake in a folder, to be read. NoLake if there is none; LakeTooNew if this program cannot read it."""
    lake = Lake(path)
    if not lake.has(BATCHES):
        raise NoLake(
            f"no lake in {path}; make one: stitchlake run --source native:FOLDER --once --lake {path}"
        )
    lake.require_known_format()
    return lake


def require_place(path: Path) -> None:
    """Make sure, before seconds are spent on a session, that a lake is in that folder or can begin there.

    OSError where the folder cannot be made or written; LakeTooNew or TableDamaged where a lake cannot be used.
    """
    lake = Lake(path)
    if lake.has(BATCHES):
        lake.require_known_format()
        lake.open(BATCHES)
    else:
        (lake.path / "_stitchlake").mkdir(parents=True, exist_ok=True)


def with_hot_parts(specs: Iterable[TableSpec]) -> Iterator[TableSpec]:
    """Every table as it lies on disk: an upserted one is followed by its hot part."""
    for spec in specs:
        yield spec
        if spec.write == "upsert":
            yield spec.hot


def _require_compatible(spec: TableSpec, found: Schema) -> None:
    declared = {f.name: f for f in Schema.from_arrow(spec.arrow).fields}
    present = {f.name: f for f in found.fields}
    for name, field in present.items():
        if name not in declared:
            raise _mismatch(spec, name, _describe(field), "no such column")
        if _shape(field) != _shape(declared[name]):
            raise _mismatch(spec, name, _describe(field), _describe(declared[name]))
    for name, field in declared.items():
        if name not in present and not field.nullable:
            raise _mismatch(spec, name, "no such column", _describe(field))


def _bring_up_to_date(spec: TableSpec, table: DeltaTable) -> None:
    declared = Schema.from_arrow(spec.arrow).fields
    present: dict[str, Field] = {f.name: f for f in table.schema().fields}
    if missing := [f for f in declared if f.name not in present]:
        table.alter.add_columns(missing)
    for field in declared:
        if field.name in present and present[field.name].metadata != field.metadata:
            table.alter.set_column_metadata(field.name, field.metadata)
    metadata = table.metadata()
    if metadata.description != spec.grain:
        table.alter.set_table_description(spec.grain)
    changed = {k: v for k, v in spec.properties.items() if metadata.configuration.get(k) != v}
    if changed:
        table.alter.set_table_properties(changed)


def _shape(field: Field) -> tuple[Any, bool]:
    return json.loads(field.type.to_json()), field.nullable


def _describe(field: Field) -> str:
    kind = json.loads(field.type.to_json())
    text = kind if isinstance(kind, str) else json.dumps(kind, separators=(",", ":"))
    return text if field.nullable else f"{text} not null"


def _mismatch(spec: TableSpec, column: str, found: str, declared: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"{spec.full_name}: column {column}: found {found}, declared {declared}. The lake was made by another version "
        "of the program: run that version, or start a new lake with --lake and replay the sources into it"
    )
