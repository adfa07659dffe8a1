"""`stitchlake generate`: realistic events, and the true person behind each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from pipelines.generator import SOURCE_FORMATS, GeneratorError, generate
from pipelines.stream.source import SourceError
from pipelines.stream.source_folders import require_writable


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "generate",
        help="generate realistic events and the true person behind each",
        description="Writes exactly EVENTS records (duplicates, late and bad ones among them) as JSON lines. "
        "The same arguments write the same bytes.",
    )
    parser.add_argument("--persons", type=int, required=True, metavar="N", help="how many persons there are")
    parser.add_argument("--events", type=int, required=True, metavar="N", help="how many records to write")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="which world: any number from 0")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="also write who did what to this file")
    parser.add_argument(
        "--source-format",
        default="native",
        metavar="NAME",
        help=f"one of: {', '.join(sorted(SOURCE_FORMATS))}",
    )
    parser.add_argument("--events-per-file", type=int, default=50_000, metavar="N", help="default 50000")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        for path in filter(None, (args.out, args.truth)):
            require_writable(path)
        summary = generate(
            persons=args.persons,
            events=args.events,
            seed=args.seed,
            out=args.out,
            truth=args.truth,
            source_format=args.source_format,
            events_per_file=args.events_per_file,
            progress=lambda done, total: print(f"generate: {done:,} of {total:,} records", file=sys.stderr),
        )
    except (GeneratorError, SourceError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"generate: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({**dataclasses.asdict(summary), "out": str(args.out)}))
        return 0
    groups = ", ".join(f"{name} {count:,}" for name, count in summary.persons_by_group.items())
    platforms = ", ".join(f"{name} {count:,}" for name, count in summary.events_by_platform.items())
    print(
        f"{summary.records:,} records in {summary.files:,} files in {args.out}\n"
        f"  valid events   {summary.valid_events:,} ({summary.late_events:,} of them late)\n"
        f"  duplicates     {summary.duplicates:,}\n"
        f"  to quarantine  {summary.malformed:,}\n"
        f"  anonymous      {summary.anonymous_share:.1%} of the valid events\n"
        f"  platforms      {platforms}\n"
        f"{summary.persons:,} persons, {summary.persons_with_several_devices:,} with several devices, "
        f"{summary.sessions:,} sessions\n"
        f"  groups         {groups}"
    )
    if args.truth:
        print(f"  truth          {args.truth}")
    return 0
