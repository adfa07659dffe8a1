"""The manifest of a restore point: every file of one published batch. It is written last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from conf.errors import Refusal

POINTS = "restore-points"
_NAME = re.compile(r"(?P<sequence>\d{10})-batch-(?P<batch>\d{10})\.json")
# Of older programs, which named restore points by the time of publication.
_FORMER_NAME = re.compile(r"\d{4}-\d\d-\d\dT[\d.]+Z-batch-(?P<batch>\d{10})\.json")
_DIGEST, _FINGERPRINT, _TABLE = (
    re.compile(pattern) for pattern in (r"[0-9a-f]{64}", r"[0-9a-f]{1,64}", r"[a-z]+\.[a-z_]+")
)


class BackupProblem(Refusal):
    """A backup cannot be taken or used; the message says why and what to do."""


@dataclass(frozen=True)
class StoredFile:
    """One file of the lake: its path in there, and where its bytes are in the backup: under their SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TableVersion:
    """One table of the restore point."""

    version: int
    row_count: int


@dataclass(frozen=True)
class ArchivedRecords:
    """The lake's archive as the batch left it: its folder then, its table, its files by their paths in the folder."""

    folder: str
    table: TableVersion
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Manifest:
    """One published batch. Instants in ISO 8601; `tables` by full name, hot parts included.

    `sequence` numbers the restore points of a backup folder in the order in which they were taken. No clock does that:
    one that was ahead once would make its point the newest for ever. `archive`: None where no record is archived, or
    where its owner keeps the archive safe without a backup.
    """

    batch_id: int
    published_at: str
    created_at: str
    program_version: str
    lake_format: int
    policy_fingerprint: str
    code_fingerprint: str
    key_fingerprint: str
    tables: Mapping[str, TableVersion]
    files: tuple[StoredFile, ...]
    sequence: int = 0
    archive: ArchivedRecords | None = None

    @property
    def name(self) -> str:
        """Tells restore points apart, also of a lake that was restored and went another way."""
        return f"{self.sequence:010d}-batch-{self.batch_id:010d}.json"

    def is_same_batch(self, other: Manifest) -> bool:
        """Are both of one published batch, and not of two that have one number in lakes that went different ways?"""
        mine, theirs = ((m.batch_id, m.published_at, dict(m.tables)) for m in (self, other))
        return mine == theirs

    @property
    def archived_row_count(self) -> int:
        """Rows of bronze.events in the archive."""
        return self.archive.table.row_count if self.archive else 0

    @property
    def row_count(self) -> int:
        """Rows of all tables, archived ones included."""
        return sum(table.row_count for table in self.tables.values()) + self.archived_row_count

    @property
    def all_files(self) -> tuple[StoredFile, ...]:
        """Those of the lake and of its archive."""
        return self.files + (self.archive.files if self.archive else ())

    @property
    def byte_count(self) -> int:
        """Bytes of all files of the restore point."""
        return sum(file.size for file in self.all_files)

    def to_json(self) -> str:
        """The manifest as the text of its file."""
        totals = {
            "row_count": self.row_count,
            "file_count": len(self.all_files),
            "byte_count": self.byte_count,
        }
        return json.dumps({**totals, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of a manifest file."""
        fields = json.loads(text)
        for total in ("row_count", "file_count", "byte_count"):
            fields.pop(total)
        fields["tables"] = {name: TableVersion(**table) for name, table in fields["tables"].items()}
        fields["files"] = tuple(StoredFile(**file) for file in fields["files"])
        if (archive := fields.get("archive")) is not None:
            fields["archive"] = ArchivedRecords(
                archive["folder"],
                TableVersion(**archive["table"]),
                tuple(StoredFile(**file) for file in archive["files"]),
            )
        return cls(**fields)


def restore_points(backup: Path) -> list[Path]:
    """The manifests of a backup folder in the order in which they were taken, the newest at the end."""
    names = (
        path for path in (backup / POINTS).glob("*.json") if _NAME.fullmatch(path.name) or _is_former(path)
    )
    return sorted(names, key=lambda path: (sequence_of(path), path.name))


def sequence_of(point: Path) -> int:
    """The number of a restore point; 0 for those of programs that did not count them, all of which are older."""
    found = _NAME.fullmatch(point.name)
    return int(found["sequence"]) if found else 0


def read_manifest(path: Path) -> Manifest:
    """BackupProblem when the file is not a whole manifest."""
    try:
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        _require_plain(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BackupProblem(
            f"{path} is not a readable restore point of this program's; restore another one with --batch, or use the "
            "version of the program that wrote it"
        ) from None
    return manifest


def chosen(backup: Path, batch_id: int | None) -> Manifest:
    """The restore point of a batch, or the newest. Of several with that number, the one taken last."""
    points = restore_points(backup)
    if not points:
        raise BackupProblem(f"there is no restore point in {backup}; make one: stitchlake backup {backup}")
    if batch_id is None:
        return read_manifest(points[-1])
    found = [p for p in points if _batch_of(p) == batch_id]
    if not found:
        known = sorted({_batch_of(p) for p in points})
        raise BackupProblem(f"{backup} has no restore point of batch {batch_id}; it has {_listed(known)}")
    return read_manifest(found[-1])


def _require_plain(manifest: Manifest) -> None:
    """ValueError when something that becomes a part of a path is not what this program writes there."""
    digests = all(_DIGEST.fullmatch(file.sha256) for file in manifest.all_files)
    if not digests or not _FINGERPRINT.fullmatch(manifest.key_fingerprint):
        raise ValueError("not a hash")
    if not all(_TABLE.fullmatch(name) for name in manifest.tables):
        raise ValueError("not a table")


def _is_former(path: Path) -> bool:
    return _FORMER_NAME.fullmatch(path.name) is not None


def _batch_of(point: Path) -> int:
    return int(point.stem.rpartition("-")[2])


def _listed(batches: list[int]) -> str:
    shown = [str(b) for b in batches]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:3], "…", *shown[-6:]])
