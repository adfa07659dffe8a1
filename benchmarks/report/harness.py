"""Runs one question: its scratch folder, the machine's conditions, verdicts, and its rows on record."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.report.measured import SCALES, SEED, Measured, Scale
from benchmarks.report.record import record_question
from benchmarks.report.table import FAILED, NOT_JUDGED, as_text
from benchmarks.report.targets import TARGETS, verdict
from pipelines.runtime.java import find_java

# For every JVM of a quick run, whose code is cold from beginning to end: without the second compiler a session starts
# and runs its first queries in two thirds of the time.
QUICK_JAVA = "-XX:TieredStopAtLevel=1"
PACKAGES = ("pyspark", "delta-spark", "deltalake", "graphframes-py", "pyarrow", "numpy", "scipy", "duckdb")


def run_alone(module: ModuleType | str, argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.<question>`: measure, put the rows on record, print them. 1 if it was not correct.

    `module` may be a name: of the question's own module, which is `__main__` when it runs like this.
    """
    question = sys.modules[module] if isinstance(module, str) else module
    name, about = question.NAME, (question.__doc__ or "").splitlines()[0]
    p = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    p.add_argument("--scale", choices=SCALES, default="usual")
    scale: Scale = p.parse_args(argv).scale
    print(f"{name} ({scale}): {about}", flush=True)
    if scale == "quick":
        os.environ.setdefault("JAVA_TOOL_OPTIONS", QUICK_JAVA)
    before = os.getloadavg()[0]
    with contextlib.suppress(ValueError):  # not the main thread: somebody else's signals
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(1)
        )  # whatever it has started is ended by its own block
    with tempfile.TemporaryDirectory(prefix=f"stitchlake-bench-{name}-") as scratch:
        try:
            measured = question.measure(scale, Path(scratch))
            wrong = [m.name for m in measured if not m.name.startswith(f"{name}.")]
            assert not wrong, f"rows of another question: {', '.join(wrong)}"
        except Exception as problem:
            traceback.print_exc()
            put_failure(name, scale, _reason(problem))
            return 1
    machine = conditions(scale, before)
    rows = [row_of(m, machine) for m in measured]
    record_question(name, rows, scale)
    print(as_text(rows), flush=True)
    return 0


@contextlib.contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the process through its blocks, so that they end the streams that they have started."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def row_of(measured: Measured, machine: dict[str, Any]) -> dict[str, Any]:
    """A row as it is recorded. Figures of a quick run are not judged."""
    target = TARGETS.get(measured.name)
    found = NOT_JUDGED if machine["scale"] == "quick" else verdict(measured.name, measured.value)
    is_judged = target is not None and found != NOT_JUDGED
    return {
        **asdict(measured),
        "target": target.must if target else None,
        "stretch": target.stretch if target else None,
        "verdict": found,
        "passed": found != "missed" if is_judged else None,
        "conditions": {**measured.conditions, **machine},
    }


def put_failure(name: str, scale: Scale, reason: str) -> None:
    """A question that failed is one row that says so, in place of all it said before."""
    machine = conditions(scale, os.getloadavg()[0])
    row = row_of(Measured(f"{name}.{FAILED}", None, "", note=reason), machine)
    record_question(name, [row | {"verdict": FAILED, "passed": False}], scale)


def conditions(scale: Scale, load_before: float) -> dict[str, Any]:
    """What this machine is, and how busy it was."""
    return {
        "scale": scale,
        "seed": SEED,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "loop_ms": round(_loop_ms(), 1),
        "on": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "java": _java_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _loop_ms() -> float:
    """What a million turns of an empty loop take: machines that are shared are not as fast at all times."""
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(1_000_000):
            pass
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


def _java_version() -> str:
    try:
        said = subprocess.run(
            [find_java().home / "bin" / "java", "-version"], capture_output=True, text=True, check=True
        )
        return said.stderr.partition('version "')[2].partition('"')[0] or "none"
    except Exception:  # a question that needs no Java can be asked without one
        return "none"


def _reason(problem: Exception) -> str:
    """Where and why, in one line."""
    at = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__} at {Path(at.filename).name}:{at.lineno}: {problem}".splitlines()[0][
        :300
    ]
