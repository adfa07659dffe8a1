"""Replaces rows of a base table by rewriting only the files that hold them, in one commit of delta-rs.

MERGE of delta-rs reads every column of every file. Here the keys are read first, which takes a hundredth of that:

    keys of all files ──► files that hold a replaced key ──► rewritten without it ─┐
    newest hot rows that are not in the base yet ──────────────────────────────────┴──► one commit: + new, - old files
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.transaction import AddAction, RemoveAction

from conf.table_spec import TableSpec
from pipelines.tables.fence import OWN_COMMIT
from pipelines.tables.live_rows import UPDATED, same_keys, upserts, without_keys_of
from pipelines.tables.writer import conform

ROWS_PER_FILE = 100_000  # small enough that recent rows, which change most, lie in few files
ROWS_PER_READ = 32_768


def fold_into_base(
    folder: Path, table: DeltaTable, spec: TableSpec, newest: pa.Table, after_commit: PostCommitHookProperties
) -> None:
    """Commit `newest` (one hot row per key) into the base at `folder`; nothing if the base has it all."""
    if not newest.num_rows:
        return
    dataset = table.to_pyarrow_dataset()
    fragments = list(dataset.get_fragments())
    is_settled = np.zeros(newest.num_rows, bool)  # the base's row is as new already
    touched_by: list[np.ndarray] = []
    for fragment in fragments:
        held = fragment.to_table(schema=dataset.schema, columns=[*spec.key, UPDATED])
        mine, theirs = same_keys(held, newest, spec.key)
        is_newer = held[UPDATED].to_numpy()[mine] < newest[UPDATED].to_numpy()[theirs]
        is_settled[theirs[~is_newer]] = True
        touched_by.append(theirs[is_newer])
    pending = newest.filter(pa.array(~is_settled))
    touched = [f for f, rows in zip(fragments, touched_by, strict=True) if (~is_settled[rows]).any()]
    added = conform(spec, upserts(pending).select(spec.names))
    if not touched and not added.num_rows:
        return

    def rows() -> Iterator[pa.Table]:
        for fragment in touched:
            batches = fragment.to_batches(
                schema=dataset.schema, columns=list(spec.names), batch_size=ROWS_PER_READ, use_threads=False
            )
            yield from without_keys_of(spec, batches, pending)
        yield added

    written = _write_files(folder, spec, rows())
    at = int(time.time() * 1000)
    sizes = {f["path"]: f["size_bytes"] for f in pa.table(table.get_add_actions()).to_pylist()}
    old = [Path(f.path).name for f in touched]
    try:
        table.create_write_transaction(
            [
                *(AddAction(f.name, f.stat().st_size, {}, at, True, _statistics(spec, f)) for f in written),
                *(RemoveAction(name, True, at, sizes[name], {}) for name in old),
            ],
            "append",
            table.schema(),
            [],
            commit_properties=CommitProperties(custom_metadata=OWN_COMMIT),
            post_commithook_properties=after_commit,
        )
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        raise


def _write_files(folder: Path, spec: TableSpec, parts: Iterable[pa.Table]) -> list[Path]:
    """Parquet files of `parts`, none of which is empty."""
    files: list[Path] = []
    writer: pq.ParquetWriter | None = None
    count = 0
    try:
        for part in parts:
            if not part.num_rows:
                continue
            if writer is None or count >= ROWS_PER_FILE:
                if writer is not None:
                    writer.close()
                files.append(folder / f"part-{uuid.uuid4()}.zstd.parquet")
                writer = pq.ParquetWriter(files[-1], spec.arrow, compression="zstd", compression_level=1)
                count = 0
            writer.write_table(part.cast(spec.arrow))
            count += part.num_rows
        if writer is not None:
            writer.close()
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise
    return files


def _statistics(spec: TableSpec, file: Path) -> str:
    """A file's row count, and the smallest and largest value of the numbers and instants that may have statistics."""
    footer = pq.read_metadata(file)
    indexed = set(spec.properties["delta.dataSkippingStatsColumns"].split(","))
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for at in range(footer.num_columns):
        name = footer.schema.column(at).path
        parts = [footer.row_group(g).column(at).statistics for g in range(footer.num_row_groups)]
        if name not in indexed or any(s is None or not s.has_null_count for s in parts):
            continue
        nulls[name] = sum(s.null_count for s in parts)
        bounds = [(s.min, s.max) for s in parts if s.has_min_max]
        # Strings are cut off in footers, and nothing is looked up by them.
        if bounds and all(isinstance(v, (int, date)) and not isinstance(v, bool) for b in bounds for v in b):
            low[name], high[name] = (
                _json_value(min(b[0] for b in bounds)),
                _json_value(max(b[1] for b in bounds)),
            )
    return json.dumps(
        {"numRecords": footer.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value.isoformat() if isinstance(value, date) else value
