"""Writes through Spark: for many rows, and where the lake is a cluster's."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.table_spec import DELETED, TableSpec
from pipelines.lake.fence import OWN
from pipelines.lake.lake import Lake
from pipelines.lake.live_rows import UPDATED
from pipelines.lake.writing.writer import Txn, conform


class SparkWriter:
    """The `TableWriter` of large commits.

    A transaction goes with its write as a writer option and not as a setting of the session: settings are shared by
    the threads that write other tables, and one left behind would silence later writes.
    """

    def __init__(self, lake: Lake, spark: SparkSession) -> None:
        self._lake, self._spark = lake, spark
        # MERGE and DELETE take the mark from a setting: in a session of our own, or it would mark a user's commits too.
        self._marking = spark.newSession()
        self._marking.conf.set("spark.databricks.delta.commitInfo.userMetadata", OWN)

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        """Append rows in one commit, unless the table has this transaction. Returns the version."""
        rows = conform(spec, rows)
        table = self._lake.open(spec)
        seen = table.transaction_version(txn.app_id)
        if not rows.num_rows or (seen is not None and seen >= txn.version):
            return table.version()
        self.write(spec, rows, txn)
        return self._lake.version(spec)

    def write(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> None:
        """Append rows through Spark in one commit."""
        frame = self._spark.createDataFrame(rows)
        writer = frame.write.format("delta").mode("append").option("txnAppId", txn.app_id)
        writer.option("txnVersion", str(txn.version)).save(str(self._lake.table_path(spec)))

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Fold hot rows up to that batch into the base. Returns the version of the base."""
        names = ", ".join(f"`{n}`" for n in spec.names)
        values = ", ".join(f"newest.`{n}`" for n in spec.names)
        pairs = ", ".join(f"base.`{n}` = newest.`{n}`" for n in spec.names)
        on = " AND ".join(f"base.`{k}` = newest.`{k}`" for k in spec.key)
        is_newer = f"newest.`{UPDATED}` > base.`{UPDATED}`"
        is_gone = f"coalesce(newest.`{DELETED}`, false)"
        newest = f"""(
            SELECT * FROM (
              SELECT *, row_number() OVER (
                PARTITION BY {", ".join(f"`{k}`" for k in spec.key)} ORDER BY `{UPDATED}` DESC) AS `__newest_first`
              FROM {self._table(spec.hot)} WHERE `{UPDATED}` <= {int(upto_batch_id)}
            ) WHERE `__newest_first` = 1) AS newest"""
        base = self._table(spec)
        if self._lake.open(spec).count() == 0:
            self._marking.sql(
                f"INSERT INTO {base} ({names}) SELECT {names} FROM {newest} WHERE NOT {is_gone}"
            )
        else:
            self._marking.sql(f"""
                MERGE INTO {base} AS base USING {newest} ON {on}
                WHEN MATCHED AND {is_newer} AND {is_gone} THEN DELETE
                WHEN MATCHED AND {is_newer} THEN UPDATE SET {pairs}
                WHEN NOT MATCHED AND NOT {is_gone} THEN INSERT ({names}) VALUES ({values})
            """)
        return self._lake.version(spec)

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Remove hot rows up to that batch. Returns the version of the hot part."""
        hot = self._lake.open(spec.hot).to_pyarrow_dataset()
        if hot.count_rows(filter=pc.field(UPDATED) <= upto_batch_id):
            # Between two batches that is all of them, and taking all is a matter of the log alone.
            is_part = hot.count_rows(filter=pc.field(UPDATED) > upto_batch_id) > 0
            which = f" WHERE `{UPDATED}` <= {int(upto_batch_id)}" if is_part else ""
            self._marking.sql(f"DELETE FROM {self._table(spec.hot)}{which}")
        return self._lake.version(spec.hot)

    def _table(self, spec: TableSpec) -> str:
        return "delta.`" + str(self._lake.table_path(spec)).replace("`", "``") + "`"
