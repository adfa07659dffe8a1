"""Writes the table of measurements in docs/benchmarks.md anew: `python -m benchmarks.report.page`.

From what `make bench` has measured on this machine, with what `make bench-large` has put on record beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.questions import QUESTIONS
from benchmarks.report.record import ON_RECORD, recorded, rows_of
from benchmarks.report.table import as_markdown, unasked
from pipelines.runtime.process_end import run_and_end

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def with_table(page: str, table: str) -> str:
    """The page with `table` between its two markers, in place of what was there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> int:
    rows = [row for name in QUESTIONS for row in rows_of(name, "usual")]
    if not rows:
        print("nothing is measured yet: `make bench` does it", file=sys.stderr)
        return 1
    kept = recorded(ON_RECORD)
    table = as_markdown(rows, unasked([*rows, *kept]), kept)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_and_end(main)
