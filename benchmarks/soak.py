"""Does anything grow? Hundreds of small batches through the real stream, with upkeep on schedule.

`python -m benchmarks.soak` lands one small file after the other, looks every ten batches at what may leak, and prints
each measure's slope by the median of all pairs (Theil–Sen), which a few odd samples do not move.

    batches ── every ten ──▶ heap after a collection, memory of Python, cached blocks, open files,
                             files of tables, seconds a batch ──▶ slope per 100 batches, as a share of the mean
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.live.visits import land_visits
from benchmarks.report.record import record
from conf.policy import load_policy
from conf.settings import load_settings
from conf.tables import ALL, BATCHES
from pipelines.apps.run_stream import run_stream
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.stream.batch.setup import BatchReport
from pipelines.stream.source import Source

Sample = Mapping[str, float]


@dataclass(frozen=True)
class Limit:
    """How much of its mean a measure may grow in 100 batches, and how much all the same, in its own unit."""

    unit: str
    share: float
    amount: float


# A share alone would fail what is small and noisy, an amount alone what is large. Exceeding both is a leak.
LIMITS = {
    "heap_after_gc": Limit("MB", 0.05, 5.0),
    "python_memory": Limit("MB", 0.05, 10.0),
    "cached_blocks": Limit("blocks", 0.0, 0.5),
    "jvm_open_files": Limit("files", 0.05, 3.0),
    "python_open_files": Limit("files", 0.05, 3.0),
    "table_files": Limit("files", 0.10, 10.0),  # of all tables together
    "files_on_disk": Limit("files", 0.10, 100.0),  # with those that readable batches need, and all logs
    "largest_table_files": Limit("files", 0.10, 2.0),
    "checkpoint_files": Limit("files", 0.10, 10.0),
    "batch_seconds": Limit("s", 0.10, 0.02),
}
EVERY = 10


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    p.add_argument("--batches", type=int, default=500)
    p.add_argument("--events", type=int, default=50, help="in one batch")
    p.add_argument("--persons", type=int, default=400, help="as many come back again and again")
    p.add_argument("--history", type=int, default=60, help="batches that stay readable")
    p.add_argument(
        "--warm-up", type=int, default=None, help="batches left out of the slope; default: history + 40"
    )
    p.add_argument("--upkeep-every", type=float, default=30.0, metavar="SECONDS")
    p.add_argument("--no-record", action="store_true", help="for a run that is too short to count")
    args = p.parse_args(argv)
    args.warm_up = args.history + 40 if args.warm_up is None else args.warm_up
    with tempfile.TemporaryDirectory(prefix="stitchlake-soak-") as scratch:
        return _measure(args, Path(scratch))


def _measure(args: argparse.Namespace, folder: Path) -> int:
    landing, lake = folder / "landing", Lake(folder / "lake")
    landing.mkdir()
    settings = replace(
        load_settings(),
        compact_every_seconds=10.0,
        upkeep_every_hours=args.upkeep_every / 3600,
        history_batches=args.history,
    )
    spark = build_session("stitchlake soak", settings.master, driver_memory=settings.driver_memory)
    probes = probes_of(spark, lake)
    samples: list[tuple[int, Sample]] = []
    seconds: list[float] = []
    stop, troubles = threading.Event(), []

    def published(report: BatchReport) -> None:
        assert report.received == report.valid + report.quarantined + report.duplicate == args.events
        seconds.append(report.seconds)
        if len(seconds) % EVERY == 0:
            _collect(spark)
            found = {name: probe() for name, probe in probes.items()}
            samples.append((len(seconds), found | {"batch_seconds": statistics.median(seconds[-EVERY:])}))
            print(_line(*samples[-1]), flush=True)
        if len(seconds) < args.batches:
            land_visits(landing, len(seconds), args.events, args.persons)
        else:
            stop.set()

    land_visits(landing, 0, args.events, args.persons)
    source = Source("native", str(landing), "file", "native:soak")
    run_stream(
        spark,
        lake.path,
        [source],
        load_policy(),
        settings,
        once=False,
        stop=stop,
        on_published=published,
        on_trouble=troubles.append,
    )
    upkeeps = _upkeep_count(lake)
    rows = verdicts([s for s in samples if s[0] > args.warm_up])
    print(
        f"\n{len(seconds)} batches, {upkeeps} upkeeps beside them; slope per 100 batches from {args.warm_up} on"
    )
    for row in rows:
        print(_verdict_line(row))
    for line in troubles:
        print(f"  trouble: {line}")
    conditions = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "upkeeps": upkeeps, **vars(args)}
    if not args.no_record:
        record("soak.", [row | {"conditions": conditions} for row in rows])
    return 0 if rows and upkeeps and not troubles and all(row["passed"] for row in rows) else 1


def probes_of(spark: SparkSession, lake: Lake) -> dict[str, Callable[[], float]]:
    """What is looked at, by name. Python here; the JVM by its own management interface and by /proc."""
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    memory = jvm.java.lang.management.ManagementFactory.getMemoryMXBean()
    jvm_pid = int(jvm.java.lang.ProcessHandle.current().pid())
    context = spark.sparkContext._jsc.sc()

    def tables() -> list[int]:
        return [len(lake.open(spec).file_uris()) for spec in with_hot_parts(ALL)]

    return {
        "heap_after_gc": lambda: memory.getHeapMemoryUsage().getUsed() / 1e6,
        "python_memory": resident_megabytes,
        "cached_blocks": lambda: sum(i.numCachedPartitions() for i in context.getRDDStorageInfo()),
        "jvm_open_files": lambda: len(os.listdir(f"/proc/{jvm_pid}/fd")),
        "python_open_files": lambda: len(os.listdir("/proc/self/fd")),
        "table_files": lambda: sum(tables()),
        "largest_table_files": lambda: max(tables()),
        "files_on_disk": lambda: sum(_file_count(lake.path / s) for s in ("bronze", "silver", "gold", "ops")),
        "checkpoint_files": lambda: _file_count(lake.path / "_checkpoints"),
    }


def resident_megabytes() -> float:
    """What this Python process has in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope(points: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points; 0 for fewer than two."""
    found = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] != a[0]]
    return statistics.median(found) if found else 0.0


def verdicts(samples: list[tuple[int, Sample]]) -> list[dict[str, object]]:
    """One row a measure: its slope per 100 batches, and whether that is within its limit."""
    rows: list[dict[str, object]] = []
    for name, limit in LIMITS.items():
        points = [(float(batch), found[name]) for batch, found in samples if name in found]
        if len(points) < 2:
            continue
        mean = statistics.fmean(value for _, value in points)
        per_100 = 100 * slope(points)
        allowed = max(limit.share * abs(mean), limit.amount)
        rows.append(
            {
                "name": f"soak.{name}_per_100_batches",
                "value": round(per_100, 4),
                "unit": limit.unit,
                "target": round(allowed, 4),
                "passed": per_100 <= allowed,
                "baseline": {"mean": round(mean, 3), "first": points[0][1], "last": points[-1][1]},
            }
        )
    return rows


def _verdict_line(row: Mapping[str, object]) -> str:
    base = row["baseline"]
    assert isinstance(base, dict)
    share = float(str(row["value"])) / base["mean"] if base["mean"] else 0.0
    name = str(row["name"]).removeprefix("soak.").removesuffix("_per_100_batches")
    return (
        f"  {name:<20} mean {base['mean']:>10,.2f} {row['unit']:<7} slope {row['value']:>+9,.3f} ({share:+.1%}) "
        f"of at most {row['target']:,.3f}  {'flat' if row['passed'] else 'GROWS'}"
    )


def _line(batch: int, sample: Sample) -> str:
    return f"batch {batch:>4}  " + "  ".join(f"{name} {value:,.2f}" for name, value in sample.items())


def _collect(spark: SparkSession) -> None:
    """Collect in both; twice in the JVM, as what Python lets go is released there only then."""
    gc.collect()
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    for _ in range(2):
        jvm.java.lang.System.gc()
        time.sleep(0.05)


def _file_count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _upkeep_count(lake: Lake) -> int:
    kinds = lake.open(BATCHES).to_pyarrow_dataset().to_table(columns=["kind"])["kind"].to_pylist()
    return kinds.count("upkeep")


if __name__ == "__main__":
    run_and_end(main)
