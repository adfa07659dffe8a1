"""What does a small batch cost on a warm stream with history? 2,500 events at a time, after a million.

`python -m benchmarks.warm_batch` prints each step's share and adds its rows to benchmarks/results/latest.jsonl.
Conservation is checked in every batch; a figure without it would not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.record import record
from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.batch.process import BatchReport
from pipelines.generator import generate
from pipelines.session import build_session
from pipelines.slices import land
from pipelines.sources import Source
from pipelines.stream import run_stream

TARGET_SECONDS = 2.0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.warm_batch", description=__doc__)
    p.add_argument("--history", type=int, default=1_000_000)
    p.add_argument("--batch", type=int, default=2_500)
    p.add_argument("--batches", type=int, default=20)
    p.add_argument("--warm-up", type=int, default=3, help="batches that are not counted")
    p.add_argument("--seed", type=int, default=7)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="stitchlake-warm-") as scratch:
        return _measure(args, Path(scratch))


def _measure(args: argparse.Namespace, folder: Path) -> int:
    count = (args.batches + args.warm_up) * args.batch
    persons = (args.history + count) // 12
    print(f"generating {args.history + count:,} events", flush=True)
    generate(persons, args.history + count, args.seed, folder / "made", events_per_file=count)
    files = sorted((folder / "made").iterdir())
    land(files[-1:], folder / "later", args.batch)
    later = sorted((folder / "later").iterdir())
    landing = folder / "landing"
    landing.mkdir()
    for file in files[:-1]:
        file.rename(landing / file.name)

    settings = replace(load_settings(), max_files_per_trigger=max(1, 120_000 // count))
    spark = build_session("stitchlake warm batch", settings.master, driver_memory=settings.driver_memory)
    source = Source("native", str(landing), "file", "native:warm")
    started = time.monotonic()
    history = run_stream(
        spark, folder / "lake", [source], load_policy(), settings, once=True, on_published=_line
    )
    rate = history.received_count / (time.monotonic() - started) * 60
    print(
        f"history: {history.received_count:,} events at {rate:,.0f} a minute, start-up included", flush=True
    )

    stop, reports = threading.Event(), []

    def next_one(report: BatchReport) -> None:
        assert report.received == report.valid + report.quarantined + report.duplicate
        reports.append(report)
        _line(report)
        if len(reports) < len(later):
            later[len(reports)].rename(landing / later[len(reports)].name)
        else:
            stop.set()

    later[0].rename(landing / later[0].name)
    run_stream(
        spark,
        folder / "lake",
        [source],
        load_policy(),
        settings,
        once=False,
        stop=stop,
        on_published=next_one,
    )
    counted = reports[args.warm_up :]
    seconds = [r.seconds for r in counted]
    median, worst = statistics.median(seconds), max(seconds)
    print(
        f"\nbatches of {args.batch:,} events after {history.received_count:,}:"
        f" median {median:.2f} s, worst {worst:.2f} s"
    )
    for step in counted[0].steps:
        print(f"  {step:<10} {statistics.median(r.steps.get(step, 0.0) for r in counted):.3f} s")
    conditions = {"cores": os.cpu_count(), "load": os.getloadavg()[0], **vars(args)}
    rows = [
        ("warm_batch.median", median, "s", TARGET_SECONDS),
        ("warm_batch.worst", worst, "s", TARGET_SECONDS),
        ("warm_batch.backlog_events_per_minute", rate, "events/min", None),
    ]
    record(
        "warm_batch.",
        [
            {
                "name": name,
                "value": round(value, 4),
                "unit": unit,
                "target": target,
                "passed": None if target is None else value <= target,
                "baseline": None,
                "conditions": conditions,
            }
            for name, value, unit, target in rows
        ],
    )
    return 0 if median <= TARGET_SECONDS else 1


def _line(report: BatchReport) -> None:
    print(f"  batch {report.batch_id:>4}  {report.received:>7,} records  {report.seconds:6.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
