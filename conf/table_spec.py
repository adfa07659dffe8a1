"""TableSpec: the single declaration of a table's grain, keys, columns, comments and upkeep.

Types are written in Spark's short spelling (`long`, `string`, `array<struct<at:timestamp,n:long>>`) and rendered
to Arrow here, so that every engine that touches a table starts from the same declaration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import pyarrow as pa

Role = Literal["content", "provenance"]
Write = Literal["append", "insert_only", "upsert"]
Severity = Literal["critical", "warning"]

_SCALARS: dict[str, pa.DataType] = {
    "long": pa.int64(),
    "integer": pa.int32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
_ONE_EACH = ("_id", "_key", "_key_low", "_hash", "_digest", "_ordinal")
_FEW = ("batch_id", "weak_node_id", "actor_node_id")
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
DELETED = "is_deleted"


def one_each(name: str, type_: pa.DataType) -> bool:
    """Whether nearly every row has another value in a column, or a part of one, of that name and type."""
    if pa.types.is_string(type_):
        return name.endswith("event_id")
    if pa.types.is_int64(type_):
        return name.endswith(_ONE_EACH) and not name.endswith(_FEW)
    return pa.types.is_timestamp(type_)


class SpecError(ValueError):
    """A declaration contradicts itself; raised when the module that holds it is imported."""


@dataclass(frozen=True)
class ColumnSpec:
    """One column. `role` says whether it is content (equal in every correct run) or provenance (batch, origin,
    minted ids); `personal` keeps file statistics off it; `identifies`: personal, and the only kind of column in which
    raw values of identifiers are; `accepted` are the only values it may have, null aside; `is_signed` is a count that
    may take back what was counted before."""

    name: str
    type: str
    comment: str
    role: Role = "content"
    nullable: bool = True
    personal: bool = False
    identifies: bool = False
    accepted: tuple[str, ...] = ()
    is_signed: bool = False

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SpecError(f"column name {self.name!r} is not snake_case")
        if self.identifies and not self.personal:
            raise SpecError(f"column {self.name} identifies persons and is not personal")
        if not self.comment:
            raise SpecError(f"column {self.name} has no comment")
        arrow_type(self.type)

    @property
    def at_least(self) -> int | None:
        """Counts end `_count`, and nothing is counted below zero."""
        is_count = self.type == "long" and self.name.endswith("_count")
        return 0 if is_count and not self.is_signed else None


@dataclass(frozen=True)
class Check:
    """What every row of a table keeps: a condition in SQL that Spark and DuckDB read alike. Null counts as kept.

    When a row breaks it, `critical` stops jobs that publish from the table, `warning` is only reported.
    """

    name: str
    says: str
    holds: str
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SpecError(f"check name {self.name!r} is not snake_case")
        if not self.says:
            raise SpecError(f"check {self.name} does not say what it checks")


@dataclass(frozen=True)
class TableSpec:
    """One table: `schema.name`, the grain in words, its key and how rows get in.

    `write="upsert"` tables have a hot part (`<name>_hot`): batches append upserts and tombstones there, and
    compaction folds them into the base, so that a batch costs what it touches and not what the table holds.
    `made_from` names the tables that its rows are computed from: what is wrong there may be wrong here.
    """

    schema: str
    name: str
    grain: str
    columns: tuple[ColumnSpec, ...]
    key: tuple[str, ...]
    write: Write
    checks: tuple[Check, ...] = ()
    made_from: tuple[str, ...] = ()

    def __hash__(self) -> int:  # specs are keys, and columns and comments are much to hash every time
        return hash((self.schema, self.name))

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        if len(names) != len(set(names)):
            raise SpecError(f"{self.full_name} declares a column twice")
        for k in self.key:
            if k not in names:
                raise SpecError(f"{self.full_name}: key column {k} is not declared")
        if "tenant" not in names:
            raise SpecError(f"{self.full_name} does not carry tenant")
        if self.write == "upsert" and "updated_batch_id" not in names:
            raise SpecError(f"{self.full_name} is upserted and has no updated_batch_id")
        if len({check.name for check in self.checks}) != len(self.checks):
            raise SpecError(f"{self.full_name} declares a check twice")

    @cached_property
    def full_name(self) -> str:
        """Schema and name, such as `silver.events`."""
        return f"{self.schema}.{self.name}"

    @property
    def path(self) -> str:
        """The table's folder inside a lake, such as `silver/events`."""
        return f"{self.schema}/{self.name}"

    @property
    def is_hot(self) -> bool:
        """Whether this is the hot part of an upserted table."""
        return any(c.name == DELETED for c in self.columns)

    @cached_property
    def arrow(self) -> pa.Schema:
        """The columns as an Arrow schema."""
        return pa.schema(
            [
                pa.field(c.name, arrow_type(c.type), nullable=c.nullable, metadata={"comment": c.comment})
                for c in self.columns
            ]
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def unlike(self) -> tuple[str, ...]:
        """Columns of which nearly every row has a value of its own: ids, hashes, places and instants, but for those of
        a batch. A dictionary of them is larger than they are."""
        return tuple(
            c.name
            for c in self.columns
            if one_each(c.name, arrow_type(c.type)) and not (c.type == "timestamp" and c.role == "provenance")
        )

    def with_role(self, role: Role) -> tuple[str, ...]:
        """The names of the columns with this role."""
        return tuple(c.name for c in self.columns if c.role == role)

    @cached_property
    def hot(self) -> TableSpec:
        """The hot part of an upserted table: the same columns and whether this row is a tombstone."""
        if self.write != "upsert":
            raise SpecError(f"{self.full_name} is not upserted and has no hot part")
        columns = tuple(
            c if c.name in self.key or c.name == "updated_batch_id" else replace(c, nullable=True)
            for c in self.columns
        )
        tombstone = ColumnSpec(
            DELETED, "boolean", "true: the row of this key is gone as of this batch", "provenance"
        )
        return TableSpec(
            self.schema,
            f"{self.name}_hot",
            f"one upsert or tombstone of {self.full_name} that is not compacted yet",
            (*columns, tombstone),
            (*self.key, "updated_batch_id"),
            "append",
        )

    @cached_property
    def properties(self) -> dict[str, str]:
        """Delta table properties. No feature that only Spark can read; no statistics on personal data."""
        indexed = [
            c.name for c in self.columns if not c.personal and c.type in _SCALARS and c.type != "binary"
        ]
        return {
            "delta.dataSkippingStatsColumns": ",".join(indexed),
            "delta.checkpointInterval": "50",
            "delta.enableDeletionVectors": "false",
            # Upkeep shortens logs, by what readable batches need. Both engines would by the clock: one that has jumped
            # ahead takes from a log what readers of the last week need.
            "delta.enableExpiredLogCleanup": "false",
            "delta.logRetentionDuration": "interval 30 days",
            "delta.deletedFileRetentionDuration": "interval 7 days",
        }


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type of a type in Spark's short spelling. SpecError when it is unknown."""
    text = text.strip()
    if text in _SCALARS:
        return _SCALARS[text]
    outer, _, inner = text.partition("<")
    if not inner.endswith(">"):
        raise SpecError(f"unknown type {text!r}")
    inner = inner[:-1]
    if outer == "array":
        return pa.list_(pa.field("element", arrow_type(inner)))
    if outer == "map":
        key, value = _split(inner)
        return pa.map_(arrow_type(key), arrow_type(value))
    if outer == "struct":
        pairs = [part.split(":", 1) for part in _split(inner)]
        return pa.struct([pa.field(n.strip(), arrow_type(t)) for n, t in pairs])
    raise SpecError(f"unknown type {text!r}")


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for i, ch in enumerate(text):
        depth += (ch == "<") - (ch == ">")
        if ch == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    yield text[start:]
