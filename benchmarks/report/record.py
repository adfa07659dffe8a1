"""The latest figure of every measurement, one JSON object a line; and those of the largest scale that are in git."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.measured import Scale

# What a machine has measured; not in git.
RESULTS = Path(__file__).parents[1] / "results" / "latest.jsonl"
# What `make bench-large` has found, for everybody who runs `make bench`. `make bench-keep` writes it.
ON_RECORD = Path(__file__).parents[1] / "large.jsonl"


def results_of(scale: Scale) -> Path:
    """A file for every scale: rows of one name at two scales are two figures."""
    return RESULTS.with_name(f"{scale}.jsonl")


def record(prefix: str, rows: Sequence[dict[str, Any]], path: Path | None = None) -> None:
    """Put `rows` on record in place of all former ones whose name starts with `prefix`."""
    path = path or RESULTS
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(row, default=str) for row in recorded(path) if not row["name"].startswith(prefix)]
    lines += [json.dumps(row, default=str) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def record_question(name: str, rows: Sequence[dict[str, Any]], scale: Scale) -> None:
    """Put a question's rows on record, in place of all it said before: at its scale, and as the latest.

    A run at tiny scale shows that the harness works; its figures must not take the place of real ones.
    """
    record(f"{name}.", rows, results_of(scale))
    if scale != "quick":
        record(f"{name}.", rows)


def rows_of(name: str, scale: Scale) -> list[dict[str, Any]]:
    """A question's rows, as this machine has measured them last at that scale."""
    return [row for row in recorded(results_of(scale)) if row["name"].startswith(f"{name}.")]


def recorded(path: Path) -> list[dict[str, Any]]:
    """Every row on record, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
