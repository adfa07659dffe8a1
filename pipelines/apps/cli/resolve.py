"""`stitchlake resolve`: resolve a file of events as if it had been streamed N records at a time."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from conf.policy import load_policy
from conf.settings import CHOICES, Settings, load_settings
from conf.source_mapping import load_mapping
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.rebuild import add_dry_run, dry_run
from pipelines.apps.cli.run import Progress
from pipelines.apps.results import write_events, write_owners, write_refusals
from pipelines.apps.run_stream import run_stream
from pipelines.lake.files_of_record import FilesOfRecord
from pipelines.lake.lake import Lake, require_place
from pipelines.lake.snapshot import published
from pipelines.runtime.session import build_session
from pipelines.stream.slices import by_path, land
from pipelines.stream.source import Source, SourceError
from pipelines.stream.source_folders import require_writable
from transforms.ingest.framing.files_read import FileRead
from transforms.ingest.framing.frames import format_of

RESOLVED = "resolve"  # the source of files that were given by name


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser("resolve", help="resolve a file of events", description=__doc__)
    declare_arguments(p)
    add_dry_run(p)
    p.set_defaults(run=run)


def declare_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of `stitchlake resolve` and of the job pipelines/apps/jobs/resolve.py."""
    p.add_argument(
        "input", nargs="*", type=Path, help="event files (.jsonl .ndjson .json .csv .parquet, gzip of each)"
    )
    p.add_argument("--output", type=Path, metavar="FILE", help="one line per identifier: its person")
    p.add_argument(
        "--events-output", type=Path, metavar="FILE", help="one line per event: its person and session"
    )
    p.add_argument(
        "--rejected-output", type=Path, metavar="FILE", help="one line per refused pair, with the reason"
    )
    p.add_argument(
        "--policy",
        metavar="FILE",
        help="identity policy: a YAML file, or one of the shipped ones: default, strict_weak, attach_weak",
    )
    p.add_argument(
        "--source-format", default="native", metavar="NAME", help="source mapping; default: native"
    )
    p.add_argument("--batch-size", type=int, metavar="N", help="records per batch; default: all at once")
    p.add_argument(
        "--engine", choices=CHOICES["engine"], default="auto", help="who solves the graph; default: auto"
    )
    p.add_argument(
        "--lake", type=Path, metavar="DIR", help="resolve into this lake; default: one that is thrown away"
    )
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("resolve"):
            if args.dry_run:
                return _dry_run(args)
            spark, settings = session_of(args, "stitchlake resolve")
            return resolve(spark, settings, args)
    except Exit as e:
        return e.code


def _dry_run(args: argparse.Namespace) -> int:
    if args.input or args.output or args.lake is None:
        raise SourceError("--dry-run takes no files: it resolves the --lake as it is under another --policy")
    settings = replace(load_settings(args.env), engine=args.engine)
    return dry_run("resolve", args.lake, args, settings)


def session_of(args: argparse.Namespace, name: str) -> tuple[SparkSession, Settings]:
    """The session and settings that a command or a job asks for. Mistakes are found before a JVM starts."""
    if not args.input or args.output is None:
        raise SourceError("give one or more files of events, and --output FILE")
    for path in args.input:
        if not path.is_file():
            raise SourceError(f"input {path} is not a file; give one or more files of events")
        if format_of(path.name)[0] is None:
            raise SourceError(
                f"input {path}: unknown extension; use .jsonl, .ndjson, .json, .csv or .parquet, or .gz of it"
            )
    for output in filter(None, (args.output, args.events_output, args.rejected_output)):
        require_writable(output, args.lake)
        if any(output.exists() and output.samefile(path) for path in args.input):
            raise SourceError(f"{output} is an input, and would be overwritten; give another file")
    twice = [path for at, path in enumerate(args.input) if any(map(path.samefile, args.input[:at]))]
    if twice:
        raise SourceError(f"input {twice[0]} is given twice; leave one of them out")
    if args.batch_size is not None and args.batch_size < 1:
        raise SourceError("--batch-size must be at least 1")
    load_policy(args.policy)
    load_mapping(args.source_format)
    if args.lake is not None:
        require_place(args.lake)
    for output in (args.output, args.events_output, args.rejected_output):
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            if output.is_dir():
                raise SourceError(f"output {output} is a folder; give a file")
    settings = replace(load_settings(args.env), engine=args.engine)
    return build_session(name, settings.master, driver_memory=settings.driver_memory), settings


def resolve(spark: SparkSession, settings: Settings, args: argparse.Namespace) -> int:
    """Resolve the input files and write the outputs asked for; then 0."""
    with tempfile.TemporaryDirectory(prefix="stitchlake-") as scratch:
        return _resolve(spark, settings, args, Path(scratch))


def _resolve(spark: SparkSession, settings: Settings, args: argparse.Namespace, scratch: Path) -> int:
    policy = load_policy(args.policy)
    if args.batch_size:
        settings = replace(settings, max_files_per_trigger=1)
    else:
        settings = replace(settings, max_files_per_trigger=1_000_000)
    lake = args.lake or scratch / "lake"
    landing = scratch / "landing"
    if args.lake is None:
        land(args.input, landing, args.batch_size)
    else:
        land(args.input, landing, args.batch_size, by_path, partial(_read_before, Lake(lake)))
    progress = Progress(as_json=False)
    # A lake knows what was resolved by each file's own path; the landing folder is new every time, and so is its
    # checkpoint.
    source = Source(args.source_format, str(landing), "file", RESOLVED)
    run_stream(
        spark,
        lake,
        [source],
        policy,
        settings,
        once=True,
        is_continued=False,
        on_published=progress.published,
        on_trouble=lambda line: print(f"stitchlake resolve: {line}", file=sys.stderr, flush=True),
    )
    names_are_members = args.lake is None
    count = write_owners(lake, policy, args.output, names_are_members)
    if args.events_output:
        write_events(lake, policy, args.events_output, names_are_members)
    if args.rejected_output:
        write_refusals(lake, args.rejected_output)
    print(
        f"{count['identifiers']:,} identifiers of {count['persons']:,} persons in {args.output}",
        file=sys.stderr,
    )
    return 0


def _read_before(lake: Lake, name: str) -> Sequence[FileRead]:
    """What has been resolved into the lake of a file, or of its slices."""
    snapshot = published(lake)
    if snapshot is None:
        return ()
    origin = (RESOLVED, name)
    return FilesOfRecord(lake, snapshot.batch_id).reads_of([origin]).get(origin, ())
