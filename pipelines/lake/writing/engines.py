"""Chooses the engine that writes: delta-rs, Spark, or each by the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from conf.settings import CHOICES
from conf.table_spec import TableSpec
from pipelines.lake.lake import Lake
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.spark_writer import SparkWriter
from pipelines.lake.writing.writer import TableWriter, Txn

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPARK_FROM_ROWS = 2_000_000


class AutoWriter:
    """delta-rs while rows are few: its commits take milliseconds. Spark once they are many: its work is spread."""

    def __init__(self, few: TableWriter, many: TableWriter, lake: Lake, spark_from_rows: int) -> None:
        self._few, self._many, self._lake, self._limit = few, many, lake, spark_from_rows

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        """Append rows in one commit, unless the table has this transaction. Returns the version."""
        return self._for(rows.num_rows).append(spec, rows, txn)

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Fold hot rows up to that batch into the base. Returns the version of the base."""
        return self._for(self._lake.open(spec.hot).count()).fold(spec, upto_batch_id)

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        """Remove hot rows up to that batch. Returns the version of the hot part."""
        return self._few.forget_hot(spec, upto_batch_id)

    def _for(self, row_count: int) -> TableWriter:
        return self._few if row_count < self._limit else self._many


def make_writer(
    choice: str,
    lake: Lake,
    spark: SparkSession | None = None,
    spark_from_rows: int = SPARK_FROM_ROWS,
) -> TableWriter:
    """The writer that the settings ask for. Without a Spark session, `auto` is delta-rs."""
    if choice not in CHOICES["writer"]:
        raise ValueError(f"writer: {choice!r} is none of auto, spark, delta_rs")
    if choice == "delta_rs" or (choice == "auto" and spark is None):
        return DeltaRsWriter(lake)
    if spark is None:
        raise ValueError("writer: spark needs a Spark session; use auto or delta_rs without one")
    if choice == "spark":
        return SparkWriter(lake, spark)
    return AutoWriter(DeltaRsWriter(lake), SparkWriter(lake, spark), lake, spark_from_rows)
