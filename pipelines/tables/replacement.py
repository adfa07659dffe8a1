"""All rows of a table replaced in one commit. Readers that are pinned to a version keep the rows they had."""

from __future__ import annotations

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from conf.table_spec import TableSpec
from pipelines.tables.delta_rs_writer import AFTER_COMMIT, PARQUET
from pipelines.tables.lake import Lake
from pipelines.tables.writer import Txn, conform


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
            writer_properties=PARQUET,
            commit_properties=CommitProperties(app_transactions=[Transaction(txn.app_id, txn.version)]),
            post_commithook_properties=AFTER_COMMIT,
        )
    return lake.version(spec)
