"""Tables of a published snapshot as Spark DataFrames, without names in the catalog."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from string import Template

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from conf.table_spec import TableSpec
from pipelines.lake.lake import SchemaMismatch
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.views import SQL, live_select

# A column with file statistics and the bounds, both included, that its value lies in.
Between = tuple[str, datetime, datetime]


def table_frame(
    spark: SparkSession, snapshot: Snapshot, spec: TableSpec, between: Between | None = None
) -> DataFrame | None:
    """One table (or hot part) at the snapshot's version, with the declared columns; None where it is empty.

    It reads the files that the log names: every batch changes the version of every table, and Spark takes longer to
    replay a changed log than for a look-up. Columns declared since that version are null. `between` leaves out files
    that cannot have a row in these bounds. SchemaMismatch for a table that needs a newer Delta reader.
    """
    version, lake = snapshot.version(spec), snapshot.lake
    if version is None:
        return None
    table = lake.open(spec, version)
    if table.protocol().min_reader_version > 1:
        raise SchemaMismatch(
            f"{spec.full_name}: has been given a feature, such as deletion vectors, that not every Delta reader "
            "knows; take the feature from the table, and write lakes with this program only"
        )
    files = pa.table(table.get_add_actions(flatten=True))
    if between is not None:
        files = files.filter(_may_lie_in(files, between))
    if not files.num_rows:
        return None
    folder = lake.table_path(spec)
    paths = [_escaped(str(folder / name)) for name in files["path"].to_pylist()]
    return spark.read.schema(from_arrow_schema(spec.arrow)).parquet(*paths)


def live_frame(spark: SparkSession, snapshot: Snapshot, spec: TableSpec) -> DataFrame:
    """The live rows of a table at the snapshot, one per key; of a table that is only appended to, its rows."""
    empty = spark.createDataFrame([], from_arrow_schema(spec.arrow))
    base = table_frame(spark, snapshot, spec)
    base = empty if base is None else base
    hot = table_frame(spark, snapshot, spec.hot) if spec.write == "upsert" else None
    if hot is None:
        return base
    template = Template((SQL / "live.sql").read_text(encoding="utf-8"))
    text = live_select(
        template, spec, base="{base}", hot="{hot}", batches=f"(SELECT {snapshot.batch_id} AS batch_id)"
    )
    return spark.sql(text, base=base, hot=hot)


def _may_lie_in(files: pa.Table, between: Between) -> pa.ChunkedArray:
    """Which files may have a row between the bounds. Statistics are cut to milliseconds; some files have none."""
    column, low, high = between
    if f"max.{column}" not in files.column_names:
        return pa.chunked_array([pa.array(np.ones(files.num_rows, bool))])
    ends_before = pc.less(files[f"max.{column}"], pa.scalar(low - timedelta(milliseconds=1)))
    starts_after = pc.greater(files[f"min.{column}"], pa.scalar(high))
    return pc.invert(pc.fill_null(pc.or_(ends_before, starts_after), False))


def _escaped(path: str) -> str:
    """A path as a pattern that means just this file."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)
