"""Run notebooks in Databricks source format here: `make notebooks LAKE=lake`.

    python -m pipelines.apps.notebooks --lake lake [--set NAME=VALUE]… [NOTEBOOK…]

On Databricks the same files are notebooks. Here they get what Databricks gives them, as far as ours use it: `spark`,
`dbutils.widgets`, `display`, and cells of Python, SQL (`%sql`) and text (`%md`).
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from conf.settings import load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.sql import as_table, report_wrong_questions_once
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.runtime.spark_rows import rows_of

FOLDER = Path("notebooks")
LANGUAGES = {".py": ("#", "python"), ".sql": ("--", "sql")}
SHOWN_ROWS = 20


class NotebookFailed(RuntimeError):
    """A notebook that is none, or a cell that failed; the message says notebook, cell and reason."""


@dataclass(frozen=True)
class Cell:
    """One cell: `language` is python, sql or md."""

    number: int
    language: str
    text: str


class Widgets:
    """dbutils.widgets with the values given beforehand; a widget not among them has its notebook's default."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._given, self._values = dict(values), dict[str, str]()

    def text(self, name: str, default: str, label: str = "") -> None:
        """Make a text widget. Its value is the one given on the command line, else `default`."""
        self._values[name] = self._given.get(name, default)

    def get(self, name: str) -> str:
        """The value of a widget. NotebookFailed if it was not made."""
        if name not in self._values:
            raise NotebookFailed(f"the widget {name!r} is asked for before it is made")
        return self._values[name]


@dataclass(frozen=True)
class Utilities:
    """What notebooks know as `dbutils`."""

    widgets: Widgets


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook. NotebookFailed where the file is none or a cell is of an unknown kind."""
    if path.suffix not in LANGUAGES:
        raise NotebookFailed(f"{path}: a notebook is a .py or a .sql file")
    mark, language = LANGUAGES[path.suffix]
    try:
        first, _, text = path.read_text(encoding="utf-8").partition("\n")
    except OSError as e:
        raise NotebookFailed(f"{path}: {e.strerror}") from None
    if first != f"{mark} Databricks notebook source":
        raise NotebookFailed(f"{path}: the first line must be `{mark} Databricks notebook source`")
    parts = text.split(f"\n{mark} COMMAND ----------\n")
    cells = [_cell(path, number, part.strip("\n"), mark, language) for number, part in enumerate(parts, 1)]
    return [cell for cell in cells if cell.text.strip()]


def run_notebook(
    path: Path, spark: SparkSession, values: Mapping[str, str], show: Callable[[str], None] = print
) -> list[str]:
    """Run a notebook's cells in order with `values` in its widgets; everything it has shown, in order."""
    report_wrong_questions_once()
    shown: list[str] = []

    def tell(text: str) -> None:
        shown.append(text)
        show(text)

    names: dict[str, Any] = {
        "__name__": "__main__",
        "spark": spark,
        "dbutils": Utilities(Widgets(values)),
        "display": lambda value: tell(as_text(value)),
        "print": lambda *words: tell(" ".join(map(str, words))),
    }
    for cell in read_cells(path):
        try:
            if cell.language == "md":
                show(cell.text)
            elif cell.language == "sql":
                answer = spark.sql(cell.text.strip().rstrip(";"))
                if answer.columns:
                    tell(as_text(answer))
            else:
                exec(compile(cell.text, f"{path.name}, cell {cell.number}", "exec"), names)
        except NotebookFailed as e:
            raise NotebookFailed(f"{path.name}, cell {cell.number}: {e}") from None
        except Exception as e:
            message = e.getMessage() if isinstance(e, PySparkException) else str(e)
            reason = next(iter((message or "").splitlines()), "")
            raise NotebookFailed(f"{path.name}, cell {cell.number}: {type(e).__name__}: {reason}") from e
    return shown


def as_text(value: Any) -> str:
    """What `display` shows of a value: of a frame its first rows as a table."""
    if not isinstance(value, DataFrame):
        return str(value)
    rows = rows_of(value.limit(SHOWN_ROWS + 1))
    table = as_table(value.columns, rows[:SHOWN_ROWS])
    return f"{table}\n(there are more)" if len(rows) > SHOWN_ROWS else table


def _cell(path: Path, number: int, text: str, mark: str, language: str) -> Cell:
    magic = f"{mark} MAGIC"
    lines = text.splitlines()
    if not any(line.startswith(magic) for line in lines):
        return Cell(number, language, text)
    body = "\n".join(line.removeprefix(magic).removeprefix(" ") for line in lines if line.startswith(magic))
    head, _, rest = body.partition("\n")
    command, _, same_line = head.partition(" ")
    if command not in ("%md", "%sql", "%python"):
        raise NotebookFailed(f"{path}: cell {number} has the magic {command}, which is not known here")
    return Cell(number, command.removeprefix("%"), textwrap.dedent(f"{same_line}\n{rest}").strip("\n"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run notebooks one after another. Returns 0, 1 when a cell failed, 2 on bad usage."""
    args = _parser().parse_args(argv)
    notebooks = args.notebook or sorted(p for p in FOLDER.glob("[0-9]*") if p.suffix in LANGUAGES)
    if not notebooks:
        print("notebooks: there is no folder notebooks/ here; run it in the checkout", file=sys.stderr)
        return 2
    try:
        for notebook in notebooks:
            read_cells(notebook)
        with reported("notebooks"):
            settings = load_settings()
            spark = build_session(
                "stitchlake notebooks", settings.master, driver_memory=settings.driver_memory
            )
            for notebook in notebooks:
                run_notebook(notebook, spark, {"lake": str(args.lake), **dict(args.set or ())})
        return 0
    except NotebookFailed as e:
        print(f"stitchlake notebooks: {e}", file=sys.stderr)
        return 1
    except Exit as e:
        return e.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.apps.notebooks", description="Run notebooks here."
    )
    parser.add_argument(
        "notebook", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all in notebooks/"
    )
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    parser.add_argument(
        "--set", action="append", type=_pair, metavar="NAME=VALUE", help="the value of a widget"
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("write it as NAME=VALUE")
    return name, value


if __name__ == "__main__":
    run_and_end(main)
