"""Parses the files of the next batch while this one is published, where the stream is behind.

Without it the executors wait for the driver, and the driver for them, in turns. It decides nothing. What a batch holds
is what Spark has put into it; rows that were parsed ahead are the same rows, a function of a file's name, content and
time, and are taken where the batch has all of these files. Otherwise they are let go and the batch is parsed as if
there had been nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.stream.file_log import listed, listed_for
from pipelines.stream.read_before import Landed
from pipelines.stream.source import Source
from pipelines.stream.sources import MAX_FILE_BYTES, landed_files, name_inside
from transforms.ingest.framing.files_read import joined
from transforms.ingest.framing.frames import format_of

_MOST_MISSES = 2  # in a row; then the order of this stream's files cannot be predicted


class File(NamedTuple):
    """A landed file as it was at a moment."""

    modified_ms: int
    path: str


class Ahead(NamedTuple):
    """Rows of the files, in PARSED_SCHEMA."""

    files: Mapping[Source, frozenset[File]]
    rows: pa.Table


class ParseAhead:
    """The rows of a stream's batches, one batch after the other.

    `inputs`: all of the stream's. `read` gives the frame of a source's files, `parse` the rows of a frame and of the
    files in it. `is_new`: nothing has been read under the names of these files; what is taken of others depends on the
    batches before. At most `max_files` of a source and `max_bytes` of all are parsed ahead: as landed; as rows they
    take about three times that in the driver. With 0 bytes nothing is.
    """

    def __init__(
        self,
        inputs: Sequence[Source],
        checkpoint: Path,
        max_files: int,
        max_bytes: int,
        read: Callable[[Source, Sequence[Path]], DataFrame],
        parse: Callable[[DataFrame, Sequence[Landed]], pa.Table],
        is_new: Callable[[Sequence[Landed]], bool] = lambda landed: True,
    ) -> None:
        in_order = sorted(inputs, key=lambda s: s.name)  # as Spark numbers them
        self._folders = {source: number for number, source in enumerate(in_order) if source.kind == "file"}
        self._has_topics = len(self._folders) < len(in_order)
        self._checkpoint, self._max_files, self._max_bytes = checkpoint, max_files, max_bytes
        self._read, self._parse, self._is_new = read, parse, is_new
        self._seen: dict[Source, set[str]] = {}
        self._waiting: dict[Source, list[File]] = {}
        self._misses = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="parse-ahead")
        self._running: Future[Ahead | None] | None = None

    def rows(self, frame: DataFrame, stream_batch_id: int) -> pa.Table:
        """The rows of a batch, whose frame this is. Begins with the next batch's if more is waiting."""
        ahead = self._finished()
        batch = {
            source: frozenset(
                File(f.modified_ms, str(f.path))
                for f in listed_for(self._checkpoint, number, stream_batch_id)
            )
            for source, number in self._folders.items()
        }
        landed = _landed(batch)
        rows = self._parse(frame, landed) if ahead is None else self._completed(ahead, batch, frame)
        for source, seen in self._seen.items():
            seen.update(file.path for file in batch[source])
        full = [source for source, files in batch.items() if len(files) >= self._max_files]
        if full and self._max_bytes and self._misses < _MOST_MISSES:
            self._running = self._worker.submit(self._parse_next, full)
        return rows

    def forget(self) -> None:
        """Spark's lists have been changed: read them anew."""
        self._seen.clear()
        self._waiting.clear()

    def close(self) -> None:
        """Wait for what is running, and keep nothing."""
        self._finished()
        self._worker.shutdown()

    def _completed(self, ahead: Ahead, batch: Mapping[Source, frozenset[File]], frame: DataFrame) -> pa.Table:
        if not all(files <= batch[source] for source, files in ahead.files.items()):
            self._misses += 1
            return self._parse(frame, _landed(batch))
        self._misses = 0
        is_all = all(files == ahead.files.get(source, frozenset()) for source, files in batch.items())
        if is_all and not self._has_topics:
            return ahead.rows
        done = [
            (F.col("source") == source.name) & F.col("path").isin(list(_names(source, files)))
            for source, files in ahead.files.items()
        ]
        # A topic's records have the topic's name there, and another source.
        rest = frame.where(~reduce(lambda a, b: a | b, done))
        left = {source: files - ahead.files.get(source, frozenset()) for source, files in batch.items()}
        return joined([ahead.rows, self._parse(rest, _landed(left))], ahead.rows.schema)

    def _finished(self) -> Ahead | None:
        running, self._running = self._running, None
        if running is None:
            return None
        try:
            return running.result()
        except Exception:  # whatever it was, the batch that has these files meets it, and says so
            self._misses += 1
            return None

    def _parse_next(self, sources: Iterable[Source]) -> Ahead | None:
        files = {source: self._next(source) for source in sources}
        files = {source: found for source, found in files.items() if found}
        if not files or sum(os.path.getsize(f.path) for fs in files.values() for f in fs) > self._max_bytes:
            return None
        landed = _landed(files)
        if not self._is_new(landed):
            return None
        frames = [self._read(source, [Path(f.path) for f in found]) for source, found in files.items()]
        rows = self._parse(reduce(DataFrame.unionByName, frames), landed)
        return Ahead({source: frozenset(found) for source, found in files.items()}, rows)

    def _next(self, source: Source) -> list[File]:
        """The files of a folder that the next batch has, as far as one can tell: the oldest that no batch has had.
        Those of one millisecond come in the order in which the folder lists them, to Spark too."""
        if source not in self._seen:
            self._seen[source] = {str(f.path) for f in listed(self._checkpoint, self._folders[source])}
        seen = self._seen[source]
        waiting = [file for file in self._waiting.get(source, ()) if file.path not in seen]
        if len(waiting) < self._max_files:  # as Spark does: a long list is not made anew for every batch
            waiting = sorted(_unread(source, seen), key=lambda file: file.modified_ms)
        self._waiting[source] = waiting
        return waiting[: self._max_files]


def _unread(source: Source, seen: set[str]) -> Iterator[File]:
    for name, path in landed_files(source):
        if str(path) not in seen and format_of(name)[0] is not None:
            stat = path.stat()
            if stat.st_size <= MAX_FILE_BYTES:
                yield File(stat.st_mtime_ns // 1_000_000, str(path))


def _names(source: Source, files: Iterable[File]) -> Iterable[str]:
    """Names inside the source's folder, as a frame's rows have them."""
    return (file.name for file in _landed({source: files}))


def _landed(files: Mapping[Source, Iterable[File]]) -> list[Landed]:
    return [
        Landed(source.name, name_inside(source, Path(file.path)), Path(file.path))
        for source, some in files.items()
        for file in some
    ]
