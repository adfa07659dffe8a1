"""TableWriter: the interface of the engines that write tables, and what both have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from conf.errors import Refusal
from conf.table_spec import TableSpec


class RowsRefused(Refusal, ValueError):
    """Rows that are not those of their table; the message names table and columns, never a value."""


@dataclass(frozen=True)
class Txn:
    """A Delta transaction: the writer (`app_id`, one per stream) and its version. One seen before writes nothing."""

    app_id: str
    version: int


class TableWriter(Protocol):
    """What batches and compaction ask of an engine. Different tables may be written from different threads."""

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        """Add `rows` in one commit and return the table's version.

        Nothing is written if `rows` is empty or if the table has seen this `txn` (or a later one of its app).
        """
        ...

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Bring the newest hot row of every key, up to and including that batch, into the base; its version.

        A base row that is as new or newer stays. Repeating it changes nothing.
        """
        ...

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Remove the hot rows up to and including that batch, all in one commit; the hot part's version."""
        ...


def conform(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """`rows` in the declared columns, order and types. RowsRefused when they cannot be brought there."""
    missing = [n for n in spec.names if n not in rows.column_names]
    extra = [n for n in rows.column_names if n not in spec.names]
    if missing or extra or len(rows.column_names) != len(spec.names):
        problem = "; ".join(
            f"{what}: {', '.join(names)}"
            for what, names in (("missing", missing), ("not declared", extra), ("given", rows.column_names))
            if names
        )
        raise RowsRefused(f"{spec.full_name}: these rows have other columns than the table ({problem})")
    columns = []
    for field in spec.arrow:
        column = rows.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                # Arrow's own words would quote the value.
                raise RowsRefused(
                    f"{spec.full_name}: column {field.name}: {column.type} does not fit the declared {field.type}"
                ) from None
        if not field.nullable and column.null_count:
            raise RowsRefused(
                f"{spec.full_name}: column {field.name}: {column.null_count} of {rows.num_rows} rows have no value "
                "and the column is declared not null"
            )
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=spec.arrow)
