"""One row is one record of a landed file or of a topic: framed and parsed in a single pass over Arrow batches.

Beside its rows a batch tells which files have ended in it (transforms/ingest/framing/files_read.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from transforms.ingest.framing.files_read import (
    CHANGED,
    KNOWN,
    MOVING,
    READ,
    FileRead,
    Reading,
    Readings,
    content_digest,
    joined,
    record_digest,
    with_facts,
)
from transforms.ingest.framing.frames import Frames, frames, origin_of
from transforms.ingest.opaque import rows_for_driver
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import CARRIED, PARSED_SCHEMA, Records

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_RECORDS = 20_000
MAX_BYTES = 32 * 2**20


def parsed(df: DataFrame, parser: RecordParser, readings: Readings | None = None) -> DataFrame:
    """The records of landed files (source, mapping, feed, kind, path, content, transport_at), in
    PARSED_SCHEMA. Where a row has an `offset` it is a topic's record, with record_key and headers.

    `readings`: of files of whose names something has been read before, what is to be taken.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    wanted = df.select(*_columns_of(df.columns))
    return wanted.mapInArrow(parsing(parser, readings), from_arrow_schema(PARSED_SCHEMA))


def parsed_for_driver(df: DataFrame, parser: RecordParser, readings: Readings | None = None) -> pa.Table:
    """The rows of `parsed`, in the driver, and the files that they are of."""
    wanted = df.select(*_columns_of(df.columns))
    return rows_for_driver(wanted, parsing(parser, readings), PARSED_SCHEMA)


def parsed_here(
    batches: Iterable[pa.RecordBatch], parser: RecordParser, readings: Readings | None = None
) -> pa.Table:
    """The same, in this process."""
    return joined(parsing(parser, readings)(batches), PARSED_SCHEMA)


def parsing(
    parser: RecordParser, readings: Readings | None = None
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """The same as a function of Arrow batches."""

    def parse_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for records, files in framed(batches, readings):
            yield with_facts(parser.parse(records), files)

    return parse_files


def framed(
    batches: Iterable[pa.RecordBatch], readings: Readings | None = None
) -> Iterator[tuple[Records, list[FileRead]]]:
    """The records in `batches`, in portions that a kernel and an Arrow stream can carry, each with the files that have
    ended since the portion before."""
    portion, ended = _Portion(), list[FileRead]()
    for batch in batches:
        for row in _topic_records(batch):
            if not portion.takes(row):
                yield portion.records(), ended
                portion, ended = _Portion(), []
                portion.takes(row)
        for name, path, content in _files(batch):
            file = _File(name, path, content, (readings or {}).get((name.source, path)))
            portion.begin(name)
            for found in file.frames():
                if portion.takes_framed(*found):
                    continue
                for ordinal, payload in zip(found.ordinals, found.payloads, strict=True):
                    if not portion.takes_framed([ordinal], found.payload_format, [payload]):
                        yield portion.records(), ended
                        portion, ended = _Portion(), []
                        portion.begin(name)
                        portion.takes_framed([ordinal], found.payload_format, [payload])
            ended.append(file.fact())
    if len(portion) or ended:
        yield portion.records(), ended


class _File:
    """The frames of one file that are to be taken, and what became of it."""

    def __init__(self, name: _Name, path: str, content: bytes, reading: Reading | None) -> None:
        self._name, self._path, self._content, self._reading = name, path, content, reading
        self._digest = content_digest(content)
        self._outcome = READ
        if reading is not None:
            self._outcome = KNOWN if reading.seen is None else CHANGED
            if self._digest != reading.digest:
                self._outcome = MOVING
        self._first: int | None = None
        self._last: int | None = None
        self._count = self._known_count = 0

    def frames(self) -> Iterator[Frames]:
        if self._outcome in (KNOWN, MOVING):
            return
        found = frames(self._path, self._content)
        for some in found if self._reading is None else self._new(found, self._reading):
            self._first = some.ordinals[0] if self._first is None else self._first
            self._last = some.ordinals[-1]
            self._count += len(some.ordinals)
            yield some

    def fact(self) -> FileRead:
        return FileRead(
            self._name.source,
            self._path,
            self._name.origin,
            self._outcome,
            len(self._content),
            self._digest,
            self._first,
            self._last,
            self._count,
            self._known_count,
        )

    def _new(self, found: Iterable[Frames], reading: Reading) -> Iterator[Frames]:
        """Without the records that are known, and numbered beyond them."""
        seen = Counter(reading.seen)
        for ordinals, payload_format, payloads in found:
            digests = [record_digest(payload_format, payload) for payload in payloads]
            is_new = []
            for digest in digests:
                is_new.append(not seen[digest])
                seen[digest] -= 0 if is_new[-1] else 1
            self._known_count += is_new.count(False)
            if any(is_new):
                yield Frames(
                    [reading.first + ordinal for ordinal in compress(ordinals, is_new)],
                    payload_format,
                    list(compress(payloads, is_new)),
                )


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


def _files(batch: pa.RecordBatch) -> Iterator[tuple[_Name, str, bytes]]:
    """The landed files of a batch: what their records share, path and content."""
    names = [batch.column(name).to_pylist() for name in ("source", "mapping", "feed", "path")]
    contents = batch.column("content")
    instants = batch.column("transport_at").cast(pa.int64()).to_pylist()
    offsets = _offsets(batch)
    for at, (source, mapping, feed, path, transport_at) in enumerate(zip(*names, instants, strict=True)):
        if offsets[at] is None:
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
