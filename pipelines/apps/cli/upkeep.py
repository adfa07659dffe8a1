"""`stitchlake upkeep`: joins small files, shortens logs, removes old versions, archives records. A stream may run."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.apps.cli.numbers import amount
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.apps.cli.sql import as_table
from pipelines.apps.request_handlers import HANDLERS
from pipelines.lake.lake import existing_lake
from pipelines.operations.requests.requests import run_request
from pipelines.operations.upkeep.upkeep import Report, UpkeepOptions, dry_run, run_upkeep


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "upkeep",
        help="join small files, let old batches go, archive old records",
        description="Joins small files, shortens the tables' logs, removes files that no readable batch needs, and "
        "what runs leave behind. Safe while a stream runs; it pauses for a moment between two batches.",
    )
    declare_arguments(p)
    p.set_defaults(run=run)


def declare_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of `stitchlake upkeep` and of the job pipelines/apps/jobs/upkeep.py."""
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    p.add_argument(
        "--retain-hours",
        type=amount,
        metavar="N",
        help="published batches of the last N hours stay readable as they were; default: the setting history_days",
    )
    p.add_argument(
        "--archive-older-than",
        type=amount,
        metavar="DAYS",
        help="move files of bronze.events whose batches are all older than that",
    )
    p.add_argument("--archive-to", metavar="DIR", help="the archive's folder, on storage of your choice")
    p.add_argument("--restore-archive", action="store_true", help="bring all archived records back")
    p.add_argument("--dry-run", action="store_true", help="say what would be removed, and change nothing")
    p.add_argument("--policy", metavar="FILE", help="the lake's identity policy; default: the shipped one")
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    p.add_argument("--json", action="store_true", help="what was done, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("upkeep"):
            return do_upkeep(args)
    except Exit as e:
        return e.code


def do_upkeep(args: argparse.Namespace) -> int:
    """Do what the arguments ask for and print what was done."""
    if (args.archive_older_than is None) != (args.archive_to is None):
        raise BadUsage("--archive-older-than DAYS and --archive-to DIR go together")
    if args.archive_to is not None and args.restore_archive:
        raise BadUsage("archive records or bring them back, not both at once")
    policy, settings, lake = load_policy(args.policy), load_settings(args.env), existing_lake(args.lake)
    options = UpkeepOptions.of(
        settings,
        args.retain_hours,
        archive_days=args.archive_older_than,
        archive_to=args.archive_to,
        is_restore=args.restore_archive,
    )
    if args.dry_run:
        report = dry_run(lake, options)
    else:
        pause = partial(run_request, lake.path, policy, settings, "upkeep", HANDLERS, say=_say)
        report = run_upkeep(lake, options, pause, say=_say)
    print(json.dumps(report) if args.json else as_text(report))
    return 0


def as_text(report: Report) -> str:
    """What was done, or would be, for people."""
    rows: list[tuple[Any, ...]] = [
        (
            t["table"],
            f"{t['files_before']:,} → {t['files_after']:,}",
            f"{t['on_disk_before']:,} → {t['on_disk_after']:,}",
            f"{t['log_entries_before']:,} → {t['log_entries_after']:,}",
            t["removed_files"],
            round(t["removed_bytes"] / 1e6, 1),
        )
        for t in report["tables"]
    ]
    names = ("table", "files", "on disk", "log entries", "removed", "MB freed")
    freed = sum(t["removed_bytes"] for t in report["tables"]) / 1e6
    lines = [as_table(names, rows).rpartition("\n")[0]]
    lines.append(f"batches can be read back to {report['oldest_readable_batch_id']:,}")
    if report["moved_file_count"]:
        lines.append(f"{report['moved_file_count']:,} files of bronze.events changed sides with the archive")
    if report["is_dry_run"]:
        lines.append(f"nothing was changed; {freed:,.1f} MB would be freed, more once small files are joined")
    else:
        pauses = report["pauses_seconds"]
        lines.append(
            f"{freed:,.1f} MB freed in {report['seconds']:,.1f} s; the stream, if one runs, paused {len(pauses)} "
            f"{'time' if len(pauses) == 1 else 'times'}, at most {max(pauses):.1f} s"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
