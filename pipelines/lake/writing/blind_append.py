"""A blind append: commits one new file as the next version of a table that no other writer has changed.

A library that knows nothing of who wrote last reads the log before and after every commit: 10 to 15 ms of a processor,
for each of the nine tables of a batch. A writer that left a table at version N, and adds rows whatever is in it, has
nothing to read: version N+1 is its own if it can be made, and if it cannot, another writer has been there.

    part-….parquet  ─▶  _delta_log/…N+1.json, linked into place: there wholly, and only if it was not there

The entry says what the Delta protocol asks of an append (https://github.com/delta-io/delta/blob/master/PROTOCOL.md):
who commits, the transaction, the file with its statistics. Only tables as this lake makes them are written so: of
protocol (1, 2), without partitions and without invariants.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import orjson
import pyarrow as pa
from deltalake import DeltaTable

from conf.table_spec import TableSpec
from pipelines.lake.fence import log_entry
from pipelines.lake.writing.data_files import remove_files, statistics, write_files
from pipelines.lake.writing.writer import Txn

ENGINE = "stitchlake"
MOST_READER, MOST_WRITER = 1, 2


def is_plain(table: DeltaTable) -> bool:
    """Whether nothing has to be looked at or computed before rows are appended."""
    protocol = table.protocol()
    return (
        protocol.min_reader_version <= MOST_READER
        and protocol.min_writer_version <= MOST_WRITER
        and not table.metadata().partition_columns
        and not any("delta.invariants" in field.metadata for field in table.schema().fields)
    )


def append_next(folder: Path, spec: TableSpec, rows: pa.Table, txn: Txn, version: int) -> bool:
    """Commit `rows` as that version of the table in `folder`; False, and nothing done, if the version is there.

    The caller knows that the version before is the table's, is plain, and has not seen `txn`.
    """
    (file,) = written = write_files(folder, spec, [rows])
    try:
        is_ours = _link(log_entry(folder, version), _actions(spec, file, txn))
    except BaseException:
        remove_files(written)
        raise
    if not is_ours:
        remove_files(written)
    return is_ours


def _actions(spec: TableSpec, file: Path, txn: Txn) -> bytes:
    now = time.time_ns() // 1_000_000
    actions = (
        {
            "commitInfo": {
                "timestamp": now,
                "operation": "WRITE",
                "operationParameters": {"mode": "Append"},
                "isBlindAppend": True,
                "engineInfo": ENGINE,
            }
        },
        {"txn": {"appId": txn.app_id, "version": txn.version, "lastUpdated": now}},
        {
            "add": {
                "path": file.name,
                "partitionValues": {},
                "size": file.stat().st_size,
                "modificationTime": now,
                "dataChange": True,
                "stats": statistics(spec, file),
            }
        },
    )
    return b"\n".join(map(orjson.dumps, actions)) + b"\n"


def _link(entry: Path, content: bytes) -> bool:
    """Whether `entry` could be made, with all of `content` at once."""
    whole = entry.with_name(f".{entry.name}.{uuid.uuid4()}")
    try:
        whole.write_bytes(content)
        os.link(whole, entry)
    except FileExistsError:
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True
