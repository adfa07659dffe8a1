"""One row is one record of a landed file: framed and parsed in a single pass over Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms.framing import frame, origin_of
from transforms.opaque import rows_for_driver
from transforms.parse import RecordParser
from transforms.parsed_schema import PARSED_SCHEMA, Records

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_RECORDS = 20_000
MAX_BYTES = 32 * 2**20


def parsed(
    df: DataFrame, parser: RecordParser, known_origins: frozenset[tuple[str, str]] = frozenset()
) -> DataFrame:
    """The records of landed files (source, mapping, feed, kind, path, content, transport_at), in
    PARSED_SCHEMA.

    Files whose (source, path) are in `known_origins` have been published already and are left out.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    wanted = df.select("source", "mapping", "feed", "path", "content", "transport_at")
    return wanted.mapInArrow(parsing(parser, known_origins), from_arrow_schema(PARSED_SCHEMA))


def parsed_for_driver(
    df: DataFrame, parser: RecordParser, known_origins: frozenset[tuple[str, str]] = frozenset()
) -> pa.Table:
    """The rows of `parsed`, in the driver."""
    wanted = df.select("source", "mapping", "feed", "path", "content", "transport_at")
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
    """The records of the files in `batches`, in portions that a kernel and an Arrow stream can carry."""
    records, size = _empty(), 0
    for batch in batches:
        names = [batch.column(name).to_pylist() for name in ("source", "mapping", "feed", "path")]
        contents = batch.column("content")
        instants = batch.column("transport_at").cast(pa.int64()).to_pylist()
        for at, (source, mapping, feed, path, transport_at) in enumerate(zip(*names, instants, strict=True)):
            if (source, path) in known_origins:
                continue
            origin = origin_of(path)[0]
            # One file at a time leaves Arrow for Python; null is a file without content.
            for ordinal, payload_format, payload in frame(path, contents[at].as_py() or b""):
                if records.payload and (
                    len(records.payload) >= MAX_RECORDS or size + len(payload) > MAX_BYTES
                ):
                    yield records
                    records, size = _empty(), 0
                size += len(payload)
                records.source.append(source)
                records.mapping.append(mapping)
                records.feed.append(feed)
                records.origin.append(origin)
                records.origin_ordinal.append(ordinal)
                records.payload_format.append(payload_format)
                records.payload.append(payload)
                records.transport_at.append(transport_at)
    if records.payload:
        yield records


def _empty() -> Records:
    return Records([], [], [], [], [], [], [], [])
