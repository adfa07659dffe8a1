"""Puts what `make bench-large` has found here on the record that is in git: `python -m benchmarks.report.keep_large`.

Question by question: one that was asked alone takes the place of its own former rows and of no others, and of one that
failed the former rows stay.
"""

from __future__ import annotations

import sys

from benchmarks.questions import QUESTIONS
from benchmarks.report.record import ON_RECORD, record, rows_of
from benchmarks.report.table import FAILED
from pipelines.runtime.process_end import run_and_end


def main() -> int:
    asked = [name for name, minutes in QUESTIONS.items() if minutes.large]
    found = {name: rows for name in asked if (rows := rows_of(name, "large"))}
    failed = [name for name, rows in found.items() if any(row["verdict"] == FAILED for row in rows)]
    kept = [name for name in found if name not in failed]
    for name in kept:
        record(f"{name}.", found[name], ON_RECORD)
    for name in failed:
        print(f"{name} failed: what is on record of it stays", file=sys.stderr)
    if not kept:
        print("nothing to keep: `make bench-large` measures it", file=sys.stderr)
        return 1
    print(f"kept in {ON_RECORD}, to be committed: {', '.join(kept)}")
    return 0


if __name__ == "__main__":
    run_and_end(main)
