"""`stitchlake run`: stream sources into a lake."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession

from conf.policy import load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.run_stream import run_stream
from pipelines.lake.lake import require_place
from pipelines.runtime.session import build_session
from pipelines.runtime.stop_signals import stop_signals
from pipelines.stream.batch.setup import BatchReport
from pipelines.stream.source import parse_source, require_different
from pipelines.stream.source_folders import require_apart


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser("run", help="stream sources into a lake", description=__doc__)
    declare_arguments(p)
    p.set_defaults(run=run)


def declare_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of `stitchlake run` and of the job pipelines/apps/jobs/stream.py."""
    p.add_argument(
        "--source",
        action="append",
        required=True,
        metavar="SRC",
        help="MAPPING:FOLDER, such as native:events/, or MAPPING:kafka://HOST:PORT[,HOST:PORT]/TOPIC; "
        "may be given several times",
    )
    p.add_argument("--once", action="store_true", help="publish everything that is there, then end")
    p.add_argument(
        "--env",
        default="laptop",
        metavar="NAME",
        help="settings: laptop, cluster, or a YAML file; a broker's login goes there, under `kafka:`",
    )
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    p.add_argument(
        "--policy",
        metavar="FILE",
        help="identity policy: a YAML file, or one of the shipped ones: default, strict_weak, attach_weak",
    )
    p.add_argument(
        "--json", action="store_true", help="progress and summary as JSON lines on standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("run"):
            spark, settings = session_of(args, "stitchlake")
            return stream(spark, settings, args)
    except Exit as e:
        return e.code


def session_of(args: argparse.Namespace, name: str) -> tuple[SparkSession, Settings]:
    """The session and settings that a command or a job asks for. Mistakes are found before a JVM starts."""
    settings = load_settings(args.env)
    sources = [parse_source(text) for text in args.source]
    require_different(sources)
    require_apart(sources, args.lake)
    load_policy(args.policy)
    require_place(args.lake)
    return build_session(name, settings.master, driver_memory=settings.driver_memory), settings


def stream(spark: SparkSession, settings: Settings, args: argparse.Namespace) -> int:
    """Stream until a signal, or with --once until everything is published; then 0."""
    sources, policy = [parse_source(text) for text in args.source], load_policy(args.policy)
    progress = Progress(as_json=args.json)
    if not args.once:
        progress.say(f"streaming into {args.lake}; Ctrl-C stops cleanly")
    with stop_signals() as stop:  # the running batch is finished and published, then the stream ends
        result = run_stream(
            spark,
            args.lake,
            sources,
            policy,
            settings,
            once=args.once,
            stop=stop,
            on_published=progress.published,
            on_trouble=lambda line: print(f"stitchlake run: {line}", file=sys.stderr, flush=True),
        )
    progress.done(result.batch_count, result.received_count, args.lake)
    return 0


class Progress:
    """One line per published batch: on a terminal's standard error for people, JSON on standard output for programs."""

    def __init__(self, as_json: bool) -> None:
        self.as_json, self.started, self.total = as_json, time.monotonic(), 0

    def say(self, text: str) -> None:
        """Print one line on standard error."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def published(self, report: BatchReport) -> None:
        """Report one published batch."""
        self.total += report.received
        if self.as_json:
            steps = {k: round(v, 4) for k, v in report.steps.items()}
            print(
                json.dumps({**report.__dict__, "seconds": round(report.seconds, 4), "steps": steps}),
                flush=True,
            )
            return
        self.say(
            f"batch {report.batch_id:>4}  {report.received:>8,} received = {report.valid:,} valid"
            f" + {report.quarantined:,} quarantined + {report.duplicate:,} duplicate"
            f"   {report.persons:,} persons touched   {report.seconds:.1f} s"
        )

    def done(self, batches: int, received: int, lake: Path) -> None:
        """Report the end of the run."""
        seconds = time.monotonic() - self.started
        if self.as_json:
            print(
                json.dumps({"batches": batches, "received": received, "seconds": round(seconds, 3)}),
                flush=True,
            )
            return
        self.say(f"{received:,} events in {batches} batches, {seconds:.1f} s; the lake is {lake}")
