"""Let files change sides between bronze.events and its archive, so that no record is lost or there twice.

    copied and read back ─▶ on record ─▶ in the new table ─▶ out of bronze ─▶ off the record
                            moving.json   (commit)            (commit)

Nothing is taken out of the archive: a lake that has its records back forgets it, and its owner removes it.

Two tables cannot be committed together. Broken off in between, the record says which files; the next upkeep completes
the move before it does anything else, and until then no file of bronze.events is joined with others.
"""

from __future__ import annotations

import json

from deltalake import DeltaTable

from conf.tables import BRONZE_EVENTS
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.writing.compaction import MOVING
from pipelines.lake.writing.data_files import add_action, exchange, file_sizes
from pipelines.lake.writing.delta_rs_writer import AFTER_COMMIT
from pipelines.operations.upkeep.archive import (
    ARCHIVED_TO,
    MONTH,
    ArchiveProblem,
    Moves,
    archive_folder,
    archived_record_count,
    open_archive,
    places,
    require_own_archive,
)
from pipelines.runtime.durable_file import write_durably


def complete_broken_off(lake: Lake) -> Moves | None:
    """Bring a move to its end that was broken off; None if there was none. For the holder of the lake's lock."""
    try:
        moves = Moves.of(json.loads((lake.path / MOVING).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ArchiveProblem(
            f"{lake.path / MOVING} is damaged, so nobody knows which files were on their way; put it back, or restore "
            "the lake from a backup"
        ) from None
    _change_sides(lake, moves)
    (lake.path / MOVING).unlink()
    return moves


def change_sides(lake: Lake, moves: Moves) -> Moves:
    """Commit the moves of copied files, for the holder of the lake's lock; those that were made.

    A file that has been joined with others since it was copied stays where it is.
    """
    archive = open_archive(lake, moves.folder, create=not moves.is_restore)
    there = file_sizes(archive) if moves.is_restore else file_sizes(lake.open(BRONZE_EVENTS))
    made = tuple(
        m
        for m in moves.files
        if (m.archive if moves.is_restore else m.bronze) in there and places(lake, moves, m)[1].exists()
    )
    if moves.is_restore and len(made) < len(moves.files):
        raise ArchiveProblem("files of the archive have gone while they were brought back; try again")
    moves = Moves(moves.folder, moves.is_restore, made)
    if not made:
        return moves
    if not moves.is_restore:
        _let_archive_be_in(lake, moves.folder)
    _record(lake, moves)
    _change_sides(lake, moves)
    (lake.path / MOVING).unlink()
    return moves


def _let_archive_be_in(lake: Lake, folder: str) -> None:
    """ArchiveProblem where records are archived elsewhere, or records of others are there."""
    earlier, snapshot = archive_folder(lake), published(lake)
    count = archived_record_count(snapshot, lake.version(BRONZE_EVENTS)) if snapshot else 0
    if earlier != folder and count:
        raise ArchiveProblem(f"this lake's archive is in {earlier}; give that folder, or restore it first")
    require_own_archive(lake, folder, count)
    if earlier != folder:
        bronze = lake.open(BRONZE_EVENTS)
        bronze.alter.set_table_properties({ARCHIVED_TO: folder}, raise_if_not_exists=False)


def _change_sides(lake: Lake, moves: Moves) -> None:
    bronze = lake.open(BRONZE_EVENTS)
    if moves.is_restore:
        _into_bronze(lake, bronze, moves)
        lake.open(BRONZE_EVENTS).alter.set_table_properties({ARCHIVED_TO: ""}, raise_if_not_exists=False)
    else:
        _into_archive(lake, open_archive(lake, moves.folder), moves)
        gone = {m.bronze: size for m in moves.files if (size := file_sizes(bronze).get(m.bronze)) is not None}
        if gone:
            exchange(bronze, [], gone, data_change=True, after_commit=AFTER_COMMIT)


def _into_bronze(lake: Lake, bronze: DeltaTable, moves: Moves) -> None:
    there = file_sizes(bronze)
    new = [m for m in moves.files if m.bronze not in there]
    if new:
        folder = lake.table_path(BRONZE_EVENTS)
        added = [add_action(BRONZE_EVENTS, folder / m.bronze, True) for m in new]
        exchange(bronze, added, {}, data_change=True, after_commit=AFTER_COMMIT)


def _into_archive(lake: Lake, archive: DeltaTable, moves: Moves) -> None:
    there = file_sizes(archive)
    new = [m for m in moves.files if m.archive not in there]
    if new:
        added = [
            add_action(BRONZE_EVENTS, places(lake, moves, m)[1], True, path=m.archive, partition=m.partition)
            for m in new
        ]
        exchange(archive, added, {}, data_change=True, after_commit=AFTER_COMMIT, partition_by=(MONTH,))


def _record(lake: Lake, moves: Moves) -> None:
    path = lake.path / MOVING
    write_durably(path, json.dumps(moves.as_dict()))
