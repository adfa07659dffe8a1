"""`stitchlake backup` and `restore`: restore points of a lake in a folder elsewhere, and a lake made from one."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from pipelines.apps.cli.numbers import count
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.apps.cli.sql import as_table
from pipelines.lake.hashing_key import key_path
from pipelines.operations.backup.manifest import BackupProblem, Manifest, read_manifest, restore_points
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import back_up
from pipelines.stream.source_folders import require_not_read

_TELL_EVERY_SECONDS = 2.0


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    taking = subparsers.add_parser(
        "backup",
        help="add a restore point of the last published batch to a folder",
        description="Copies what the last published batch consists of, while a stream may run; files that the folder "
        "has already are not copied again. The hashing key is copied only with --with-key; without it the backup "
        "still holds raw identifiers and events, and is to be guarded like the lake.",
    )
    taking.add_argument("backup", type=Path, metavar="DEST", help="folder of the backups, outside the lake")
    taking.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    taking.add_argument(
        "--with-key",
        action="store_true",
        help="also copy the hashing key; whoever has both can look identifiers up",
    )
    taking.add_argument(
        "--without-archive",
        action="store_true",
        help="leave the archived records out; they are safe elsewhere, and a restored lake finds them where they are",
    )
    taking.add_argument(
        "--keep", type=count, metavar="N", help="keep the last N restore points only (default: all)"
    )
    taking.add_argument("--json", action="store_true", help="one JSON object")
    taking.set_defaults(run=run_backup)

    making = subparsers.add_parser(
        "restore",
        help="make a lake from a backup",
        description="Makes DEST_LAKE, which must be empty or not there, the lake as of a restore point. Without "
        "DEST_LAKE, lists the restore points.",
    )
    making.add_argument("backup", type=Path, metavar="BACKUP", help="the folder that `backup` has written")
    making.add_argument("lake", type=Path, nargs="?", metavar="DEST_LAKE", help="where the lake is to be")
    making.add_argument(
        "--batch", type=int, metavar="N", help="the restore point of batch N (default: the newest)"
    )
    making.add_argument(
        "--archive-to",
        type=Path,
        metavar="DIR",
        help="where its archived records go; default: DEST_LAKE.archive",
    )
    making.add_argument("--json", action="store_true", help="one JSON object; of a list, one a line")
    making.set_defaults(run=run_restore)


def run_backup(args: argparse.Namespace) -> int:
    """Run `stitchlake backup`. Returns its exit code."""
    try:
        with reported("backup"):
            require_not_read(args.backup, args.lake)
            taken = back_up(
                args.lake,
                args.backup,
                with_key=args.with_key,
                with_archive=not args.without_archive,
                keep=args.keep,
                progress=_Told("backup"),
            )
    except Exit as e:
        return e.code
    manifest = taken.manifest
    if args.json:
        copied = {
            "copied_file_count": taken.copied_file_count,
            "copied_byte_count": taken.copied_byte_count,
            "forgotten_point_count": taken.forgotten_point_count,
            "has_key": taken.has_key,
            "seconds": round(taken.seconds, 3),
        }
        print(json.dumps(_facts(manifest) | copied))
        return 0
    print(
        f"batch {manifest.batch_id:,} published at {manifest.published_at}: {manifest.row_count:,} rows in "
        f"{len(manifest.all_files):,} files, {manifest.byte_count / 1e6:,.1f} MB; copied {taken.copied_file_count:,} "
        f"files, {taken.copied_byte_count / 1e6:,.1f} MB, in {taken.seconds:.1f} s"
    )
    if not taken.has_key:
        print(
            f"the hashing key (fingerprint {manifest.key_fingerprint}) is not in the backup: keep a copy of "
            f"{key_path(args.lake.absolute())} in a safe place, a restored lake needs it",
            file=sys.stderr,
        )
    holds = (
        "raw identifiers and events, and the key"
        if taken.has_key
        else "raw identifiers and events without it too"
    )
    print(f"the backup holds {holds}: guard {args.backup} like the lake", file=sys.stderr)
    return 0


def run_restore(args: argparse.Namespace) -> int:
    """Run `stitchlake restore`. Returns its exit code."""
    try:
        with reported("restore"):
            if args.lake is None:
                for option, value in (("--batch", args.batch), ("--archive-to", args.archive_to)):
                    if value is not None:
                        raise BadUsage(f"{option} needs DEST_LAKE: say where the lake is to be")
                return _list(args)
            restored = restore(
                args.backup,
                args.lake,
                args.batch,
                progress=_Told("restore"),
                archive_to=args.archive_to,
            )
    except Exit as e:
        return e.code
    manifest = restored.manifest
    if args.json:
        made = {"lake": str(restored.lake), "has_key": restored.has_key}
        archive = None if restored.archive is None else str(restored.archive)
        print(json.dumps(_facts(manifest) | made | {"archive": archive}))
    else:
        print(
            f"{restored.lake} is the lake as of batch {manifest.batch_id:,}, published at {manifest.published_at}: "
            f"{manifest.row_count:,} rows in {len(manifest.tables)} tables"
            + (f", {manifest.archived_row_count:,} of them in {restored.archive}" if restored.archive else "")
        )
    if not restored.has_key:
        print(
            f"the hashing key with fingerprint {manifest.key_fingerprint} is not in the backup; put its file at "
            f"{key_path(restored.lake)} with mode 0600 before a stream continues",
            file=sys.stderr,
        )
    return 0


def _list(args: argparse.Namespace) -> int:
    manifests = [read_manifest(point) for point in restore_points(args.backup)]
    if not manifests:
        raise BackupProblem(
            f"there is no restore point in {args.backup}; make one: stitchlake backup {args.backup}"
        )
    if args.json:
        for manifest in manifests:
            print(json.dumps(_facts(manifest)))
        return 0
    rows = [
        (m.batch_id, m.published_at, m.created_at, m.row_count, round(m.byte_count / 1e6, 1))
        for m in manifests
    ]
    print(as_table(("batch", "published_at", "backed up at", "rows", "MB"), rows))
    return 0


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "batch_id": manifest.batch_id,
        "published_at": manifest.published_at,
        "created_at": manifest.created_at,
        "lake_format": manifest.lake_format,
        "row_count": manifest.row_count,
        "archived_row_count": manifest.archived_row_count,
        "file_count": len(manifest.all_files),
        "byte_count": manifest.byte_count,
        "key_fingerprint": manifest.key_fingerprint,
    }


class _Told:
    """Progress on standard error, every so often."""

    def __init__(self, command: str) -> None:
        self._command, self._at = command, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._at > _TELL_EVERY_SECONDS:
            self._at = time.monotonic()
            print(f"{self._command}: {done:,} of {total:,} files", file=sys.stderr, flush=True)
