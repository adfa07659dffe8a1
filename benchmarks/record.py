"""The latest figure of every measurement, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "latest.jsonl"
# A run at tiny scale shows that the harness works; its figures must not take the place of real ones.
QUICK_RESULTS = RESULTS.with_name("quick.jsonl")


def record(prefix: str, rows: Sequence[dict[str, Any]], path: Path = RESULTS) -> None:
    """Put `rows` on record in place of all former ones whose name starts with `prefix`."""
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(row, default=str) for row in recorded(path) if not row["name"].startswith(prefix)]
    lines += [json.dumps(row, default=str) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def recorded(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Every row on record, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
