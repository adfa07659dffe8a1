"""Rows cross Spark as opaque values: one value is a whole portion of rows, as an Arrow stream.

Taking 30 columns of every record apart into Spark's rows and putting them together again is work that nobody needs.
On their way through Spark the values are copied about ten times, so they are compressed: a microsecond a record, for a
third of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms.ingest.framing.files_read import joined

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Rows = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]


def rows_for_driver(frame: DataFrame, rows: Rows, schema: pa.Schema) -> pa.Table:
    """What `rows` makes of the frame's Arrow batches, in `schema`, in the driver."""

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # the other core parses
        for portion in rows(batches):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, portion.schema, options=options) as stream:
                stream.write_batch(portion)
            offsets = pa.array([0, sink.tell()], pa.int32()).buffers()[1]
            packed = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, sink.getvalue()])
            yield pa.record_batch([packed], names=["portion"])

    portions = frame.mapInArrow(pack, "portion binary").toArrow()["portion"]
    return joined((pa.ipc.open_stream(portion.as_buffer()).read_all() for portion in portions), schema)
