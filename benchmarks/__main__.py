"""All benchmarks: every question in a process of its own, then one table with targets, figures and verdicts.

`python -m benchmarks [--scale quick|usual|large] [--only QUESTION…]`. Rows go to benchmarks/results/: to the file of
their scale, and those of a usual or large run to latest.jsonl too. Beside figures of the usual scale stand those of the
largest one that are on record. Exit code 1 when a question failed or was not correct; a missed target is a verdict,
and 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.questions import QUESTIONS
from benchmarks.report.harness import put_failure
from benchmarks.report.measured import SCALES, Scale
from benchmarks.report.record import ON_RECORD, record_question, recorded, rows_of
from benchmarks.report.table import FAILED, as_text, question_of, unasked
from pipelines.runtime.process_end import run_and_end

# A question that takes so much longer than expected is stuck.
PATIENCE_TIMES, PATIENCE_MINUTES = 3, 5
GRACE_SECONDS = 30
# Who asks for the targets that a run does not.
ELSEWHERE: dict[Scale, str] = {"quick": "make bench", "usual": "make bench-large", "large": "make bench"}


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    p.add_argument("--scale", choices=SCALES, default="usual")
    p.add_argument(
        "--only", nargs="+", choices=tuple(QUESTIONS), metavar="QUESTION", help=", ".join(QUESTIONS)
    )
    args = p.parse_args(argv)
    names = [n for n in QUESTIONS if (not args.only or n in args.only) and QUESTIONS[n].at(args.scale)]
    if not names:
        p.error(f"not asked at the {args.scale} scale: {', '.join(args.only)}")
    started = time.monotonic()
    for n, name in enumerate(names):
        left = sum(QUESTIONS[later].at(args.scale) for later in names[n:])
        print(f"\n[{n + 1}/{len(names)}] {name}, about {left:.0f} minutes left", flush=True)
        _ask(name, args.scale)
    rows = [row for name in names for row in rows_of(name, args.scale)]
    # Figures of the usual scale stand beside those of the largest one; a run at tiny scale has no figures.
    kept = [r for r in recorded(ON_RECORD) if question_of(r) in names] if args.scale == "usual" else []
    more = () if args.only else unasked([*rows, *kept], ELSEWHERE[args.scale])
    table = as_text(rows, more, kept)
    print(f"\n{len(names)} questions in {(time.monotonic() - started) / 60:.1f} minutes\n\n{table}")
    return 1 if any(row["verdict"] == FAILED for row in rows) else 0


def _ask(name: str, scale: Scale) -> None:
    """One question in a process and a session of its own: a fresh JVM, and nothing of it stays."""
    record_question(name, [], scale)  # what it said before must not stand for what it says now
    minutes = PATIENCE_TIMES * QUESTIONS[name].at(scale) + PATIENCE_MINUTES
    child = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", "--scale", scale], start_new_session=True
    )
    began = time.time()
    try:
        code = child.wait(timeout=minutes * 60)
    except subprocess.TimeoutExpired:
        put_failure(name, scale, f"stopped: not done after {minutes:.0f} minutes")
        return
    finally:
        _end(child)
    is_told = any(row["verdict"] == FAILED for row in rows_of(name, scale))
    if code and not is_told:
        put_failure(name, scale, f"its process ended with {code} after {time.time() - began:.0f} s")


def _end(child: subprocess.Popen[bytes]) -> None:
    """First by asking, so that it ends the streams that it has started: they are in sessions of their own."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    run_and_end(main)
