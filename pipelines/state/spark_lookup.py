"""SparkLookup: looks up rows of a published snapshot by a Spark join of the table with the asked keys.

    base ──┐                                        ┌── hot, keys and batches only
           ├─ rows with an asked value ── without ──┤
    hot ───┘                     those that a newer hot row replaces or deletes

The asked keys are broadcast, so a table is scanned where it lies and only what was found travels to the driver. Keys
are in the data of the query and never in its text: plans and event logs show none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from threading import Lock

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.table_spec import DELETED, TableSpec
from pipelines.lake.live_rows import UPDATED
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.spark_frames import Between, table_frame

_ASKED, _IS_HOT = "__asked", "__is_hot"


def _pair(rows: DataFrame) -> Column:
    """`pair_key` of pipelines/state/identity_state.py."""
    right = rows["right_node_id"]
    exchanged = F.shiftleft(right, 32).bitwiseOR(F.shiftrightunsigned(right, 32))
    return rows["left_node_id"].bitwiseXOR(exchanged)


DERIVED = {"pair": _pair}


class SparkLookup:
    """The `LookUp` of a lake that lies on shared storage. Every question costs a Spark job or two, whatever it asks,
    and reads the asked columns of the whole table; tables that are empty in the snapshot cost nothing."""

    def __init__(self, snapshot: Snapshot, spark: SparkSession) -> None:
        self._snapshot, self._spark = snapshot, spark
        self._frames: dict[str, DataFrame | None] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)  # one a table: they are opened side by side

    @property
    def batch_id(self) -> int:
        """The published batch that look-ups answer as of."""
        return self._snapshot.batch_id

    def rows(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: Between | None = None,
    ) -> pa.Table:
        """The live rows of a table in which one of the columns named in `asked` has one of its values, each once.

        `between`: a column with file statistics and the bounds, both included, that its value lies in.
        """
        schema = pa.schema([spec.arrow.field(c) for c in columns])
        asked = {column: np.unique(values) for column, values in asked.items() if len(values)}
        found = self._candidates(spec, columns, asked, between) if asked else None
        if found is None:
            return schema.empty_table()
        return found.select(*columns).toArrow().cast(schema)

    def distinct(self, spec: TableSpec, column: str) -> list[str]:
        """The values of a column of texts in an upserted table, each once. Those of rows that are gone may be there
        still."""
        frames = [frame for frame in (self._frame(spec), self._frame(spec.hot)) if frame is not None]
        found = {value for frame in frames for (value,) in frame.select(column).distinct().collect()}
        return sorted(value for value in found if value is not None)

    def _candidates(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: Between | None,
    ) -> DataFrame | None:
        base = self._frame(spec, between)
        hot = self._frame(spec.hot) if spec.write == "upsert" else None
        keys = {column: self._keys(values) for column, values in asked.items()}
        if hot is None:
            return None if base is None else _matching(base, keys, between)
        hot = hot.where(F.col(UPDATED) <= self.batch_id)
        names = list(dict.fromkeys([*columns, *spec.key, UPDATED]))
        found = _matching(hot.where(~F.coalesce(F.col(DELETED), F.lit(False))), keys, between)
        found = found.select(*names).withColumn(_IS_HOT, F.lit(True))
        if base is not None:
            found = found.unionByName(
                _matching(base, keys, between).select(*names).withColumn(_IS_HOT, F.lit(False))
            )
        versions = hot.select(*spec.key, UPDATED).alias("hot")
        found = found.alias("found")
        is_same = [F.col(f"found.{k}") == F.col(f"hot.{k}") for k in spec.key]
        is_newer = ~F.col(f"found.{_IS_HOT}") | (F.col(f"hot.{UPDATED}") > F.col(f"found.{UPDATED}"))
        return found.join(versions, reduce(Column.__and__, [*is_same, is_newer]), how="left_anti")

    def _frame(self, spec: TableSpec, between: Between | None = None) -> DataFrame | None:
        """The table at the snapshot's version, with the declared columns; None where it is empty."""
        if between is not None:
            return table_frame(self._spark, self._snapshot, spec, between)
        with self._locks[spec.full_name]:
            if spec.full_name not in self._frames:
                self._frames[spec.full_name] = table_frame(self._spark, self._snapshot, spec)
            return self._frames[spec.full_name]

    def _keys(self, values: np.ndarray) -> DataFrame:
        return self._spark.createDataFrame(pa.table({_ASKED: pa.array(values, pa.int64())}))


def _matching(rows: DataFrame, keys: Mapping[str, DataFrame], between: Between | None) -> DataFrame:
    """The rows that one of the key sets finds. A null finds nothing."""
    if between is not None:
        column, low, high = between
        rows = rows.where(F.col(column).between(F.lit(low), F.lit(high)))
    if len(keys) == 1:
        ((column, asked),) = keys.items()
        return rows.join(F.broadcast(asked), _value(rows, column) == asked[_ASKED], how="left_semi")
    flagged = rows
    flags = []
    for number, (column, asked) in enumerate(keys.items()):
        flags.append(f"{_ASKED}_{number}")
        named = asked.withColumnRenamed(_ASKED, flags[-1])
        flagged = flagged.join(F.broadcast(named), _value(flagged, column) == named[flags[-1]], how="left")
    return flagged.where(reduce(Column.__or__, [F.col(flag).isNotNull() for flag in flags])).drop(*flags)


def _value(rows: DataFrame, column: str) -> Column:
    return DERIVED[column](rows) if column in DERIVED else rows[column]
