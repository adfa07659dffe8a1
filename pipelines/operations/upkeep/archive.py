"""The archive of old records: whole files of bronze.events in a Delta table of its own, on storage of your choice.

    <archive>/bronze/events/month=2026-03/part-….parquet

Any Delta reader reads it. A file's month is that in which its last batch was published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from conf.tables import BATCHES, BRONZE_EVENTS
from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.data_files import batches_in, file_sizes
from pipelines.operations.requests.requests import RequestFailed
from pipelines.operations.upkeep.delta_log import Pace
from pipelines.operations.upkeep.history import published_about
from pipelines.runtime.contained import contained

MONTH = "month"
ARCHIVED_TO = "stitchlake.archivedTo"  # property of bronze.events: where its records are that are not in it
RELOCATED = (
    "_stitchlake/archive.json"  # in a restored lake: the folder that the property names, and where it is now
)
ARCHIVE_OF = "stitchlake.archiveOf"  # property of the archive: the id of the bronze.events that it belongs to


class ArchiveProblem(RequestFailed):
    """Records cannot be archived or brought back; the message says what to do."""


@dataclass(frozen=True)
class Move:
    """One file on its way: its path in bronze.events and in the archive. `month`: its partition there."""

    bronze: str
    archive: str
    month: str

    @property
    def partition(self) -> dict[str, str | None]:
        """The partition values of the file."""
        return {MONTH: self.month}


@dataclass(frozen=True)
class Moves:
    """Files on their way into the archive, or with `is_restore` out of it. Plain enough for JSON."""

    folder: str
    is_restore: bool
    files: tuple[Move, ...]

    def as_dict(self) -> dict:
        """The moves as JSON can carry them."""
        return asdict(self)

    @classmethod
    def of(cls, found: dict) -> Moves:
        """Read what `as_dict` has made."""
        return cls(found["folder"], found["is_restore"], tuple(Move(**m) for m in found["files"]))


# -- what is archived ------------------------------------------------------------------------------------------------


def archived_record_count(snapshot: Snapshot, bronze_version: int | None = None) -> int:
    """How many of the lake's records are not in bronze.events at this snapshot: they are in the archive.

    Every published batch has put its records there, and only archiving takes any away. `bronze_version`: that of
    bronze.events to count in, if not the snapshot's.
    """
    version = snapshot.version(BRONZE_EVENTS) if bronze_version is None else bronze_version
    here = 0 if version is None else snapshot.lake.open(BRONZE_EVENTS, version).count()
    return max(0, BatchRows(snapshot.lake).record_count(snapshot.batch_id) - here)


def archive_folder(lake: Lake, version: int | None = None) -> str | None:
    """Where the lake's archive is, now or as of a version of bronze.events; None if nothing is archived."""
    recorded = lake.open(BRONZE_EVENTS, version).metadata().configuration.get(ARCHIVED_TO)
    path = lake.path / RELOCATED
    try:
        relocated = json.loads(path.read_text(encoding="utf-8"))
        return relocated["now"] if recorded and recorded == relocated["told"] else recorded or None
    except FileNotFoundError:
        return recorded or None
    except (ValueError, KeyError, TypeError):
        raise ArchiveProblem(
            f'{path} is damaged; write into it where the archive is: {{"told": "{recorded}", "now": "FOLDER"}}'
        ) from None


def put_archive_at(lake_path: Path, recorded: str, now: Path) -> None:
    """Let the lake whose tables say that its archive is at `recorded` find it at `now`."""
    path = lake_path / RELOCATED
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"told": recorded, "now": str(now)}), encoding="utf-8")


def require_all_records(snapshot: Snapshot) -> None:
    """ArchiveProblem when what is to be computed from all records would lack the archived ones."""
    if missing := archived_record_count(snapshot):
        raise ArchiveProblem(
            f"{missing:,} records of bronze.events are archived in {archive_folder(snapshot.lake)}; bring them back "
            f"first: stitchlake upkeep --restore-archive --lake {snapshot.lake.path}"
        )


def archive_path(folder: str) -> Path:
    """The folder of bronze.events inside an archive."""
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


def archived_version(lake: Lake, folder: str, record_count: int) -> DeltaTable:
    """The archive as this lake left it: at the newest version with as many records as the lake has archived.

    An archive only grows. One that has grown further was written by a lake that this one is a copy of, or that is a
    copy of this one. ArchiveProblem when it never had as many.
    """
    archive = open_archive(lake, folder)
    found = archive.count()
    while archive.count() > record_count and archive.version():
        archive = DeltaTable(str(archive_path(folder)), version=archive.version() - 1)
    if archive.count() != record_count:
        raise ArchiveProblem(
            f"the archive in {folder} has {found:,} records, and {record_count:,} of this lake are archived; put the "
            "archive's own files back"
        )
    return archive


def require_own_archive(lake: Lake, folder: str, record_count: int) -> None:
    """ArchiveProblem unless the archive in `folder`, if there is one, has just this lake's archived records."""
    if (archive_path(folder) / "_delta_log").is_dir() and open_archive(lake, folder).count() != record_count:
        raise ArchiveProblem(
            f"the archive in {folder} has other records than this lake has archived: they were brought back, or a copy "
            "of the lake archives there; give a folder of its own"
        )


# -- what is to be moved, and the copies of it -----------------------------------------------------------------------


def to_archive(lake: Lake, older_than_days: float, folder: str, now: datetime) -> Moves:
    """The files of bronze.events all of whose batches were published longer ago than that."""
    snapshot = published(lake)
    moves: list[Move] = []
    if snapshot is not None and snapshot.version(BRONZE_EVENTS) is not None:
        before = now.astimezone(UTC) - timedelta(days=older_than_days)
        rows = snapshot.arrow(BATCHES, ["batch_id", "published_at"]).sort_by("batch_id")
        times = (datetime.fromtimestamp(at / 1e6, UTC) for at in published_about(rows["published_at"], now))
        published_on = zip(rows["batch_id"].to_pylist(), times, strict=True)
        months = {batch_id: at for batch_id, at in published_on if at <= before}
        old = lake.table_path(BRONZE_EVENTS)
        for path in file_sizes(lake.open(BRONZE_EVENTS, snapshot.version(BRONZE_EVENTS))):
            last = batches_in(old / path, "batch_id")[1]
            if last in months:
                month = f"{months[last]:%Y-%m}"
                moves.append(Move(path, f"{MONTH}={month}/{path}", month))
    return Moves(str(Path(folder).absolute()), False, tuple(sorted(moves, key=lambda m: m.bronze)))


def from_archive(lake: Lake) -> Moves:
    """Everything that is archived of this lake. A file comes back under a new name: its old one may be about to be
    removed."""
    folder, snapshot = archive_folder(lake), published(lake)
    count = archived_record_count(snapshot) if snapshot else 0
    if ARCHIVED_TO not in lake.open(BRONZE_EVENTS).metadata().configuration:
        raise ArchiveProblem(
            f"nothing of the lake {lake.path} has been archived, so there is nothing to bring back"
        )
    if folder is None or not count:
        return Moves("", True, ())
    archive = archived_version(lake, folder, count)
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
        elif moves.is_restore:  # all or none: what came back in part could not be told from what did not
            raise ArchiveProblem(f"{source} is missing from the archive; put it back")
        pace()
    return Moves(moves.folder, moves.is_restore, tuple(copied))


def places(lake: Lake, moves: Moves, move: Move) -> tuple[Path, Path]:
    """Where a file lies and where it goes. LeadsOutside when that is in neither of the two tables' folders."""
    ends = (
        contained(lake.table_path(BRONZE_EVENTS), move.bronze),
        contained(archive_path(moves.folder), move.archive),
    )
    return (ends[1], ends[0]) if moves.is_restore else ends


def remove_superfluous_copies(lake: Lake, moves: Moves) -> None:
    """Remove what was copied into the archive's folder and stayed in bronze.events after all. Nothing that is brought
    back is removed from the archive: until a backup has been taken, its files are the only other copy."""
    if not moves.is_restore and (archive_path(moves.folder) / "_delta_log").is_dir():
        there = file_sizes(open_archive(lake, moves.folder))
        for move in moves.files:
            if move.archive not in there:
                places(lake, moves, move)[1].unlink(missing_ok=True)


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
