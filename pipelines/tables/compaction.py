"""Compaction: hot parts into their bases, and small files into larger ones.

No transaction ids here. Every step looks at what is there and does the rest, so it may be interrupted anywhere and
repeated with any later batch:

    base ∪ newest of hot        before: base k@3        hot k@5
                                folded: base k@5        hot k@5     (the same row twice: the hot one counts)
                                after:  base k@5        hot
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.table_spec import SpecError, TableSpec
from pipelines.tables.lake import Lake
from pipelines.tables.writer import TableWriter

# Every run takes up the last file again, so a larger target rewrites the same rows more often.
TARGET_FILE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Compacted:
    """The versions of both parts afterwards, to be published together."""

    base_version: int
    hot_version: int


def compact_hot(lake: Lake, spec: TableSpec, upto_batch_id: int, writer: TableWriter) -> Compacted:
    """Fold the hot rows up to and including a published batch into the base, then remove them from the hot part.

    The order matters: hot rows go only when the base has them, so a reader sees the same rows at every moment.
    """
    if spec.write != "upsert":
        raise SpecError(f"{spec.full_name} is not upserted and has no hot part")
    if lake.open(spec.hot).count() == 0:
        return Compacted(lake.version(spec), lake.version(spec.hot))
    base_version = writer.fold(spec, upto_batch_id)
    return Compacted(base_version, writer.forget_hot(spec, upto_batch_id))


def compact_files(
    lake: Lake, spec: TableSpec, from_files: int = 32, target_bytes: int = TARGET_FILE_BYTES
) -> int:
    """Join small files of a table once there are `from_files` of them; the table's version afterwards.

    Not for hot parts: their files hold one batch each, so that forgetting a batch is forgetting files.
    """
    if spec.is_hot:
        raise SpecError(f"{spec.full_name} is a hot part; compact_hot empties it")
    table = lake.open(spec)
    sizes = table.get_add_actions(flatten=True)["size_bytes"].to_pylist()
    if sum(size < target_bytes // 2 for size in sizes) >= from_files:
        from pipelines.tables.delta_rs_writer import AFTER_COMMIT, PARQUET

        table.optimize.compact(
            target_size=target_bytes, writer_properties=PARQUET, post_commithook_properties=AFTER_COMMIT
        )
        table.update_incremental()
    return table.version()
