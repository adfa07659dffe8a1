"""A restore point: what one published batch consists of, file by file. Written last, so without it there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

POINTS = "restore-points"


class BackupProblem(RuntimeError):
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
class Manifest:
    """One published batch. Instants in ISO 8601; `tables` by full name, hot parts included."""

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

    @property
    def name(self) -> str:
        """Tells restore points apart, also of a lake that was restored and went another way: by time, then batch."""
        return f"{self.published_at.replace(':', '')}-batch-{self.batch_id:010d}.json"

    @property
    def row_count(self) -> int:
        return sum(table.row_count for table in self.tables.values())

    @property
    def byte_count(self) -> int:
        return sum(file.size for file in self.files)

    def to_json(self) -> str:
        totals = {"row_count": self.row_count, "file_count": len(self.files), "byte_count": self.byte_count}
        return json.dumps({**totals, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        said = json.loads(text)
        for total in ("row_count", "file_count", "byte_count"):
            said.pop(total)
        said["tables"] = {name: TableVersion(**table) for name, table in said["tables"].items()}
        said["files"] = tuple(StoredFile(**file) for file in said["files"])
        return cls(**said)


def restore_points(backup: Path) -> list[Path]:
    """The manifests of a backup folder, the one published last at the end."""
    return sorted((backup / POINTS).glob("*.json"))


def read_manifest(path: Path) -> Manifest:
    """BackupProblem when the file is not a whole manifest."""
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupProblem(
            f"{path} is not a readable restore point of this program's; restore another one with --batch, or use the "
            "version of the program that wrote it"
        ) from None


def chosen(backup: Path, batch_id: int | None) -> Manifest:
    """The restore point of a batch, or the newest. Of several with that number, the one published last."""
    points = restore_points(backup)
    if not points:
        raise BackupProblem(f"there is no restore point in {backup}; make one: stitchlake backup {backup}")
    if batch_id is None:
        return read_manifest(points[-1])
    found = [p for p in points if p.name.endswith(f"-batch-{batch_id:010d}.json")]
    if not found:
        known = sorted({int(p.stem.rpartition("-")[2]) for p in points})
        raise BackupProblem(f"{backup} has no restore point of batch {batch_id}; it has {_listed(known)}")
    return read_manifest(found[-1])


def _listed(batches: list[int]) -> str:
    shown = [str(b) for b in batches]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:3], "…", *shown[-6:]])
