"""Files whose names have been read before: which of their records are new.

name ──▶ read before? ──no──▶ all of it
           │yes
           ├─ with this content ──▶ nothing
           ├─ a slice with no number that was read ──▶ all of it, in whatever order slices come
           └─ other content ──▶ the records whose bytes are not in bronze.events under this name
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipelines.lake.files_of_record import FilesOfRecord
from transforms.ingest.control import CONTROL
from transforms.ingest.framing.files_read import (
    CHANGED,
    KNOWN,
    MOVING,
    READ,
    FileRead,
    Reading,
    Readings,
    digest_of_file,
)
from transforms.ingest.framing.frames import frames, origin_of

EMPTY = "without a record"
_KINDS = {
    KNOWN: "had been read under this name with this content, and are not read again",
    CHANGED: "have other content than what was read under their name; what is new in them is read",
    MOVING: "changed while they were read; they are read once they have come to rest",
    EMPTY: "have no record in them",
}
_LINES_AT_ONCE = 5


class Landed(NamedTuple):
    """A file of a source, by its name inside the source's folder."""

    source: str
    name: str
    path: Path


def readings(landed: Iterable[Landed], record: FilesOfRecord) -> Readings:
    """What is to be done with those of the files of whose names something has been read."""
    files = {(f.source, f.name): (f, *origin_of(f.name)) for f in landed}
    reads = record.reads_of((file.source, origin) for file, origin, _ in files.values())
    found: Readings = {}
    for place, (file, origin, start) in files.items():
        before = reads.get((file.source, origin), ())
        if not before:
            continue
        try:
            with file.path.open("rb") as content:
                digest = digest_of_file(content)
        except OSError:  # gone again: Spark passes it over
            continue
        if any(r.path == file.name and r.digest == digest for r in before):
            found[place] = Reading(digest, 0, None)
        elif any(r.path == file.name for r in before) or _has_read(before, file, start):
            next_number = max((r.last + 1 for r in before if r.last is not None), default=0)
            found[place] = Reading(digest, next_number, record.seen_records((file.source, origin)))
    return found


def _has_read(before: Sequence[FileRead], file: Landed, start: int) -> bool:
    """Whether records with numbers of this file, which begins at number `start`, have been read. The file is looked
    into only where records behind its start have been."""
    ranges = [(r.first, r.last) for r in before if r.first is not None and r.last is not None]
    if any(first <= start <= last for first, last in ranges):
        return True
    behind = [first for first, _ in ranges if first > start]
    return bool(behind) and _last_number(file) >= min(behind)


def _last_number(file: Landed) -> int:
    """The number of the file's last record in its origin, -1 where it has none or is gone."""
    last = -1
    with suppress(OSError):
        for found in frames(file.name, file.path.read_bytes()):
            last = found.ordinals[-1]
    return last


class FileNews:
    """Tells the operator of files that were not simply read: of the first batches at once, of the others as a total."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said_count = say, 0
        self._unreported: Counter[str] = Counter()

    def of_batch(self, files: Sequence[FileRead]) -> None:
        """Report the files of a published batch that were not read as usual."""
        files = [
            file for file in files if file.source != CONTROL
        ]  # decisions are published without a stream too
        lines = said_of(files)
        if self._said_count < _LINES_AT_ONCE:
            self._said_count += len(lines)
            for line in lines:
                self._say(line)
        elif lines:
            self._unreported.update(_kind(file) for file in files)

    def end(self) -> None:
        """Report the files that were only counted."""
        rest = ", ".join(f"{self._unreported[kind]:,} {kind}" for kind in _KINDS if self._unreported[kind])
        if rest:
            self._say(f"further files: {rest}; ops.files has them by name")


def said_of(files: Sequence[FileRead]) -> list[str]:
    """A line for each kind of file that was not simply read."""
    lines = []
    for kind, what in _KINDS.items():
        if some := [file for file in files if _kind(file) == kind]:
            sources = ", ".join(sorted({f.source for f in some}))
            new, known = (sum(getattr(f, n) for f in some) for n in ("record_count", "known_count"))
            counts = f" ({new:,} records are new, {known:,} had been read)" if kind == CHANGED else ""
            lines.append(
                f"{sources}: {len(some):,} files {what}, such as {min(f.path for f in some)}{counts}"
            )
    return lines


def _kind(file: FileRead) -> str:
    return EMPTY if file.outcome == READ and not file.record_count else file.outcome
