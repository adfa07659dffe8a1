"""Replaces rows of a table in one commit: all, or those of some keys. Pinned readers keep the rows they had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from conf.table_spec import TableSpec
from pipelines.lake.lake import Lake
from pipelines.lake.live_rows import same_keys
from pipelines.lake.writing.base_rewrite import ROWS_PER_READ
from pipelines.lake.writing.data_files import add_action, exchange, file_sizes, remove_files, write_files
from pipelines.lake.writing.delta_rs_writer import AFTER_COMMIT, parquet_of
from pipelines.lake.writing.writer import Txn, conform


def replace_rows(lake: Lake, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
    """`rows` in place of all that are there; the table's version. Nothing is written if the table has seen `txn`."""
    rows = conform(spec, rows)
    table = lake.open(spec)
    seen = table.transaction_version(txn.app_id)
    if seen is None or seen < txn.version:
        write_deltalake(
            table,
            rows,
            mode="overwrite",
            writer_properties=parquet_of(spec),
            commit_properties=CommitProperties(app_transactions=[Transaction(txn.app_id, txn.version)]),
            post_commithook_properties=AFTER_COMMIT,
        )
    return lake.version(spec)


def replace_keyed_rows(
    lake: Lake, spec: TableSpec, key: tuple[str, ...], gone: pa.Table, rows: pa.Table, txn: Txn
) -> int:
    """`rows` in place of those whose `key` is in `gone`; how many those were. Only the files that hold one are read."""
    rows = conform(spec, rows)
    table = lake.open(spec)
    dataset = table.to_pyarrow_dataset()
    stays: dict[str, np.ndarray] = {}
    touched = []
    for fragment in dataset.get_fragments():
        held = fragment.to_table(schema=dataset.schema, columns=list(key))
        found, _ = same_keys(held, gone, key)
        if len(found):
            stays[fragment.path] = np.ones(held.num_rows, bool)
            stays[fragment.path][found] = False
            touched.append(fragment)

    def what_is_there_then() -> Iterator[pa.Table]:
        for fragment in touched:
            at = 0
            batches = fragment.to_batches(
                schema=dataset.schema, columns=list(spec.names), batch_size=ROWS_PER_READ, use_threads=False
            )
            for batch in batches:
                mask = stays[fragment.path][at : at + batch.num_rows]
                at += batch.num_rows
                yield pa.Table.from_batches([batch]).filter(pa.array(mask))
        yield rows

    folder, sizes = lake.table_path(spec), file_sizes(table)
    written = write_files(folder, spec, what_is_there_then())
    try:
        exchange(
            table,
            [add_action(spec, f, True) for f in written],
            {name: sizes[name] for name in (Path(f.path).name for f in touched)},
            data_change=True,
            after_commit=AFTER_COMMIT,
            commit=CommitProperties(app_transactions=[Transaction(txn.app_id, txn.version)]),
        )
    except BaseException:
        remove_files(written)
        raise
    return sum(int((~mask).sum()) for mask in stays.values())
