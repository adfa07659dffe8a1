"""The archive of old records: whole files of bronze.events in a Delta table of its own, on storage of your choice.

    <archive>/bronze/events/month=2026-03/part-….parquet

Any Delta reader reads it. A file's month is that in which its last batch was published.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from conf.tables import BATCHES, BRONZE_EVENTS
from pipelines.errands.errands import ErrandFailed
from pipelines.tables.data_files import batches_in, file_sizes
from pipelines.tables.lake import Lake
from pipelines.tables.snapshot import Snapshot, published
from pipelines.upkeep.delta_log import Pace

MONTH = "month"
ARCHIVED_TO = "stitchlake.archivedTo"  # property of bronze.events: where its records are that are not in it
ARCHIVE_OF = "stitchlake.archiveOf"  # property of the archive: the id of the bronze.events that it belongs to


class ArchiveProblem(ErrandFailed):
    """Records cannot be archived or brought back; the message says what to do."""


@dataclass(frozen=True)
class Move:
    """One file on its way: its path in bronze.events and in the archive. `month`: its partition there."""

    bronze: str
    archive: str
    month: str

    @property
    def partition(self) -> dict[str, str | None]:
        return {MONTH: self.month}


@dataclass(frozen=True)
class Moves:
    """Files on their way into the archive, or with `is_restore` out of it. Plain enough for JSON."""

    folder: str
    is_restore: bool
    files: tuple[Move, ...]

    def as_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def of(cls, found: dict) -> Moves:
        return cls(found["folder"], found["is_restore"], tuple(Move(**m) for m in found["files"]))


# -- what is archived ------------------------------------------------------------------------------------------------


def archived_record_count(snapshot: Snapshot) -> int:
    """How many of the lake's records are not in bronze.events at this snapshot: they are in the archive.

    Every published batch has put its records there, and only archiving takes any away.
    """
    batches = snapshot.arrow(BATCHES, ["kind", "record_count"])
    # A replay's records are corrections, and not in bronze.events.
    counts = batches.filter(pc.not_equal(batches["kind"], "replay"))["record_count"]
    version = snapshot.version(BRONZE_EVENTS)
    here = 0 if version is None else snapshot.lake.open(BRONZE_EVENTS, version).count()
    return max(0, (pc.sum(counts).as_py() or 0) - here)


def archive_folder(lake: Lake) -> str | None:
    """Where the lake's archive is; None if there is none."""
    return lake.open(BRONZE_EVENTS).metadata().configuration.get(ARCHIVED_TO)


def require_all_records(snapshot: Snapshot) -> None:
    """ArchiveProblem when what is to be computed from all records would lack the archived ones."""
    if missing := archived_record_count(snapshot):
        raise ArchiveProblem(
            f"{missing:,} records of bronze.events are archived in {archive_folder(snapshot.lake)}; bring them back "
            f"first: stitchlake upkeep --restore-archive --lake {snapshot.lake.path}"
        )


def archive_path(folder: str) -> Path:
    return Path(folder) / BRONZE_EVENTS.schema / BRONZE_EVENTS.name


def open_archive(lake: Lake, folder: str, *, create: bool = False) -> DeltaTable:
    """The archive's table. ArchiveProblem if it is not there or another lake's."""
    path, bronze = archive_path(folder), lake.open(BRONZE_EVENTS)
    if not (path / "_delta_log").is_dir():
        if not create:
            raise ArchiveProblem(
                f"there is no archive in {folder}; if it is on storage of its own, connect that first"
            )
        columns = [*bronze.schema().fields, Field(MONTH, PrimitiveType("string"))]
        path.mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            str(path),
            Schema(columns),
            partition_by=[MONTH],
            name=f"{BRONZE_EVENTS.full_name} archived",
            configuration={ARCHIVE_OF: str(bronze.metadata().id)},
            raise_if_key_not_exists=False,
        )
    archive = DeltaTable(str(path))
    if archive.metadata().configuration.get(ARCHIVE_OF) != str(bronze.metadata().id):
        raise ArchiveProblem(f"{folder} has the archive of another lake; give a folder of its own")
    return archive


# -- what is to be moved, and the copies of it -----------------------------------------------------------------------


def to_archive(lake: Lake, older_than_days: float, folder: str, now: datetime) -> Moves:
    """The files of bronze.events all of whose batches were published longer ago than that."""
    snapshot = published(lake)
    moves: list[Move] = []
    if snapshot is not None and snapshot.version(BRONZE_EVENTS) is not None:
        before = now.astimezone(UTC) - timedelta(days=older_than_days)
        rows = snapshot.arrow(BATCHES, ["batch_id", "published_at"])
        months = {
            row["batch_id"]: row["published_at"].astimezone(UTC)
            for row in rows.to_pylist()
            if row["published_at"] is not None and row["published_at"] <= before
        }
        old = lake.table_path(BRONZE_EVENTS)
        for path in file_sizes(lake.open(BRONZE_EVENTS, snapshot.version(BRONZE_EVENTS))):
            last = batches_in(old / path, "batch_id")[1]
            if last in months:
                month = f"{months[last]:%Y-%m}"
                moves.append(Move(path, f"{MONTH}={month}/{path}", month))
    return Moves(str(Path(folder).absolute()), False, tuple(sorted(moves, key=lambda m: m.bronze)))


def from_archive(lake: Lake) -> Moves:
    """Everything in the archive. A file comes back under a new name: its old one may be about to be removed."""
    folder = archive_folder(lake)
    if folder is None:
        raise ArchiveProblem("nothing of this lake has been archived")
    archive = open_archive(lake, folder)
    files = pa.table(archive.get_add_actions(flatten=True)).to_pylist()
    return Moves(
        folder,
        True,
        tuple(
            Move(f"restored-{uuid.uuid4()}.parquet", f["path"], f[f"partition.{MONTH}"])
            for f in sorted(files, key=lambda f: f["path"])
        ),
    )


def copy_files(lake: Lake, moves: Moves, pace: Pace) -> Moves:
    """Copy the files to where they are going and read them back; the moves of those that were still there."""
    copied = []
    for move in moves.files:
        source, target = places(lake, moves, move)
        if source.exists():
            _copy(source, target)
            copied.append(move)
        pace()
    return Moves(moves.folder, moves.is_restore, tuple(copied))


def places(lake: Lake, moves: Moves, move: Move) -> tuple[Path, Path]:
    """Where a file lies and where it goes."""
    ends = (lake.table_path(BRONZE_EVENTS) / move.bronze, archive_path(moves.folder) / move.archive)
    return (ends[1], ends[0]) if moves.is_restore else ends


def remove_superfluous_copies(lake: Lake, moves: Moves) -> None:
    """Remove those of the moves' files from the archive's folder that are not in the archive."""
    path = archive_path(moves.folder)
    if (path / "_delta_log").is_dir():
        there = file_sizes(open_archive(lake, moves.folder))
        for move in moves.files:
            if move.archive not in there:
                (path / move.archive).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = _digest(source)
    if not (target.exists() and _digest(target) == digest):
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, partial)
        with partial.open("rb") as f:
            os.fsync(f.fileno())
        if _digest(partial) != digest:
            partial.unlink()
            raise ArchiveProblem(f"{target.parent}: a copy differs from its original; check that storage")
        partial.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> bytes:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "blake2b").digest()
