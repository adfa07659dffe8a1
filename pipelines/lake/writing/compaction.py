"""Compaction: folds hot parts into their bases, and joins small files into larger ones.

It needs no transaction ids. Every step reads what is done already and does the rest, so it may be interrupted anywhere
and repeated with any later batch:

    base ∪ newest of hot        before: base k@3        hot k@5
                                folded: base k@5        hot k@5     (the same row twice: the hot one counts)
                                after:  base k@5        hot
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from conf.table_spec import SpecError, TableSpec
from conf.tables import BRONZE_EVENTS
from pipelines.lake.lake import Lake
from pipelines.lake.writing.base_rewrite import ROWS_PER_FILE
from pipelines.lake.writing.data_files import (
    add_action,
    exchange,
    file_sizes,
    remove_files,
    row_groups,
    write_files,
)
from pipelines.lake.writing.delta_rs_writer import AFTER_COMMIT
from pipelines.lake.writing.writer import TableWriter

# Every run takes up the last file again, so a larger target rewrites the same rows more often.
TARGET_FILE_BYTES = 32 * 2**20
FROM_FILES = 32
# While files are on their way between bronze.events and its archive (pipelines/operations/upkeep/moving.py), they stay
# what they are: a move that was broken off is completed by their names.
MOVING = "_stitchlake/moving.json"


@dataclass(frozen=True)
class Compacted:
    """The versions of both parts afterwards, to be published together."""

    base_version: int
    hot_version: int


def compact_hot(lake: Lake, spec: TableSpec, upto_batch_id: int, writer: TableWriter) -> Compacted:
    """Fold the hot rows up to and including a published batch into the base, then remove them from the hot part.

    The order matters: hot rows go only when the base has them, so a reader sees the same rows at every moment.
    """
    base_version = fold_hot(lake, spec, upto_batch_id, writer)
    return Compacted(base_version, forget_folded(lake, spec, upto_batch_id, writer))


def fold_hot(lake: Lake, spec: TableSpec, upto_batch_id: int, writer: TableWriter) -> int:
    """The first half of `compact_hot`; the base's version. Later batches may write hot rows meanwhile."""
    if spec.write != "upsert":
        raise SpecError(f"{spec.full_name} is not upserted and has no hot part")
    return writer.fold(spec, upto_batch_id) if lake.open(spec.hot).count() else lake.version(spec)


def forget_folded(lake: Lake, spec: TableSpec, upto_batch_id: int, writer: TableWriter) -> int:
    """The second half, where no batch is writing; the hot part's version."""
    is_empty = lake.open(spec.hot).count() == 0
    return lake.version(spec.hot) if is_empty else writer.forget_hot(spec, upto_batch_id)


def compact_files(
    lake: Lake, spec: TableSpec, from_files: int | None = None, target_bytes: int | None = None
) -> int:
    """Join small files of a table once there are `from_files` of them (FROM_FILES); the table's version afterwards.

    Not for hot parts: their files hold one batch each, so that forgetting a batch is forgetting files. delta-rs's own
    OPTIMIZE joins neighbours in the log only: a small file between two large ones would stay small for ever.
    """
    if spec.is_hot:
        raise SpecError(f"{spec.full_name} is a hot part; compact_hot empties it")
    from_files = FROM_FILES if from_files is None else from_files
    table = lake.open(spec)
    sizes = file_sizes(table)
    is_moving = spec is BRONZE_EVENTS and (lake.path / MOVING).exists()
    if len(sizes) < from_files or is_moving:
        return table.version()
    target = target_bytes or _target_bytes(spec, table, sum(sizes.values()))
    bins = _bins(table, sizes, target, from_files)
    if not bins:
        return table.version()
    dataset = table.to_pyarrow_dataset()
    fragments = {unquote(Path(f.path).name): f for f in dataset.get_fragments()}
    folder, written = lake.table_path(spec), []
    try:
        for joined in bins:
            parts = (
                part
                for path in joined
                for part in fragments[unquote(path)].to_batches(
                    schema=dataset.schema, columns=list(spec.names), use_threads=False
                )
            )
            written += write_files(folder, spec, row_groups(parts))
        exchange(
            table,
            [add_action(spec, file, False) for file in written],
            {path: sizes[path] for joined in bins for path in joined},
            data_change=False,
            after_commit=AFTER_COMMIT,
        )
    except BaseException:
        remove_files(written)
        raise
    return lake.version(spec)


def file_bound(byte_count: int, target_bytes: int = TARGET_FILE_BYTES, from_files: int = FROM_FILES) -> int:
    """How many files a table of that size has at most after its files were joined: no more than `from_files` small
    ones, and the others at least half the target each."""
    return from_files + ceil(2 * byte_count / target_bytes)


def _target_bytes(spec: TableSpec, table: DeltaTable, byte_count: int) -> int:
    """Upserted rows are rewritten file by file, so their files are cut by rows; a small row makes a small file."""
    if spec.write != "upsert":
        return TARGET_FILE_BYTES
    rows = table.count()
    return (
        min(TARGET_FILE_BYTES, max(1, ceil(byte_count / rows * ROWS_PER_FILE))) if rows else TARGET_FILE_BYTES
    )


def _bins(table: DeltaTable, sizes: dict[str, int], target: int, from_files: int) -> list[list[str]]:
    """Small files in the order of their age, in groups that make a file of about the target each."""
    ages = {f["path"]: f["modification_time"] for f in pa.table(table.get_add_actions()).to_pylist()}
    small = sorted((path for path, size in sizes.items() if size < target // 2), key=lambda p: (ages[p], p))
    if len(small) < from_files:
        return []
    bins: list[list[str]] = [[]]
    filled = 0
    for path in small:
        if filled + sizes[path] > target and bins[-1]:
            bins.append([])
            filled = 0
        bins[-1].append(path)
        filled += sizes[path]
    return [paths for paths in bins if len(paths) > 1]
