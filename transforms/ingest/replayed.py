"""One row is one record of bronze.events, parsed anew, with the batch that brought it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.ingest.opaque import Rows, rows_for_driver
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import PARSED_SCHEMA, Records

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BROUGHT_BY = "brought_by_batch_id"
REPLAYED_SCHEMA = PARSED_SCHEMA.append(pa.field(BROUGHT_BY, pa.int64()))
_RECORD = ("source", "origin", "origin_ordinal")
FRAMED = tuple(name for name in Records._fields if name != "transport_at")
_PAYLOAD = PARSED_SCHEMA.get_field_index("payload")


def replayed_for_driver(bronze: DataFrame, parser: RecordParser) -> pa.Table:
    """Rows of bronze.events as the parser reads them now, in REPLAYED_SCHEMA and in no order, in the driver.

    The transport's instant is what bronze keeps as received_at. Only refused rows have their payload: the others' is
    in bronze, and would fill the driver's memory. A record that its mapping explodes may lie in bronze once per event;
    it is read once.
    """
    # A column that was declared after the version was written is not in it.
    wanted = bronze.select(*(c for c in (*FRAMED, "received_at", "batch_id") if c in bronze.columns))
    if any(mapping.explode is not None for mapping in parser.mappings.values()):
        wanted = wanted.dropDuplicates(list(_RECORD))
    return rows_for_driver(wanted, replaying(parser), REPLAYED_SCHEMA)


def replaying(parser: RecordParser) -> Rows:
    """The same as a function of Arrow batches of bronze.events."""

    def parse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not batch.num_rows:
                continue
            brought_by = batch.column("batch_id").to_numpy(zero_copy_only=False)
            order = np.argsort(brought_by, kind="stable")
            rows, brought_by = batch.take(pa.array(order)), brought_by[order]
            starts = np.flatnonzero(np.r_[True, brought_by[1:] != brought_by[:-1]])
            # A batch of the lake at a time, because the parser hands on a record's own columns only.
            for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
                yield _with_batch(
                    parser.parse(_records(rows.slice(start, end - start))), int(brought_by[start])
                )

    return parse


def _records(rows: pa.RecordBatch) -> Records:
    names = [name for name in FRAMED if name in rows.schema.names]
    columns = {name: rows.column(name).to_pylist() for name in names}
    received_at = rows.column("received_at").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return Records(**columns, transport_at=received_at.to_pylist())


def _with_batch(found: pa.RecordBatch, brought_by: int) -> pa.RecordBatch:
    columns = list(found.columns)
    is_refused = pc.greater(pc.list_value_length(found.column("reasons")), 0)
    columns[_PAYLOAD] = pc.if_else(is_refused, columns[_PAYLOAD], pa.scalar(None, columns[_PAYLOAD].type))
    batch = pa.array(np.full(found.num_rows, brought_by, np.int64))
    return pa.RecordBatch.from_arrays([*columns, batch], schema=REPLAYED_SCHEMA)
