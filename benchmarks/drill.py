"""A disaster, on purpose: how much is lost with a lake, and how long until its restored copy publishes again?

    load ──▶ stream ──▶ lake ──┐ every few seconds
                               ├──▶ backup         kill -9, rm -rf       restore ──▶ stream ──▶ first new batch
                               └───────────────────────── ✗ ──────────────────────────────────────── RTO ──┘
             newest event that the backup has ─── RPO ───┘

`python -m benchmarks.drill` (`make drill`) adds its rows to benchmarks/results/latest.jsonl. The landing folder
outlives the lake, as a source should: once it is read again nothing is lost, which is checked table by table against a
lake that was never destroyed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.compute as pc

from benchmarks.report.record import record
from conf.tables import ALL, BATCHES, BRONZE_EVENTS, EVENTS
from pipelines.generator import generate
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake, NoLake
from pipelines.lake.snapshot import published
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import Taken, back_up
from pipelines.runtime.process_end import run_and_end
from pipelines.stream.slices import land
from transforms.compare.reconciliation import compare_states

FIRST_BATCH_SECONDS = 300.0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__.splitlines()[0])
    p.add_argument(
        "--events", type=int, default=60_000, help="how many arrive, evenly, while the stream runs"
    )
    p.add_argument("--seconds", type=float, default=60.0, help="for how long they arrive before the disaster")
    p.add_argument("--backup-every", type=float, default=10.0, metavar="SECONDS")
    p.add_argument("--seed", type=int, default=7)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="stitchlake-drill-") as scratch:
        return _drill(args, Path(scratch))


def _drill(args: argparse.Namespace, folder: Path) -> int:
    landing, lake, backup = folder / "landing", folder / "lake", folder / "backup"
    landing.mkdir()
    generate(max(10, args.events // 12), args.events, args.seed, folder / "made", events_per_file=args.events)
    per_file = max(1, int(args.events / args.seconds / 2))
    land(sorted((folder / "made").iterdir()), folder / "parts", per_file)
    parts = sorted((folder / "parts").iterdir())

    stream = _stream(lake, landing)
    try:
        parts[0].rename(landing / parts[0].name)
        _until_published(lake, 0)  # the session is up: from here on the load is even
        _say("the stream is up; events arrive and backups are taken")
        taken = _load_and_back_up(parts[1:-1], landing, lake, backup, args)
    finally:
        os.killpg(stream.pid, signal.SIGKILL)
        stream.wait()
    destroyed_at = time.time()
    last = published(Lake(lake))
    assert last is not None
    shutil.rmtree(lake)
    key_path(lake).unlink()
    _say(f"destroyed the lake at batch {last.batch_id}; restoring")

    started = time.monotonic()
    restored = restore(backup, lake).manifest
    restore_seconds = time.monotonic() - started
    snapshot = published(Lake(lake))
    assert snapshot is not None
    newest = pc.max(snapshot.arrow(EVENTS, ["received_at"])["received_at"]).as_py().timestamp()
    rpo = destroyed_at - newest
    parts[-1].rename(landing / parts[-1].name)  # sources go on
    stream = _stream(lake, landing)
    try:
        _until_published(lake, snapshot.batch_id)
        rto = time.monotonic() - started
    finally:
        os.killpg(stream.pid, signal.SIGTERM)
        stream.wait(timeout=120)
    _say(f"published a new batch {rto:.1f} s after; comparing with a lake that was never destroyed")
    _run_once(lake, landing)
    _run_once(folder / "clean", landing, key_of=lake)
    lost, different = _compared(Lake(lake), Lake(folder / "clean"))

    rows = [
        ("drill.rpo_seconds", rpo, "s", None),
        ("drill.rpo_after_rereading_sources_records", lost, "records", 0),
        ("drill.tables_that_differ_from_never_destroyed", different, "tables", 0),
        ("drill.rto_seconds", rto, "s", FIRST_BATCH_SECONDS),
        ("drill.restore_seconds", restore_seconds, "s", None),
        ("drill.backup_seconds_median", statistics.median(t.seconds for t in taken), "s", None),
        ("drill.backup_copied_bytes", statistics.median(t.copied_byte_count for t in taken), "bytes", None),
    ]
    conditions = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "restored_batch_id": restored.batch_id,
        "destroyed_batch_id": last.batch_id,
        "restored_byte_count": restored.byte_count,
        "backup_count": len(taken),
        **vars(args),
    }
    for name, value, unit, target in rows:
        _say(f"  {name:<46} {value:>12,.2f} {unit}" + ("" if target is None else f"  (target {target:g})"))
    record("drill.", [_row(*row, conditions) for row in rows])
    return 0 if not lost and not different and rto <= FIRST_BATCH_SECONDS else 1


def _row(
    name: str, value: float, unit: str, target: float | None, conditions: dict[str, object]
) -> dict[str, object]:
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "target": target,
        "passed": None if target is None else value <= target,
        "baseline": None,
        "conditions": conditions,
    }


def _load_and_back_up(
    parts: list[Path], landing: Path, lake: Path, backup: Path, args: argparse.Namespace
) -> list[Taken]:
    """Land the parts evenly and back up on schedule; ends when both are through."""
    pause = args.seconds / max(1, len(parts))

    def arrive() -> None:
        for part in parts:
            part.touch()  # it arrives now: that is what its records' age is counted from
            part.rename(landing / part.name)
            time.sleep(pause)

    arriving = threading.Thread(target=arrive)
    arriving.start()
    taken: list[Taken] = []
    due = time.monotonic()
    while arriving.is_alive() or not taken:
        if time.monotonic() >= due:
            taken.append(back_up(lake, backup, with_key=True))
            due += args.backup_every
        time.sleep(0.05)
    return taken


def _command(lake: Path, landing: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pipelines.apps.cli",
        "run",
        "--source",
        f"native:{landing}",
        "--lake",
        str(lake),
    ]


def _stream(lake: Path, landing: Path) -> subprocess.Popen[bytes]:
    """A stream in a session of its own, so that its JVM can be killed with it."""
    return subprocess.Popen(
        _command(lake, landing), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _run_once(lake: Path, landing: Path, key_of: Path | None = None) -> None:
    if key_of is not None:  # the same key, or the nodes of the two lakes would not compare
        shutil.copy(key_path(key_of), key_path(lake))
    subprocess.run([*_command(lake, landing), "--once"], stderr=subprocess.DEVNULL, check=True)


def _until_published(lake: Path, after: int) -> None:
    """Wait for a batch with records after `after`."""
    until = time.monotonic() + FIRST_BATCH_SECONDS
    while time.monotonic() < until:
        try:
            snapshot = published(Lake(lake))
        except (NoLake, OSError):
            snapshot = None
        if snapshot is not None and snapshot.batch_id > after:
            return
        time.sleep(0.1)
    raise RuntimeError("no batch was published in time")


def _compared(left: Lake, right: Lake) -> tuple[int, int]:
    """(records that only one of the lakes has or has more often, tables whose content differs)."""
    states, origins = [], []
    for lake in (left, right):
        snapshot = published(lake)
        assert snapshot is not None
        states.append({spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES})
        rows = states[-1][BRONZE_EVENTS].select(["origin", "origin_ordinal"])
        origins.append(sorted(zip(*(c.to_pylist() for c in rows.columns), strict=True)))
    a, b = origins
    lost = len(set(a) ^ set(b)) + (len(a) - len(set(a))) + (len(b) - len(set(b)))
    return lost, sum(not d.is_equal for d in compare_states(*states))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run_and_end(main)
