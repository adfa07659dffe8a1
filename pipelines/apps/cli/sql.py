"""`stitchlake sql`: a question to the lake's tables and views, answered as a table, JSON lines or CSV."""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.apps.questions import QueryRefused, duckdb_question, not_reading, require_spark_question
from pipelines.lake.lake import Lake, LakeTooNew, NoLake, existing_lake
from pipelines.lake.snapshot import NoSuchBatch, Snapshot, published_as
from pipelines.lake.views import CatalogConflict, reading_duckdb, register_spark
from pipelines.runtime.spark_rows import rows_of

TABLE_ROWS = 50
CELL_WIDTH = 48
_SHOW_TABLES = """
SELECT schema_name || '.' || view_name AS table_name, column_count FROM duckdb_views()
WHERE NOT internal ORDER BY schema_name <> 'gold', schema_name, view_name
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "sql",
        help="ask the lake's tables and views a question",
        description="Runs one reading statement over bronze, silver, gold and ops, as of the last published batch. "
        "gold.profiles_live has one row per person, gold.events one per event with its person. "
        "Exit code 2: the question is wrong; 1: there is no lake, or it cannot be read.",
    )
    parser.add_argument("query", metavar="SQL", help='for example "SELECT count(*) FROM gold.profiles_live"')
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    parser.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb", help="default duckdb")
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="every table as batch N published it (ops.batches lists them; default: the last one)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object per line")
    shape.add_argument("--csv", action="store_true", help="CSV with a header line")
    parser.add_argument(
        "--limit",
        type=_row_count,
        metavar="N",
        help=f"at most N rows (default: all; {TABLE_ROWS} in a table)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    is_table = not (args.json or args.csv)
    limit = args.limit if args.limit is not None else (TABLE_ROWS if is_table else None)
    ask = _ask_duckdb if args.engine == "duckdb" else _ask_spark
    try:
        lake = existing_lake(args.lake)
        at = None if args.batch is None else published_as(lake, args.batch)
        names, rows = ask(lake, args.query, None if limit is None else limit + 1, at)
    except QueryRefused as refused:
        print(f"sql: {refused}", file=sys.stderr)
        return 2
    except (CatalogConflict, LakeTooNew, NoLake, NoSuchBatch) as problem:
        print(f"sql: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sql: {args.lake}: {error.strerror or error}", file=sys.stderr)
        return 1
    is_cut = limit is not None and len(rows) > limit
    rows = rows[:limit]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a terminal without the letters is no reason to fail
    try:
        _write(names, rows, "json" if args.json else "csv" if args.csv else "table")
    except BrokenPipeError:
        sys.stderr.close()  # the reader has had enough, `| head` for example
        return 0
    if is_cut:
        print(f"sql: only the first {limit} rows; --limit N for more", file=sys.stderr)
    return 0


def _ask_duckdb(
    lake: Lake, query: str, limit: int | None, at: Snapshot | None
) -> tuple[list[str], list[tuple]]:
    import duckdb

    con = reading_duckdb(lake, at)
    if query.strip().rstrip(";").lower() == "show tables":
        query = _SHOW_TABLES  # DuckDB's own looks into one schema only
    try:
        answer = con.execute(duckdb_question(con, query))
        rows = answer.fetchall() if limit is None else answer.fetchmany(limit)
        return [column[0] for column in answer.description or ()], rows
    except duckdb.Error as error:
        raise QueryRefused(_first_line(str(error))) from None
    except (ValueError, OverflowError) as error:
        raise _cannot_be_shown(error) from None


def _ask_spark(
    lake: Lake, query: str, limit: int | None, at: Snapshot | None
) -> tuple[list[str], list[tuple]]:
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from pipelines.runtime.session import build_session

    report_wrong_questions_once()
    spark = build_session("stitchlake-sql")
    register_spark(spark, lake, at=at)
    try:
        require_spark_question(spark._jsparkSession.sessionState().sqlParser().parsePlan(query))
        frame = spark.sql(query)
        return frame.columns, rows_of(frame if limit is None else frame.limit(limit))
    except PySparkException as error:
        raise QueryRefused(_first_line(error.getMessage() or str(error))) from None
    except Py4JJavaError:  # a script (BEGIN … END) that the parser cannot place
        raise not_reading("a script") from None
    except (ValueError, OverflowError) as error:
        raise _cannot_be_shown(error) from None


def _cannot_be_shown(error: Exception) -> QueryRefused:
    """For an instant that Python has no word for; what was refused stays as it is."""
    if isinstance(error, QueryRefused):
        return error
    return QueryRefused(f"the answer has a value that cannot be shown: {_first_line(str(error))}")


def report_wrong_questions_once() -> None:
    """Spark's Python side prints every wrong question by itself too, as JSON with a stack trace."""
    from pyspark.logger import PySparkLogger

    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True


def _write(names: Sequence[str], rows: Sequence[tuple], shape: str) -> None:
    if shape == "json":
        for row in rows:
            named = dict(zip(_distinct(names), map(plain_json, row), strict=True))
            print(json.dumps(named, ensure_ascii=False))
    elif shape == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value, empty="") for value in row] for row in rows)
    elif list(names) == ["explain_key", "explain_value"]:
        print("\n".join(str(plan) for _, plan in rows).rstrip())
    else:
        table = as_table(names, rows)
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        is_wide = room is not None and max(map(_width, table.splitlines())) > room
        print(as_records(names, rows) if is_wide else table)


def as_records(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A block per row and a line per column, for rows wider than the terminal."""
    longest = max(map(_width, names), default=0)
    blocks = []
    for number, row in enumerate(rows, 1):
        lines = [f"─ {number} ─"]
        for name, value in zip(names, row, strict=True):
            lines.append(f"{_padded(name, longest)}  {_shorten(_cell(value, empty='∅'), 2 * CELL_WIDTH)}")
        blocks.append("\n".join(lines))
    return "\n".join([*blocks, _count(len(rows))])


def as_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under their names: numbers to the right, long cells cut off."""
    names = [_shorten(name) for name in names]
    cells = [[_shorten(_cell(value, empty="∅")) for value in row] for row in rows]
    widths = [max([_width(name), *(_width(row[i]) for row in cells)]) for i, name in enumerate(names)]
    to_right = [
        all(
            isinstance(row[i], int | float | Decimal) and not isinstance(row[i], bool)
            for row in rows
            if row[i] is not None
        )
        for i in range(len(names))
    ]

    def line(values: Sequence[str]) -> str:
        placed = (
            _padded(value, width, right) for value, width, right in zip(values, widths, to_right, strict=True)
        )
        return "  ".join(placed).rstrip()

    return "\n".join(
        [
            line(names),
            line(["─" * width for width in widths]),
            *(line(row) for row in cells),
            _count(len(rows)),
        ]
    )


def _count(rows: int) -> str:
    return f"({rows:,} row{'' if rows == 1 else 's'})"


def _width(text: str) -> int:
    """Columns of a terminal: a letter of Chinese, Japanese or Korean takes two, an accent of its own none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _padded(text: str, width: int, to_right: bool = False) -> str:
    spaces = " " * (width - _width(text))
    return spaces + text if to_right else text + spaces


def _distinct(names: Sequence[str]) -> list[str]:
    """A JSON object has each name once: the second `a` is `a_2`."""
    distinct: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in distinct:
            number += 1
            candidate = f"{name}_{number}"
        distinct.append(candidate)
    return distinct


def _cell(value: Any, empty: str) -> str:
    if value is None:
        return empty
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        return json.dumps(plain_json(value), ensure_ascii=False)
    return str(plain_json(value)) if isinstance(value, date | bytes | bytearray) else str(value)


def plain_json(value: Any) -> Any:
    """A value as JSON can carry it: instants in ISO 8601 with Z, bytes in base64, what is no number as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return None
        return (
            int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)
        )
    if isinstance(value, dict):
        return {str(plain_json(k)): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return str(value)


def _shorten(text: str, width: int = CELL_WIDTH) -> str:
    """One line without control characters: a value must not move the cursor of whoever reads it."""
    text = " ".join(text.split())
    text = "".join("�" if unicodedata.category(c) == "Cc" else c for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "the query failed")


def _row_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number of rows, 0 or more")
    return int(text)
