"""Restores a lake: copies it next to its place, checks it, and renames it into place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from conf.tables import FORMAT
from pipelines.lake.hashing_key import KeyProblem, fingerprint, key_path, write_key
from pipelines.operations.backup.manifest import BackupProblem, Manifest, StoredFile, TableVersion, chosen
from pipelines.operations.backup.store import KEYS, Store
from pipelines.operations.backup.table_files import files_of
from pipelines.operations.upkeep.archive import archive_path, put_archive_at
from pipelines.runtime.contained import LeadsOutside, contained

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Restored:
    """A lake that was made; `has_key`: its hashing key is there, so that a stream can continue.

    `archive`: the folder of its archived records, if there are any in the restore point."""

    manifest: Manifest
    lake: Path
    has_key: bool
    archive: Path | None


def restore(
    backup: Path,
    lake: Path,
    batch_id: int | None = None,
    progress: Progress = lambda done, total: None,
    archive_to: Path | None = None,
) -> Restored:
    """Make the folder `lake`, which must be empty or not there, the lake as of the newest restore point or a batch's.

    Its archived records go to the folder `archive_to`, by default `<lake>.archive`: an archive of its own, because the
    one that the backup was taken from may go on belonging to another lake.

    BackupProblem or KeyProblem where that cannot be done. Broken off or refused, there is no lake.
    """
    lake = lake.absolute()
    archive = (archive_to or lake.with_name(f"{lake.name}.archive")).absolute()
    manifest = chosen(backup, batch_id)
    if manifest.lake_format > FORMAT:
        raise BackupProblem(
            f"the backup's lake is in format {manifest.lake_format}, and this program knows formats up to {FORMAT}; "
            f"install version {manifest.program_version} of the program, or a newer one"
        )
    _require_empty(lake)
    if manifest.archive is not None:
        _require_empty(archive)
    key = _key(backup, lake, manifest)
    try:
        _begin(lake)
        files = [(_partial(lake), file) for file in manifest.files]
        if manifest.archive is not None:
            _begin(archive)
            files += [(_partial(archive), file) for file in manifest.archive.files]
        store = Store(backup)
        for done, (folder, file) in enumerate(files):
            progress(done, len(files))
            store.get(file, contained(folder, file.path))
        progress(len(files), len(files))
        for name, expected in manifest.tables.items():
            _prove(name, _partial(lake), name.replace(".", "/"), expected, manifest.files)
        if manifest.archive is not None:
            path = archive_path(".").as_posix()
            _prove("the archive", _partial(archive), path, manifest.archive.table, manifest.archive.files)
            put_archive_at(_partial(lake), manifest.archive.folder, archive)
        if key is not None and not key_path(lake).exists():
            write_key(key_path(lake), key)
        if manifest.archive is not None:  # first, so that a lake that is there is whole
            _partial(archive).rename(archive)
        _partial(lake).rename(lake)
    except LeadsOutside as e:
        raise BackupProblem(
            f"the restore point is not one of this program's: {e}; restore another one"
        ) from None
    finally:
        for folder in (lake, archive):
            shutil.rmtree(_partial(folder), ignore_errors=True)
    return Restored(manifest, lake, key is not None, archive if manifest.archive else None)


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupProblem(f"{folder} is not empty, and nothing is overwritten; restore to another folder")


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.restoring")


def _begin(folder: Path) -> None:
    """Make the new, empty folder that becomes `folder`. FileExistsError where a link is in its place."""
    shutil.rmtree(_partial(folder), ignore_errors=True)
    _partial(folder).mkdir(parents=True)


def _key(backup: Path, lake: Path, manifest: Manifest) -> bytes | None:
    """The lake's hashing key: from next to the lake's place, or from the backup. KeyProblem if another key is there."""
    for place in (key_path(lake), backup / KEYS / f"{manifest.key_fingerprint}.key"):
        if not place.exists():
            continue
        key = place.read_bytes()
        if fingerprint(key) != manifest.key_fingerprint:
            raise KeyProblem(
                f"the key file {place} is not the one the backed-up lake was made with; move it away, or restore to "
                "another folder"
            )
        return key
    return None


def _prove(
    name: str, folder: Path, path: str, expected: TableVersion, copied: tuple[StoredFile, ...]
) -> None:
    """The table at `path` in `folder` opens at the version that it had, with as many rows, all in files of its own."""
    try:
        found = files_of(folder / path, DeltaTable(str(folder / path)))
    except DeltaError:
        raise BackupProblem(f"{name} of the restore point does not open; restore another one") from None
    if (found.version, found.row_count) != (expected.version, expected.row_count):
        raise BackupProblem(
            f"{name} of the restore point opens at version {found.version} with {found.row_count} rows, not at "
            f"{expected.version} with {expected.row_count}; restore another one"
        )
    if not {f"{path}/{file}" for file in found.data} <= {file.path for file in copied}:
        raise BackupProblem(f"{name} of the restore point lacks files; restore another one")
