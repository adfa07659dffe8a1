"""`stitchlake quality`: checks the last published batch against the expectations that every table declares."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.settings import load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.lake.lake import existing_lake
from pipelines.operations.quality.run import DOCS, QualityRun, check_quality

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENGINES = ("duckdb", "spark")


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "quality",
        help="check the published tables against what they declare",
        description="Checks one published batch, while a stream may run: columns, keys, values, and what holds between "
        "tables. Writes ops.quality_results and pages to look at. Exit code 1: a critical expectation is not met.",
    )
    declare_arguments(parser, "duckdb")
    parser.set_defaults(run=run)


def declare_arguments(parser: argparse.ArgumentParser, engine: str) -> None:
    """The arguments of the command and of the job; they differ in who counts unless told."""
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    parser.add_argument(
        "--docs", type=Path, metavar="DIR", help=f"folder of the pages, replaced; default <lake>/{DOCS}/"
    )
    parser.add_argument("--engine", choices=ENGINES, default=engine, help=f"who counts; default {engine}")
    parser.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file; for Spark"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("quality"):
            return check(args, session_of(args, "stitchlake quality"))
    except Exit as e:
        return e.code


def session_of(args: argparse.Namespace, name: str) -> SparkSession | None:
    """The session that counts, if Spark does."""
    existing_lake(args.lake)  # before seconds are spent on a session
    settings = load_settings(args.env)
    if args.engine != "spark":
        return None
    from pipelines.runtime.session import build_session

    return build_session(name, settings.master, driver_memory=settings.driver_memory)


def check(args: argparse.Namespace, spark: SparkSession | None) -> int:
    """Check, print what came of it, and return 0, or 1 when a critical expectation is not met."""
    lake = existing_lake(args.lake)
    found = check_quality(lake, args.docs, spark, _say)
    docs = (args.docs or lake.path / DOCS).absolute() / "index.html"
    print(json.dumps(as_json(found, docs)) if args.json else as_text(found, docs))
    return 1 if found.broken_critical else 0


def as_json(found: QualityRun, docs: Path) -> dict[str, Any]:
    """The report as JSON can carry it."""
    return {**verdict(found), "broken": [_broken(row) for row in found.broken], "docs": str(docs)}


def verdict(found: QualityRun) -> dict[str, Any]:
    """A run in a few numbers."""
    broken, critical = len(found.broken), len(found.broken_critical)
    return {
        "run_id": found.run_id,
        "checked_batch_id": found.checked_batch_id,
        "checked_at": found.checked_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "is_success": not critical,
        "expectation_count": found.rows.num_rows,
        "broken_critical_count": critical,
        "broken_warning_count": broken - critical,
    }


def as_text(found: QualityRun, docs: Path) -> str:
    """The report as lines for people."""
    lines = [
        f"{row['severity']:<8}  {row['suite']}: {row['says']}  ({row['rule']}, {_rows(row)})"
        for row in found.broken
    ]
    return "\n".join((*lines, verdict_line(verdict(found)), f"pages     {docs}"))


def verdict_line(of: dict[str, Any]) -> str:
    """The verdict of a run in one line."""
    met = of["expectation_count"] - of["broken_critical_count"] - of["broken_warning_count"]
    broken = [f"{of[f'broken_{s}_count']} {s}" for s in ("critical", "warning") if of[f"broken_{s}_count"]]
    failed = f"; not met: {', '.join(broken)}" if broken else ""
    return f"batch {of['checked_batch_id']:,}: {met} of {of['expectation_count']} expectations met{failed}"


def _broken(row: dict[str, Any]) -> dict[str, Any]:
    names = ("severity", "suite", "rule", "says", "unexpected_count", "element_count")
    return {name: row[name] for name in names}


def _rows(row: dict[str, Any]) -> str:
    count = row["unexpected_count"]
    if count is None:
        return "could not be counted"
    what = "columns" if row["rule"].startswith("columns_are") else "found"
    return f"{count:,} {what}"


def _say(text: str) -> None:
    print(f"quality: {text}", file=sys.stderr)
