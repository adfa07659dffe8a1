"""Remove data files and log entries that no readable version of a table refers to.

    floor ─ oldest kept version
    kept: files of the floor, and whatever any later commit has added, removed since or not
    gone: retired by a commit up to the floor; or for a day in no commit at all, left by a writer that was killed

Needs no pause: what a batch has written and not committed yet is in no commit, and young.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from conf.table_spec import TableSpec
from pipelines.lake.lake import Lake
from pipelines.operations.upkeep.delta_log import (
    Changes,
    Pace,
    changes,
    commits,
    files_at,
    log_folder,
    needless_entries,
)

ORPHAN_HOURS = 24.0  # a file in no commit may belong to a write that is being prepared
TEMPORARY = ("_commit_", ".tmp")  # what a killed commit leaves in a log


@dataclass(frozen=True)
class Removed:
    """What was removed of a table, or would be."""

    file_count: int
    byte_count: int
    log_entry_count: int


def vacuum(
    lake: Lake, spec: TableSpec, floor: int, now_ns: int, pace: Pace, *, is_dry: bool = False
) -> Removed:
    """Remove what no version from `floor` on needs.

    Interrupted anywhere, what is kept is untouched and the rest is found again: log entries go last, oldest first.
    """
    log = log_folder(lake, spec)
    on_disk = _data_files(
        lake.table_path(spec)
    )  # before the log is read: it knows all of these that are committed
    first = min(commits(log), default=0)
    if floor < first:  # nothing older than the log is left, so nothing is known of it either
        floor = first
    found = changes(log, floor, pace) if on_disk else Changes()
    kept = files_at(lake, spec, floor) | found.added if on_disk else set()
    orphans_before = now_ns - int(ORPHAN_HOURS * 3600e9)
    gone = [
        f
        for f in on_disk
        if f.name not in kept and (f.name in found.retired or f.modified_ns < orphans_before)
    ]
    for file in gone:
        if not is_dry:
            file.path.unlink(missing_ok=True)
        pace()
    entries = needless_entries(log, floor)
    entries += [f.path for f in _temporary(log) if f.modified_ns < orphans_before]
    for entry in entries:
        if not is_dry:
            entry.unlink(missing_ok=True)
        pace()
    return Removed(len(gone), sum(f.size for f in gone), len(entries))


@dataclass(frozen=True)
class _File:
    name: str
    path: Path
    size: int
    modified_ns: int


def _data_files(folder: Path) -> list[_File]:
    return [f for f in _files(folder) if not f.name.startswith("_")]


def _temporary(log: Path) -> list[_File]:
    return [f for f in _files(log) if all(part in f.name for part in TEMPORARY)]


def _files(folder: Path) -> list[_File]:
    """The files of a folder, not of those below it: our tables have no partitions."""
    with os.scandir(folder) as entries:
        found = [(e, e.stat()) for e in entries if e.is_file()]
    return [_File(e.name, folder / e.name, s.st_size, s.st_mtime_ns) for e, s in found]
