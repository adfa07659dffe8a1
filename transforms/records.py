"""One row is one record of a landed file or of a topic: framed and parsed in a single pass over Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from transforms.framing import frame, origin_of
from transforms.opaque import rows_for_driver
from transforms.parse import RecordParser
from transforms.parsed_schema import CARRIED, PARSED_SCHEMA, Records

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_RECORDS = 20_000
MAX_BYTES = 32 * 2**20


def parsed(
    df: DataFrame, parser: RecordParser, known_origins: frozenset[tuple[str, str]] = frozenset()
) -> DataFrame:
    """The records of landed files (source, mapping, feed, kind, path, content, transport_at), in
    PARSED_SCHEMA. Where a row has an `offset` it is a topic's record, with record_key and headers.

    Files whose (source, path) are in `known_origins` have been published already and are left out.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    wanted = df.select(*_columns_of(df.columns))
    return wanted.mapInArrow(parsing(parser, known_origins), from_arrow_schema(PARSED_SCHEMA))


def parsed_for_driver(
    df: DataFrame, parser: RecordParser, known_origins: frozenset[tuple[str, str]] = frozenset()
) -> pa.Table:
    """The rows of `parsed`, in the driver."""
    wanted = df.select(*_columns_of(df.columns))
    return rows_for_driver(wanted, parsing(parser, known_origins), PARSED_SCHEMA)


def parsing(
    parser: RecordParser, known_origins: frozenset[tuple[str, str]] = frozenset()
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """The same as a function of Arrow batches."""

    def parse_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for records in framed(batches, known_origins):
            yield parser.parse(records)

    return parse_files


def framed(
    batches: Iterable[pa.RecordBatch], known_origins: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[Records]:
    """The records in `batches`, in portions that a kernel and an Arrow stream can carry."""
    rows: list[_Row] = []
    size = 0
    for batch in batches:
        for row in chain(_topic_records(batch), _file_records(batch, known_origins)):
            length = len(row.payload or b"")
            if rows and (len(rows) >= MAX_RECORDS or size + length > MAX_BYTES):
                yield _portion(rows)
                rows, size = [], 0
            size += length
            rows.append(row)
    if rows:
        yield _portion(rows)


class _Row(NamedTuple):
    """One framed record, in the order of `Records`."""

    source: str
    mapping: str
    feed: str
    origin: str
    origin_ordinal: int
    payload_format: str
    payload: bytes | None
    transport_at: int | None
    record_key: bytes | None = None
    headers: list[dict[str, Any]] | None = None


def _file_records(batch: pa.RecordBatch, known_origins: frozenset[tuple[str, str]]) -> Iterator[_Row]:
    names = [batch.column(name).to_pylist() for name in ("source", "mapping", "feed", "path")]
    contents = batch.column("content")
    instants = batch.column("transport_at").cast(pa.int64()).to_pylist()
    offsets = _offsets(batch)
    for at, (source, mapping, feed, path, transport_at) in enumerate(zip(*names, instants, strict=True)):
        if offsets[at] is not None or (source, path) in known_origins:
            continue
        origin = origin_of(path)[0]
        # One file at a time leaves Arrow for Python; null is a file without content.
        for ordinal, payload_format, payload in frame(path, contents[at].as_py() or b""):
            yield _Row(source, mapping, feed, origin, ordinal, payload_format, payload, transport_at)


def _topic_records(batch: pa.RecordBatch) -> Iterator[_Row]:
    """A topic's record is framed already: its value is one record, its topic-partition and offset the place."""
    offsets = _offsets(batch)
    if offsets.count(None) == len(offsets):
        return
    names = [batch.column(name).to_pylist() for name in ("source", "mapping", "feed", "path")]
    instants = batch.column("transport_at").cast(pa.int64()).to_pylist()
    keys, headers = (batch.column(name) for name in CARRIED)
    headed = [None] * len(offsets) if headers.null_count == len(headers) else headers.to_pylist()
    contents = batch.column("content")
    for at, (source, mapping, feed, origin, instant) in enumerate(zip(*names, instants, strict=True)):
        if (offset := offsets[at]) is not None:
            payload = contents[at].as_py()
            kind = "tombstone" if payload is None else "json"
            key = keys[at].as_py()
            yield _Row(source, mapping, feed, origin, offset, kind, payload, instant, key, headed[at])


def _offsets(batch: pa.RecordBatch) -> list[int | None]:
    """Where there are landed files only, the column is not there either."""
    return batch.column("offset").to_pylist() if "offset" in batch.schema.names else [None] * batch.num_rows


def _portion(rows: list[_Row]) -> Records:
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    is_carried = any(value is not None for column in columns[-len(CARRIED) :] for value in column)
    return Records(*(columns if is_carried else columns[: -len(CARRIED)]))


def _columns_of(columns: list[str]) -> list[str]:
    """What of a received frame reaches the kernel; a frame of landed files alone has no offsets."""
    of_files = ["source", "mapping", "feed", "path", "content", "transport_at"]
    return of_files + [name for name in ("offset", *CARRIED) if name in columns]
