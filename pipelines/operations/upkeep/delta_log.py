"""A table's log as files: which versions can be read, what commits added and removed, which entries nobody needs.

Neither engine's own clean-up keeps what a pinned reader needs: delta-rs's goes by the newest checkpoint alone, and
Spark's by age.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from conf.table_spec import TableSpec
from pipelines.lake.lake import Lake

Pace = Callable[[], None]  # called after each piece of work; may wait, or raise to stop

_ENTRY = re.compile(r"^\.?(\d{20})\.")
_COMMIT = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.parquet$")


@dataclass(frozen=True)
class Changes:
    """Data files that commits have brought, and that commits up to the oldest kept version have taken away."""

    added: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)


def log_folder(lake: Lake, spec: TableSpec) -> Path:
    """The folder of a table's Delta log."""
    return lake.table_path(spec) / "_delta_log"


def commits(log: Path) -> list[int]:
    """The versions whose commits are there, in order."""
    return sorted(int(m[1]) for m in map(_COMMIT.match, _names(log)) if m)


def newest_checkpoint(log: Path, upto: int) -> int | None:
    """The newest version not after `upto` that can be read from its checkpoint alone."""
    found = sorted((int(m[1]) for m in map(_CHECKPOINT.match, _names(log)) if m), reverse=True)
    return next((v for v in found if v <= upto and _is_whole(log / f"{v:020d}.checkpoint.parquet")), None)


def files_at(lake: Lake, spec: TableSpec, version: int) -> set[str]:
    """The data files of a version."""
    actions = pa.table(lake.open(spec, version).get_add_actions())
    return {unquote(path) for path in actions["path"].to_pylist()}


def changes(log: Path, floor: int, pace: Pace) -> Changes:
    """What the commits after `floor` have added, and what those up to it have removed."""
    found = Changes()
    for version in commits(log):
        for action in _actions(log / f"{version:020d}.json"):
            if version > floor and "add" in action:
                found.added.add(unquote(action["add"]["path"]))
            elif version <= floor and "remove" in action:
                found.retired.add(unquote(action["remove"]["path"]))
        pace()
    return found


def needless_entries(log: Path, floor: int) -> list[Path]:
    """Files of the log that no version from `floor` on needs, oldest first."""
    kept_from = newest_checkpoint(log, floor)
    hint = _hinted_checkpoint(log)
    if kept_from is None or (hint is not None and hint < kept_from):
        return []  # readers begin where the hint says
    entries = ((m, name) for name in _names(log) if (m := _ENTRY.match(name)))
    return [log / name for version, name in sorted((int(m[1]), n) for m, n in entries) if version < kept_from]


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _actions(commit: Path) -> Iterator[dict[str, Any]]:
    return map(orjson.loads, filter(None, commit.read_bytes().split(b"\n")))


def _hinted_checkpoint(log: Path) -> int | None:
    """The version that the log's hint names; None without one, as in a restored lake, where readers list the log.

    A hint that cannot be read names the first version: then nothing is needless."""
    try:
        return int(orjson.loads((log / "_last_checkpoint").read_bytes())["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return 0


def _is_whole(checkpoint: Path) -> bool:
    try:
        return pq.read_metadata(checkpoint).num_rows > 0
    except (OSError, pa.ArrowInvalid):
        return False
