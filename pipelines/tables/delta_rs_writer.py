"""Writes Arrow rows through delta-rs: no JVM, milliseconds a commit. The single-machine engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError

from conf.table_spec import TableSpec
from pipelines.tables.base_rewrite import fold_into_base
from pipelines.tables.data_files import OWN, batches_in, exchange, file_sizes
from pipelines.tables.lake import Lake
from pipelines.tables.live_rows import UPDATED, newest_rows
from pipelines.tables.writer import Txn, conform

PARQUET = WriterProperties(compression="ZSTD", compression_level=1)
# Old log entries are removed by upkeep, not by whichever commit comes along: a reader may be pinned to a version.
AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
# An open table gathers the log in pieces, and every commit reads all of them: 25 ms at first, 120 ms after 200.
# Opening it anew, from a checkpoint, costs 10 ms and puts an end to that.
COMMITS_PER_OPENING = 25
ATTEMPTS = 6


@dataclass
class _Opened:
    """One table, kept open between commits; one thread at a time."""

    path: str
    lock: Lock = field(default_factory=Lock)
    table: DeltaTable | None = None
    commits: int = 0

    def latest(self) -> DeltaTable:
        if self.table is None or self.commits >= COMMITS_PER_OPENING:
            self.table, self.commits = DeltaTable(self.path), 0
        else:
            self.table.update_incremental()
        return self.table


class DeltaRsWriter:
    """The `TableWriter` of one process and small commits."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._opened: dict[str, _Opened] = {}

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        rows = conform(spec, rows)

        def commit(table: DeltaTable) -> None:
            # delta-rs writes a transaction that it has seen once more; Spark does not.
            seen = table.transaction_version(txn.app_id)
            if not rows.num_rows or (seen is not None and seen >= txn.version):
                return
            write_deltalake(
                table,
                rows,
                mode="append",
                writer_properties=PARQUET,
                commit_properties=CommitProperties(app_transactions=[Transaction(txn.app_id, txn.version)]),
                post_commithook_properties=AFTER_COMMIT,
            )

        return self._committed(spec, commit)

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        hot = self._lake.open(spec.hot).to_pyarrow_dataset()
        rows = hot.to_table(filter=pc.field(UPDATED) <= upto_batch_id)
        newest = newest_rows(spec, rows)

        def commit(table: DeltaTable) -> None:
            fold_into_base(self._lake.table_path(spec), table, spec, newest, AFTER_COMMIT)

        return self._committed(spec, commit)

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        folder = self._lake.table_path(spec.hot)

        def commit(table: DeltaTable) -> None:
            files = file_sizes(table)
            held = [batches_in(folder / path, UPDATED) for path in files]
            if any(first <= upto_batch_id < last for first, last in held):
                # Only a file that somebody has joined from several batches has rows that stay.
                table.delete(
                    f"{UPDATED} <= {upto_batch_id}",
                    writer_properties=PARQUET,
                    commit_properties=OWN,
                    post_commithook_properties=AFTER_COMMIT,
                )
                return
            gone = {
                path: size
                for (path, size), (_, last) in zip(files.items(), held, strict=True)
                if last <= upto_batch_id
            }
            if gone:
                # One commit for all: with a part of them gone, an older hot row would hide its newer base row.
                exchange(table, [], gone, data_change=True, after_commit=AFTER_COMMIT)

        return self._committed(spec.hot, commit)

    def _committed(self, spec: TableSpec, commit: Callable[[DeltaTable], None]) -> int:
        """The table's version after `commit`, which is called again on the newest state when upkeep came between."""
        opened = self._opened.setdefault(spec.full_name, _Opened(str(self._lake.table_path(spec))))
        with opened.lock:
            for attempt in range(ATTEMPTS):
                try:
                    table = opened.latest()
                    before = table.version()
                    commit(table)
                    table.update_incremental()
                    opened.commits += table.version() > before
                    return table.version()
                except CommitFailedError:
                    opened.table = None
                    if attempt == ATTEMPTS - 1:
                        raise
                    time.sleep(0.02 * 2**attempt)
                except BaseException:
                    opened.table = None  # whatever it holds, it is not known to be the table's state
                    raise
        raise AssertionError("unreachable")
