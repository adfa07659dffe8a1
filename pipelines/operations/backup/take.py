"""Takes a backup of one published batch. It only reads the lake, so a stream may run.

    ops.batches, last row ──▶ the version of every table ──▶ data files and log up to it ──▶ objects ──▶ manifest
                 ▲                                             │ gone meanwhile: compacted and vacuumed
                 └──────────── a newer batch, up to ATTEMPTS ──┘

What is not in a backup: Spark's checkpoint, the intent and what broken attempts have written. A checkpoint may be ahead
of the batch, and going on from it would skip records. Without one the restored lake's stream begins a new checkpoint,
as it does after losing one: files are known by their origin in bronze.events, topics are read from the offsets of
record in ops.batches, and a new application id is never taken for a replay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, BRONZE_EVENTS, OUTSIDE_BATCHES
from pipelines.lake.hashing_key import load_key, write_key
from pipelines.lake.lake import Lake, existing_lake, with_hot_parts
from pipelines.lake.lock import LakeLocked, lake_lock
from pipelines.lake.snapshot import Snapshot, snapshot_in
from pipelines.operations.backup.manifest import (
    ArchivedRecords,
    BackupProblem,
    Manifest,
    StoredFile,
    TableVersion,
    read_manifest,
    restore_points,
    sequence_of,
)
from pipelines.operations.backup.store import KEYS, Store
from pipelines.operations.backup.table_files import LOG, Vanished, files_of
from pipelines.operations.decisions.inbox import INBOX
from pipelines.operations.upkeep.archive import (
    ArchiveProblem,
    archive_folder,
    archive_path,
    archived_record_count,
    archived_version,
)
from pipelines.runtime.contained import LeadsOutside
from pipelines.runtime.fingerprint import program_version

ATTEMPTS = 3
_RETRY_SECONDS = 1.0

Progress = Callable[[int, int], None]  # files done, files in all


@dataclass(frozen=True)
class Taken:
    """A backup that was taken, and what it cost."""

    manifest: Manifest
    copied_file_count: int
    copied_byte_count: int
    forgotten_point_count: int
    has_key: bool
    seconds: float


def back_up(
    lake_path: Path,
    backup: Path,
    *,
    with_key: bool = False,
    with_archive: bool = True,
    keep: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Taken:
    """Add a restore point of the last published batch to the folder `backup`; what is there already is not copied.

    `with_archive`: the records that upkeep has archived belong to the lake, and so to the backup. `keep`: how many
    restore points stay, the last ones taken, and with them the bytes that they need. BackupProblem when nothing has
    been published, when files go faster than they are copied, or when a file that the batch refers to is lost.
    """
    started = time.monotonic()
    lake, backup = existing_lake(lake_path), backup.absolute()
    if _is_inside(backup, lake.path) or _is_inside(lake.path, backup):
        raise BackupProblem(
            f"{backup} and the lake {lake.path} must not lie in each other; choose another folder"
        )
    try:
        with lake_lock(backup):
            store = Store(backup)
            store.begin()
            points = restore_points(backup)
            last = _readable(points[-1]) if points else None
            manifest = _copied(lake, store, last, with_archive, progress)
            newest = max(map(sequence_of, points), default=0)
            is_again = last is not None and last.sequence > 0 and last.is_same_batch(manifest)
            manifest = replace(manifest, sequence=newest if is_again else newest + 1)
            key = backup / KEYS / f"{manifest.key_fingerprint}.key"
            if with_key and not key.exists():
                key.parent.mkdir(exist_ok=True)
                write_key(key, load_key(lake.path, True, manifest.key_fingerprint))
            store.write_point(manifest.name, manifest.to_json())
            forgotten = _forget_all_but(keep, store) if keep else 0
    except LeadsOutside as e:
        raise BackupProblem(
            f"a table of the lake refers to a file that is not its own, and that is not copied: {e}"
        ) from None
    except LakeLocked:
        raise BackupProblem(
            f"another backup is being written to {backup}; try again when it has ended"
        ) from None
    return Taken(
        manifest,
        store.copied_files,
        store.copied_bytes,
        forgotten,
        key.exists(),
        time.monotonic() - started,
    )


def _readable(point: Path) -> Manifest | None:
    """A restore point, if it can be read: a damaged one does not hinder the next one."""
    try:
        return read_manifest(point)
    except BackupProblem:
        return None


def _copied(
    lake: Lake, store: Store, last: Manifest | None, with_archive: bool, progress: Progress
) -> Manifest:
    """Everything of the last published batch is in the store; of a newer one when files were gone meanwhile."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_RETRY_SECONDS)
        try:
            return _of_last_batch(lake, store, last, with_archive, progress)
        except (Vanished, FileNotFoundError, DeltaError) as e:
            gone = e
    raise BackupProblem(
        f"a file of the last published batch is not there: {_said(gone)}. If tables are vacuumed while backups are "
        "taken, keep removed files for longer than a backup takes; if not, the lake is damaged: restore an earlier "
        "backup, or make the lake anew from its sources"
    )


def _of_last_batch(
    lake: Lake, store: Store, last: Manifest | None, with_archive: bool, progress: Progress
) -> Manifest:
    # These first: what they say of a batch is then never ahead of the tables.
    beside = [(spec, lake.open(spec)) for spec in OUTSIDE_BATCHES if lake.has(spec)]
    lake_format = lake.format()
    batches = lake.open(BATCHES)
    snapshot = snapshot_in(lake, batches)
    if snapshot is None:
        raise BackupProblem(f"nothing has been published in {lake.path} yet, so there is nothing to back up")
    tables: dict[str, TableVersion] = {}
    paths: list[str] = []
    for spec, table in [*beside, *_tables(lake, snapshot, batches)]:
        found = files_of(lake.table_path(spec), table)
        tables[spec.full_name] = TableVersion(found.version, found.row_count)
        paths += [f"{spec.path}/{name}" for name in (*found.data, *(f"{LOG}/{name}" for name in found.log))]
    paths += [str(file.relative_to(lake.path)) for file in sorted((lake.path / INBOX).glob("[!.]*.json"))]
    files = _stored(store, lake.path, paths, last.files if last else (), progress)
    row = snapshot.row
    return Manifest(
        batch_id=snapshot.batch_id,
        published_at=_iso(row["published_at"]),
        created_at=_iso(datetime.now(UTC)),
        program_version=program_version(),
        lake_format=lake_format,
        policy_fingerprint=row["policy_fingerprint"],
        code_fingerprint=row["code_fingerprint"],
        key_fingerprint=row["key_fingerprint"],
        tables=tables,
        files=files,
        archive=_archive(lake, snapshot, store, last, progress) if with_archive else None,
    )


def _stored(
    store: Store, folder: Path, paths: list[str], known: Iterable[StoredFile], progress: Progress
) -> tuple[StoredFile, ...]:
    """The files `paths` of `folder`, all in the store. `known`: files of an earlier restore point."""
    earlier = {file.path: file for file in known if _is_data(file.path)}
    files = []
    for done, path in enumerate(paths):
        progress(done, len(paths))
        there = earlier.get(path)
        files.append(there if there and store.has(there) else store.put(folder / path, path))
    progress(len(paths), len(paths))
    return tuple(files)


def _archive(
    lake: Lake, snapshot: Snapshot, store: Store, last: Manifest | None, progress: Progress
) -> ArchivedRecords | None:
    """The archived records as the batch left them. BackupProblem when they are nowhere to be found."""
    count = archived_record_count(snapshot)
    folder = archive_folder(lake, snapshot.version(BRONZE_EVENTS)) if count else None
    if folder is None:
        return None
    earlier = last.archive if last else None
    try:
        table = archived_version(lake, folder, count)
    except ArchiveProblem as e:
        if earlier and earlier.table.row_count == count and all(map(store.has, earlier.files)):
            return earlier  # on storage that is not connected, and in the backup already
        raise BackupProblem(
            f"the archived records cannot be copied: {e}; --without-archive makes a restore point that lacks them"
        ) from None
    found = files_of(archive_path(folder), table)
    inside = archive_path(".").as_posix()
    paths = [f"{inside}/{name}" for name in (*found.data, *(f"{LOG}/{name}" for name in found.log))]
    files = _stored(store, Path(folder), paths, earlier.files if earlier else (), progress)
    return ArchivedRecords(folder, TableVersion(found.version, found.row_count), files)


def _tables(lake: Lake, snapshot: Snapshot, batches: DeltaTable) -> Iterator[tuple[TableSpec, DeltaTable]]:
    """Every table at the version that the batch recorded; ops.batches at that in which the batch is the last row."""
    for spec in with_hot_parts(ALL):
        version = snapshot.version(spec)
        if spec is BATCHES:
            yield spec, batches
        elif (
            version is not None
        ):  # a table that was declared after the batch is made anew in the restored lake
            yield spec, lake.open(spec, version)


def _is_data(path: str) -> bool:
    """Data files have names of their own; commits are numbered, and another lake's have the same names."""
    return path.endswith(".parquet") and f"/{LOG}/" not in path


def _forget_all_but(keep: int, store: Store) -> int:
    points = restore_points(store.backup)
    for point in points[:-keep]:
        point.unlink()
    store.forget_objects({f.sha256 for point in points[-keep:] for f in read_manifest(point).all_files})
    return len(points[:-keep])


def _is_inside(folder: Path, other: Path) -> bool:
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(other))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _said(gone: Exception) -> str:
    if isinstance(gone, FileNotFoundError):
        return str(gone.filename)
    return next(iter(str(gone).splitlines()), type(gone).__name__)
