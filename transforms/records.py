"""One row is one record of a landed file or of a topic: framed and parsed in a single pass over Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from transforms.framing import frames, origin_of
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
    portion = _Portion()
    for batch in batches:
        for row in _topic_records(batch):
            if not portion.takes(row):
                yield portion.records()
                portion = _Portion()
                portion.takes(row)
        for name, path, content in _files(batch, known_origins):
            portion.begin(name)
            for found in frames(path, content):
                if portion.takes_framed(*found):
                    continue
                for ordinal, payload in zip(found.ordinals, found.payloads, strict=True):
                    if not portion.takes_framed([ordinal], found.payload_format, [payload]):
                        yield portion.records()
                        portion = _Portion()
                        portion.begin(name)
                        portion.takes_framed([ordinal], found.payload_format, [payload])
    if len(portion):
        yield portion.records()


class _Row(NamedTuple):
    """One record of a topic, in the order of `Records`."""

    source: str
    mapping: str
    feed: str
    origin: str
    origin_ordinal: int
    payload_format: str
    payload: bytes | None
    transport_at: int | None
    record_key: bytes | None
    headers: list[dict[str, Any]] | None


class _Name(NamedTuple):
    """What all records of one file share."""

    source: str
    mapping: str
    feed: str
    origin: str
    transport_at: int | None


class _Portion:
    """Records, column by column; those of a file bring only what is their own."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in _Row._fields]
        self._ordinals, self._formats, self._payloads = self._columns[4:7]
        self._shared = (*self._columns[:4], *self._columns[7:])
        self._size = 0
        self._name: _Name | None = None

    def __len__(self) -> int:
        return len(self._payloads)

    def takes(self, row: _Row) -> bool:
        """Add a topic's record; False, and nothing is added, where there is no room for it."""
        self._fill()
        if not self.takes_framed([row.origin_ordinal], row.payload_format, [row.payload]):
            return False
        for column, value in zip(self._shared, (*row[:4], *row[7:]), strict=True):
            column.append(value)
        return True

    def begin(self, name: _Name) -> None:
        """What is framed from here on is of this file."""
        self._fill()
        self._name = name

    def takes_framed(
        self, ordinals: Sequence[int], payload_format: str, payloads: Sequence[bytes | None]
    ) -> bool:
        """The same for records of the file that was begun last: all of them, or none. One alone always has room in an
        empty portion."""
        size = self._size + sum(len(payload or b"") for payload in payloads)
        count = len(self._payloads) + len(payloads)
        if count > 1 and (size > MAX_BYTES or count > MAX_RECORDS):
            return False
        self._size = size
        self._ordinals += ordinals
        self._formats += [payload_format] * len(payloads)
        self._payloads += payloads
        return True

    def records(self) -> Records:
        self._fill()
        is_carried = any(value is not None for column in self._columns[-len(CARRIED) :] for value in column)
        return Records(*(self._columns if is_carried else self._columns[: -len(CARRIED)]))

    def _fill(self) -> None:
        """What the last file's records share, once for each of them."""
        count = len(self._payloads) - len(self._shared[0])
        if self._name is not None and count:
            for column, value in zip(self._shared, (*self._name, None, None), strict=True):
                column += [value] * count


def _files(
    batch: pa.RecordBatch, known_origins: frozenset[tuple[str, str]]
) -> Iterator[tuple[_Name, str, bytes]]:
    """The landed files of a batch: what their records share, path and content."""
    names = [batch.column(name).to_pylist() for name in ("source", "mapping", "feed", "path")]
    contents = batch.column("content")
    instants = batch.column("transport_at").cast(pa.int64()).to_pylist()
    offsets = _offsets(batch)
    for at, (source, mapping, feed, path, transport_at) in enumerate(zip(*names, instants, strict=True)):
        if offsets[at] is None and (source, path) not in known_origins:
            # One file at a time leaves Arrow for Python; null is a file without content.
            content = contents[at].as_py() or b""
            yield _Name(source, mapping, feed, origin_of(path)[0], transport_at), path, content


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


def _columns_of(columns: list[str]) -> list[str]:
    """What of a received frame reaches the kernel; a frame of landed files alone has no offsets."""
    of_files = ["source", "mapping", "feed", "path", "content", "transport_at"]
    return of_files + [name for name in ("offset", *CARRIED) if name in columns]
