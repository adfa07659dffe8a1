"""Removes what runs leave in a lake's folder: checkpoints that nobody continues, partial files, unread answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipelines.lake.lake import Lake
from pipelines.operations.decisions.inbox import control_source, decided_origins
from pipelines.operations.upkeep.delta_log import Pace
from pipelines.stream.checkpoint import POINTER

LEFT_HOURS = 24.0  # nothing in use goes untouched for that long
# `errands` is what programs before the folder `requests` called it: what they left there goes too.
HALF_MADE = (
    "_stitchlake/*.partial",
    "_stitchlake/requests/*",
    "_stitchlake/errands/*",
    "_stitchlake/control/.*",
    "_stitchlake/graph-check/*",
)
GRAPH_CHECKPOINTS = "_stitchlake/graph-checkpoints/*/rdd-*"  # Spark forgets to remove them while it runs
CHECKPOINTS = "_checkpoints"


def remove_leftovers(
    lake: Lake, now_ns: int, history_days: float, pace: Pace, *, is_dry: bool = False
) -> int:
    """Remove them; how many there were."""
    before = now_ns - int(LEFT_HOURS * 3600e9)
    old = [path for path in _leftovers(lake.path) if _modified_ns(path) < before]
    decided_before = now_ns - int(max(history_days, LEFT_HOURS / 24) * 86_400e9)
    old += [path for path in _published_decisions(lake) if _modified_ns(path) < decided_before]
    for path in old:
        if not is_dry:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        pace()
    return len(old)


def _leftovers(lake: Path) -> Iterator[Path]:
    for pattern in (*HALF_MADE, GRAPH_CHECKPOINTS):
        yield from lake.glob(pattern)
    # A checkpoint is never continued once the pointer names another: a former set of sources gets a new one.
    former = list((lake / CHECKPOINTS).glob("*"))
    try:
        current = json.loads((lake / POINTER).read_text(encoding="utf-8"))["stream"]
    except (OSError, ValueError, KeyError, TypeError):  # nothing says which one is continued
        return
    yield from (folder for folder in former if folder.name != current)


def _published_decisions(lake: Lake) -> Iterator[Path]:
    """Decisions are in bronze.events for good; their files have done their duty once they are published."""
    source = control_source(lake.path)
    published = {origin for name, origin in decided_origins(lake) if name == source.name}
    yield from (f for f in Path(source.location).glob("*.json") if f.name in published)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # somebody has removed it meanwhile
        return 2**63 - 1
