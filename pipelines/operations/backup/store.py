"""The files of a backup, each named by its SHA-256. A file that is there is not copied again, and can be verified.

DEST/restore-points/<sequence>-batch-<n>.json       what a lake consists of
DEST/objects/<first two>/<sha256>                   the bytes
DEST/keys/<fingerprint>.key                         hashing keys, only if asked for
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pipelines.operations.backup.manifest import POINTS, BackupProblem, StoredFile
from pipelines.runtime.contained import contained

OBJECTS, KEYS, PARTIAL = "objects", "keys", "partial"
_AT_ONCE = 2**20


class Store:
    """The object folder of a backup. One process writes it; an object that is there is whole."""

    def __init__(self, backup: Path) -> None:
        self.backup = backup
        self.copied_files = self.copied_bytes = 0

    def begin(self) -> None:
        """Make the folders and clear what a broken-off backup has left."""
        shutil.rmtree(self.backup / PARTIAL, ignore_errors=True)
        for folder in (OBJECTS, PARTIAL, POINTS):
            (self.backup / folder).mkdir(parents=True, exist_ok=True)

    def put(self, file: Path, path: str) -> StoredFile:
        """Copy a file in, durably, unless its bytes are there. FileNotFoundError when it is gone."""
        with file.open("rb") as source:
            stored = StoredFile(path, *_copy(source))
            if self.has(stored):
                return stored
            source.seek(0)
            partial = self.backup / PARTIAL / "file"
            with partial.open("wb") as sink:
                stored = StoredFile(path, *_copy(source, sink))
        place = self.place(stored)
        place.parent.mkdir(exist_ok=True)
        partial.rename(place)
        self.copied_files += 1
        self.copied_bytes += stored.size
        return stored

    def has(self, stored: StoredFile) -> bool:
        """Whether the backup has the file, in its full size."""
        try:
            return self.place(stored).stat().st_size == stored.size
        except FileNotFoundError:
            return False

    def get(self, stored: StoredFile, target: Path) -> None:
        """Copy a file out. BackupProblem when its bytes are not those that were put in."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.place(stored).open("rb") as source, target.open("wb") as sink:
                size, digest = _copy(source, sink)
        except FileNotFoundError:
            raise BackupProblem(self._damaged(stored, "is missing")) from None
        if (size, digest) != (stored.size, stored.sha256):
            raise BackupProblem(self._damaged(stored, "has other bytes than were put there"))

    def place(self, stored: StoredFile) -> Path:
        """Where the backup keeps the file."""
        return contained(self.backup / OBJECTS, f"{stored.sha256[:2]}/{stored.sha256}")

    def write_point(self, name: str, text: str) -> None:
        """Put a restore point on record. All of its objects are durable by now."""
        partial = self.backup / PARTIAL / name
        with partial.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        partial.rename(self.backup / POINTS / name)

    def forget_objects(self, kept: Iterable[str]) -> int:
        """Remove every object whose SHA-256 is not in `kept`; how many."""
        known, count = set(kept), 0
        for file in (self.backup / OBJECTS).glob("*/*"):
            if file.name not in known:
                file.unlink()
                count += 1
        return count

    def _damaged(self, stored: StoredFile, how: str) -> str:
        return (
            f"the backup is damaged: {self.place(stored)}, which is {stored.path} of the lake, {how}; restore another "
            "batch with --batch, or another copy of the backup"
        )


def _copy(source: BinaryIO, sink: BinaryIO | None = None) -> tuple[int, str]:
    """Size and SHA-256 of what `source` holds, which is on disk in `sink` then."""
    size, digest = 0, hashlib.sha256()
    while part := source.read(_AT_ONCE):
        digest.update(part)
        size += len(part)
        if sink is not None:
            sink.write(part)
    if sink is not None:
        sink.flush()
        os.fsync(sink.fileno())
    return size, digest.hexdigest()
