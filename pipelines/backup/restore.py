"""A lake made from a restore point: copied beside its place, proved, then put there by one rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from conf.tables import FORMAT
from pipelines.backup.manifest import BackupProblem, Manifest, chosen
from pipelines.backup.store import KEYS, Store
from pipelines.hashing_key import KeyProblem, fingerprint, key_path, write_key

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Restored:
    """A lake that was made; `has_key`: its hashing key is beside it, so that a stream can go on."""

    manifest: Manifest
    lake: Path
    has_key: bool


def restore(
    backup: Path,
    lake: Path,
    batch_id: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Restored:
    """Make the folder `lake`, which must be empty or not there, the lake as of the newest restore point or a batch's.

    BackupProblem or KeyProblem where that cannot be done. Broken off or refused, there is no lake.
    """
    lake = lake.absolute()
    manifest = chosen(backup, batch_id)
    if manifest.lake_format > FORMAT:
        raise BackupProblem(
            f"the backup's lake is in format {manifest.lake_format}, and this program knows formats up to {FORMAT}; "
            f"install version {manifest.program_version} of the program, or a newer one"
        )
    if lake.exists() and (not lake.is_dir() or any(lake.iterdir())):
        raise BackupProblem(f"{lake} is not empty, and nothing is overwritten; restore to another folder")
    key = _key(backup, lake, manifest)
    partial = lake.with_name(f".{lake.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        store = Store(backup)
        for done, file in enumerate(manifest.files):
            progress(done, len(manifest.files))
            target = partial / file.path
            if ".." in target.parts:
                raise BackupProblem(f"a path of the restore point leads out of the lake: {file.path}")
            store.get(file, target)
        progress(len(manifest.files), len(manifest.files))
        _prove(partial, manifest)
        if key is not None and not key_path(lake).exists():
            write_key(key_path(lake), key)
        partial.rename(lake)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Restored(manifest, lake, key is not None)


def _key(backup: Path, lake: Path, manifest: Manifest) -> bytes | None:
    """The lake's hashing key: from beside the place, or from the backup. KeyProblem if another one is beside it."""
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


def _prove(folder: Path, manifest: Manifest) -> None:
    """Every table opens, at the version that it had and with as many rows."""
    for name, expected in manifest.tables.items():
        try:
            table = DeltaTable(str(folder / name.replace(".", "/")))
            rows = pc.sum(pa.table(table.get_add_actions(flatten=True))["num_records"]).as_py() or 0
        except DeltaError:
            raise BackupProblem(f"{name} of the restore point does not open; restore another one") from None
        if (table.version(), rows) != (expected.version, expected.row_count):
            raise BackupProblem(
                f"{name} of the restore point opens at version {table.version()} with {rows} rows, not at "
                f"{expected.version} with {expected.row_count}; restore another one"
            )
