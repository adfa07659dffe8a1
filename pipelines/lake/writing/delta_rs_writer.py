"""Writes Arrow rows without a JVM, milliseconds a commit: the single-machine engine.

Appends to tables as this lake makes them are blind (`blind_append.py`). All else goes through delta-rs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from conf.table_spec import TableSpec
from pipelines.lake.fence import log_entry
from pipelines.lake.lake import Lake
from pipelines.lake.live_rows import UPDATED
from pipelines.lake.writing.base_rewrite import fold_into_base
from pipelines.lake.writing.blind_append import append_next, is_plain
from pipelines.lake.writing.data_files import OWN, batches_in, exchange, file_sizes
from pipelines.lake.writing.writer import RowsRefused, Txn, conform

# Old log entries are removed by upkeep, not by whichever commit comes along: a reader may be pinned to a version.
AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
# Readers go through the log from the last checkpoint on. One costs 20 ms, and more the more files have come and gone:
# it is made the more seldom then, after so many commits while it takes no more than so many seconds.
COMMITS_PER_CHECKPOINT, CHECKPOINT_SECONDS = 50, 0.05
ATTEMPTS = 6


@cache
def parquet_of(spec: TableSpec) -> WriterProperties:
    """How delta-rs writes files of the table."""
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        column_properties={name: ColumnProperties(dictionary_enabled=False) for name in spec.unlike},
    )


@dataclass
class _Left:
    """How this writer left one table; one thread at a time."""

    folder: Path
    lock: Lock = field(default_factory=Lock)
    table: DeltaTable | None = None  # as it was last read
    version: int = -1
    is_plain: bool = False
    seen: dict[str, int] = field(default_factory=dict)  # the last transaction of an app
    commits: int = 0  # since the last checkpoint of ours
    most_commits: int = 0

    def __post_init__(self) -> None:
        # Not all tables in the same batch; of every lake in the same ones.
        name = f"{self.folder.parent.name}/{self.folder.name}"
        self.most_commits = 1 + crc32(name.encode()) % COMMITS_PER_CHECKPOINT

    def read(self) -> DeltaTable:
        """The table as it is now."""
        if self.table is None:
            self.table = DeltaTable(str(self.folder))
        else:
            self.table.update_incremental()
        self.version, self.is_plain = self.table.version(), is_plain(self.table)
        self.seen.clear()
        return self.table

    def is_as_left(self) -> bool:
        """Whether nobody else has changed the table since it was last read.

        Upkeep removes log entries behind a checkpoint, the oldest first: without ours, the next one may be gone too.
        """
        return (
            self.table is not None
            and log_entry(self.folder, self.version).exists()
            and not log_entry(self.folder, self.version + 1).exists()
        )

    def has_seen(self, txn: Txn) -> bool:
        assert self.table is not None
        if txn.app_id not in self.seen:
            version = self.table.transaction_version(txn.app_id)
            self.seen[txn.app_id] = -1 if version is None else version
        return self.seen[txn.app_id] >= txn.version

    def has_appended(self, txn: Txn) -> None:
        self.version += 1
        self.seen[txn.app_id] = txn.version
        self.commits += 1
        if self.commits < self.most_commits:
            return
        started = time.perf_counter()
        self.table = None
        self.read().create_checkpoint()
        took = time.perf_counter() - started
        self.commits = 0
        self.most_commits = int(COMMITS_PER_CHECKPOINT * max(1.0, took / CHECKPOINT_SECONDS))


class DeltaRsWriter:
    """The `TableWriter` of one process and small commits."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._tables: dict[str, _Left] = {}

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        """Append rows in one commit, unless the table has this transaction. Returns the version."""
        rows = conform(spec, rows)
        left = self._left(spec)
        with left.lock:
            while True:
                if not left.is_as_left():
                    left.read()
                if not left.is_plain:
                    break
                if not rows.num_rows or left.has_seen(txn):
                    return left.version
                if append_next(left.folder, spec, rows, txn, left.version + 1):
                    left.has_appended(txn)
                    return left.version

        def commit(table: DeltaTable) -> None:
            # delta-rs writes a transaction that it has seen once more; Spark does not.
            if not rows.num_rows or left.has_seen(txn):
                return
            try:
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    writer_properties=parquet_of(spec),
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(txn.app_id, txn.version)]
                    ),
                    post_commithook_properties=AFTER_COMMIT,
                )
            except DeltaError as e:
                if "Invalid data" not in str(e):
                    raise
                # Its own words would show the rows.
                raise RowsRefused(
                    f"{spec.full_name}: rows break a constraint that somebody has put on the table; drop it, or put it "
                    "on a copy"
                ) from None

        return self._committed(spec, commit)

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Fold hot rows up to that batch into the base. Returns the version of the base."""
        hot = self._lake.open(spec.hot).to_pyarrow_dataset()
        rows = hot.to_table(filter=pc.field(UPDATED) <= upto_batch_id)

        def commit(table: DeltaTable) -> None:
            fold_into_base(self._lake.table_path(spec), table, spec, rows, AFTER_COMMIT)

        return self._committed(spec, commit)

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Remove hot rows up to that batch. Returns the version of the hot part."""
        folder = self._lake.table_path(spec.hot)

        def commit(table: DeltaTable) -> None:
            files = file_sizes(table)
            held = [batches_in(folder / path, UPDATED) for path in files]
            if any(first <= upto_batch_id < last for first, last in held):
                # Only a file that somebody has joined from several batches has rows that stay.
                table.delete(
                    f"{UPDATED} <= {upto_batch_id}",
                    writer_properties=parquet_of(spec.hot),
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

    def _left(self, spec: TableSpec) -> _Left:
        return self._tables.setdefault(spec.full_name, _Left(self._lake.table_path(spec)))

    def _committed(self, spec: TableSpec, commit: Callable[[DeltaTable], None]) -> int:
        """The table's version after `commit`, which is called again on the newest state when upkeep came between."""
        left = self._left(spec)
        with left.lock:
            for attempt in range(ATTEMPTS):
                try:
                    commit(left.read())
                    return left.read().version()
                except CommitFailedError:
                    left.table = None
                    if attempt == ATTEMPTS - 1:
                        raise
                    time.sleep(0.02 * 2**attempt)
                except BaseException:
                    left.table = None  # whatever it holds, it is not known to be the table's state
                    raise
        raise AssertionError("unreachable")
