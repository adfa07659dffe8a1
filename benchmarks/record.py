"""The latest figure of every measurement, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "latest.jsonl"


def record(prefix: str, rows: Sequence[dict[str, Any]]) -> None:
    """Put `rows` on record in place of all former ones whose name starts with `prefix`."""
    RESULTS.parent.mkdir(exist_ok=True)
    kept = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    kept = [line for line in kept if not json.loads(line)["name"].startswith(prefix)]
    lines = kept + [json.dumps(row, default=str) for row in rows]
    RESULTS.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
