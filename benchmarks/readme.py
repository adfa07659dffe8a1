"""Writes the table of measurements in README.md anew from the results on record: `python -m benchmarks.readme`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import rows_of
from benchmarks.questions import QUESTIONS
from benchmarks.table import as_markdown, unasked

README = Path(__file__).parent.parent / "README.md"
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
        print("no results on record: `make bench` makes them", file=sys.stderr)
        return 1
    page = README.read_text(encoding="utf-8")
    README.write_text(with_table(page, as_markdown(rows, unasked(rows))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
