"""Writes docs/tables.md from the declarations: `make table-reference`.

python -m pipelines.apps.table_reference > docs/tables.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb

from conf.table_spec import ColumnSpec, TableSpec
from conf.tables import ALL, EVENTS, OUTSIDE_BATCHES, SESSIONS, UPSERTED
from pipelines.lake.lake import Lake
from pipelines.lake.views import ANALYST_VIEWS, register_duckdb, view_grain, view_statements
from pipelines.runtime.process_end import run_and_end

WRITTEN = {
    "append": "rows are added and never changed",
    "insert_only": "a row is added once per key and never changed",
    "upsert": "the row of a key is replaced or removed",
}
_HEAD = """\
# Tables and views

Made from `conf/tables/` and `pipelines/sql/` by `make table-reference`: change those, not this page. A table lies in
`<lake>/<schema>/<table>` and opens in any Delta reader. Which versions of the tables belong together is in
`ops.batches`; `stitchlake sql`, the SQL server and the notebooks look that up by themselves.

**How to read it.** *Key* columns are unique together. A column is *content* (equal in every correct run over the same
events) or *provenance* (batch numbers, origins, arrival times, minted ids). *Personal* columns hold or may hold
personal data: no file statistics are kept on them. Columns that *identify* hold raw values of identifiers, and no
others do: RESTRICTED.
Who may not see identifiers must not read these tables.

**Hot parts.** A table that is *upserted* has a second one, `<table>_hot`: the same columns and `is_deleted`.
Batches append the rows they change there, with `is_deleted` for those that are gone, and about once a minute the newest
row of each key is folded into the table. So the table itself may be a minute old, and the view `<table>_live` is exact:
the table, with the newest hot row of a key in place of its own, as of the last published batch. Ask the live views.

Tables of the stream are written by its batches and shown as of the last published one. `ops.quality_results` is written
by the quality job, while the stream runs, and is shown as it is.
"""


def reference() -> str:
    """The whole page."""
    parts = [
        _HEAD.replace("RESTRICTED", ", ".join(identifying())),
        "## Tables\n",
        _contents(),
        *(_table(spec) for spec in (*ALL, *OUTSIDE_BATCHES)),
        _VIEWS_HEAD,
    ]
    with duckdb.connect() as con:
        register_duckdb(con, Lake(Path("no-lake-is-needed")))
        parts += [_view(con, name) for name in ANALYST_VIEWS]
    return "\n".join(parts)


def identifying() -> list[str]:
    """The columns in which raw values of identifiers are."""
    return [f"`{s.full_name}.{c.name}`" for s in (*ALL, *OUTSIDE_BATCHES) for c in s.columns if c.identifies]


_VIEWS_HEAD = f"""\
## Views

The same names and the same SQL in Spark and in DuckDB (`pipelines/sql/`). Live views have the columns of their tables:
{", ".join(f"`{spec.full_name}_live`" for spec in UPSERTED)}.
The others are for analysts. None of them shows an identifier's value, unless an event's own `properties` hold one.
"""


def _contents() -> str:
    rows = (f"| [`{s.full_name}`](#{_anchor(s.full_name)}) | {s.grain} |" for s in (*ALL, *OUTSIDE_BATCHES))
    return "\n".join(("| table | one row is |", "|---|---|", *rows, ""))


def _table(spec: TableSpec) -> str:
    key = ", ".join(f"`{k}`" for k in spec.key)
    hot = (
        f", hot part `{spec.full_name}_hot`, live view `{spec.full_name}_live`"
        if spec.write == "upsert"
        else ""
    )
    columns = (
        f"| `{c.name}` | `{c.type}` | {', '.join(_facts(spec, c))} | {c.comment} |" for c in spec.columns
    )
    return "\n".join(
        (
            f"### {spec.full_name}\n",
            f"One row is {spec.grain}.\n",
            f"Key: {key}. Write mode: {spec.write} ({WRITTEN[spec.write]}{hot}).\n",
            "| column | type | is | comment |",
            "|---|---|---|---|",
            *columns,
            *_checks(spec),
            "",
        )
    )


def _checks(spec: TableSpec) -> Iterator[str]:
    """The rules of every row, apart from those of its columns."""
    if spec.checks:
        yield "\nChecked by [the quality job](quality.md): " + "; ".join(c.says for c in spec.checks) + "."


def _facts(spec: TableSpec, column: ColumnSpec) -> Iterator[str]:
    if column.name in spec.key:
        yield "key"
    yield column.role
    if not column.nullable:
        yield "never null"
    if column.personal:
        yield "identifies" if column.identifies else "personal"
    if column.accepted:
        yield "one of " + ", ".join(f"`{value}`" for value in column.accepted)


def _view(con: duckdb.DuckDBPyConnection, name: str) -> str:
    declared = {
        c.name: c for spec in (*OUTSIDE_BATCHES, *ALL, SESSIONS, EVENTS) for c in spec.columns
    }  # the last one counts
    comments = dict(re.findall(r"(?:AS |\.)(\w+),?  -- (.+)", view_statements()[name]))
    rows = []
    for column, kind in con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall():
        if column not in comments and column not in declared:
            raise LookupError(f"{name}: column {column} has no comment; write one behind it in the SQL")
        spec = declared.get(column)
        comment = comments.get(column) or (spec.comment if spec else "")
        is_personal = "personal" if spec is not None and spec.personal else ""
        rows.append(f"| `{column}` | `{_spark_type(kind)}` | {is_personal} | {comment} |")
    head = (
        f"### {name}\n",
        f"One row is {view_grain(name)}.\n",
        "| column | type | is | comment |",
        "|---|---|---|---|",
    )
    return "\n".join((*head, *rows, ""))


def _spark_type(kind: str) -> str:
    """A type in the spelling of the declarations."""
    if kind.endswith("[]"):
        return f"array<{_spark_type(kind[:-2])}>"
    names = {
        "BIGINT": "long",
        "VARCHAR": "string",
        "BOOLEAN": "boolean",
        "DATE": "date",
        "TIMESTAMP WITH TIME ZONE": "timestamp",
    }
    return names[kind]


def _anchor(name: str) -> str:
    return name.replace(".", "")


def main() -> int:
    """Print the page. Returns 0."""
    sys.stdout.write(reference())
    return 0


if __name__ == "__main__":
    run_and_end(main)
