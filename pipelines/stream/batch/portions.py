"""Cuts a stream's batch that is too large into portions. Each portion is published as a batch of the lake.

    events in the order in which they count ─▶ 0 … 1,200 │ 1,200 … 2,100 │ 2,100 … 2,600
                                               portion     portion         batch, with the stream's number

What Spark has planned cannot be made smaller, so it is cut here, at the end of a record. A batch that keeps the bounds
is not touched. Only the last portion has the stream's batch number, so a stream that dies in between is given the same
batch again, and continues after what is published (intent.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.state.keyed_rows import numpy_of
from transforms.arrays.grouped import Longs, whole
from transforms.ingest.framing.files_read import PART, FileRead

MOST = 2**63 - 1
_TEXTS = ("payload", "element", "properties", "context")  # nearly all bytes of a large event
_OF_RECORDS = ("payload", "element", "headers")  # written as they are


@dataclass(frozen=True)
class Portion:
    """The events `first` up to but not `until` of a stream's batch. `received`: those; `together`: all of the batch;
    `files`: the files of the batch that end in it or are cut by its end."""

    first: int
    until: int
    total: int
    received: pa.Table
    together: pa.Table
    files: Sequence[FileRead]

    @property
    def is_last(self) -> bool:
        """Whether the batch ends with this portion."""
        return self.until == self.total


class Cut:
    """A stream's batch, its events in the order in which they count, and where it may be cut."""

    def __init__(
        self, received: pa.Table, files: Sequence[FileRead], max_pairs: int = MOST, max_bytes: int = MOST
    ) -> None:
        self._received, self._files, self._count = received, files, received.num_rows
        self._bounds = (max_pairs, max_bytes)
        self._sums: tuple[Longs, Longs] | None = None  # pairs and bytes up to and including each event
        self._ends = np.array([self._count])
        pairs = _pairs(received)
        if pairs.sum() > self._bounds[0] or received.nbytes > self._bounds[1]:
            self._sums = np.cumsum(pairs), np.cumsum(_bytes(received))
            self._ends = np.append(np.flatnonzero(_is_start(received))[1:], self._count)

    def portion(self, first: int, until: int | None = None) -> Portion:
        """The next one, from the event `first` on: as many records as keep the bounds, and at least one. `until`: where
        an earlier attempt has ended it; 0: that was made by a program that published every batch as a whole."""
        until = self._until(first) if until is None else until or self._count
        if first == 0 and until == self._count:
            return Portion(0, until, until, self._received, self._received, self._files)
        return Portion(
            first,
            until,
            self._count,
            _alone(self._received[first:until]),
            self._received,
            self._files_of(first, until),
        )

    def _until(self, first: int) -> int:
        if self._sums is None:
            return self._count
        ends = self._ends[self._ends > first]
        for sums, bound in zip(self._sums, self._bounds, strict=True):
            taken = int(sums[first - 1]) if first else 0
            ends = ends[: max(1, int(np.searchsorted(sums[ends - 1], taken + bound, "right")))]
        return int(ends[-1])

    def _files_of(self, first: int, until: int) -> list[FileRead]:
        """A file goes with the portion in which its last record is, with the records that are there; of one that the
        portion's end cuts, a part does. Files without records go with the last portion."""
        start, end = _place(self._received, first), _place(self._received, until - 1)
        found = [f for f in self._files if f.last is None and until == self._count]
        for file in (f for f in self._files if f.first is not None and f.last is not None):
            ends_at = (file.source, file.origin, file.last)
            if ends_at < start or (file.source, file.origin, file.first) > end:
                continue
            record = numpy_of(self._received["origin_ordinal"])[first:until][
                _are_of(self._received[first:until], file)
            ]
            if not len(record):
                continue
            of_portion = file._replace(
                first=int(record.min()), last=int(record.max()), record_count=len(np.unique(record))
            )
            found.append(
                of_portion
                if ends_at <= end
                else of_portion._replace(outcome=PART, size=None, digest=None, known_count=0)
            )
        return found


def _pairs(received: pa.Table) -> Longs:
    """The pairs of linking identifiers that each event shows."""
    sizes = numpy_of(pc.list_value_length(whole(received["node_ids"]))).astype(np.int64)
    return sizes * (sizes - 1) // 2


def _bytes(received: pa.Table) -> Longs:
    """The bytes of each event: those of its texts, and an even share of all others."""
    texts = np.zeros(received.num_rows, np.int64)
    for name in _TEXTS:
        texts += numpy_of(pc.fill_null(pc.binary_length(received[name]), 0))
    return texts + (received.nbytes - int(texts.sum())) // received.num_rows


def _is_start(received: pa.Table) -> np.ndarray:
    """Which events are the first of their record."""
    ordinal, position = (numpy_of(received[name]) for name in ("origin_ordinal", "record_position"))
    is_start = position == 0
    is_start[1:] |= (ordinal[1:] != ordinal[:-1]) | (position[1:] <= position[:-1])
    is_start[0] = True
    return is_start


def _place(received: pa.Table, row: int) -> tuple[str, str, int]:
    source, origin, ordinal = (received[name][row].as_py() for name in ("source", "origin", "origin_ordinal"))
    return source, origin, ordinal


def _are_of(received: pa.Table, file: FileRead) -> np.ndarray:
    ordinal = numpy_of(received["origin_ordinal"])
    same = pc.and_(pc.equal(received["source"], file.source), pc.equal(received["origin"], file.origin))
    return numpy_of(same) & (ordinal >= file.first) & (ordinal <= file.last)


def _alone(received: pa.Table) -> pa.Table:
    """Rows of a larger table as a table of their own: every column one array that begins with them, but for those of
    the records."""
    rows = pa.array(np.arange(received.num_rows))
    columns = [
        column if name in _OF_RECORDS else whole(column).take(rows)
        for name, column in zip(received.column_names, received.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=received.schema)
