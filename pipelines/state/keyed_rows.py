"""KeyedRows: an in-memory table that finds rows by integer keys. A look-up costs by the number of keys.

Rows live in a few immutable segments, Arrow tables or (the large ones) packed, each with an index of its own for every
indexed column and in the order of the first of these: what is found by it lies side by side. A batch adds small
segments and marks the rows that it replaces as dead. `settle` ends it: segments of similar size are merged, so their
number stays logarithmic. `undo` takes back what was changed since: the added segments go, and what was marked comes to
life again. Nothing here is a source of truth: it is rebuilt from the published tables.

Arrow's texts and lists have offsets of 32 bits. So a segment has no column with more than 1 GiB of them, and a large
table has more segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipelines.state.near_rows import rows_near
from pipelines.state.packed_rows import NOTHING_KNOWN, Known, PackedRows, packed_rows
from pipelines.state.sorted_index import SortedIndex, ranges
from transforms.activity.windows import Windows
from transforms.arrays.grouped import in_schema, whole
from transforms.arrays.integers import distinct, is_ascending, is_in, ordered_pairs, places_in

_ROW_BITS = 40
_ROW_MASK = (1 << _ROW_BITS) - 1
_MERGE_FACTOR = 4
_MOST_BYTES = 1 << 30  # of texts and lists in one column of a segment
_MOST_ROWS = 1 << 30  # of a segment
PACKED_FROM = (
    1 << 16
)  # rows; packing costs more time than taking them over, and most segments are merged soon
WHOLE_UP_TO = (
    256  # rows of an anchor in a segment: so many are taken sooner than those of them that are near are found
)


@dataclass
class _Segment:
    rows: pa.Table | PackedRows
    indexes: dict[str, SortedIndex]
    alive: np.ndarray
    nbytes: int  # of the texts and lists in the column that has the most of them, unpacked
    dead_count: int = 0

    def take(self, rows: np.ndarray, names: list[str]) -> pa.Table:
        if isinstance(self.rows, PackedRows):
            return self.rows.take(rows, names)
        return self.rows.select(names).take(pa.array(rows))

    def numbers(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        """What gives the numbers of a column by row."""
        if isinstance(self.rows, PackedRows):
            return self.rows.numbers(name)
        return numpy_of(self.rows[name]).__getitem__

    def live(self, names: list[str]) -> pa.Table:
        if isinstance(self.rows, PackedRows):
            return self.rows.take(np.flatnonzero(self.alive), names)
        return self.rows.select(names).filter(pa.array(self.alive))


def numpy_of(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A column as numpy. Timestamps come as int64 microseconds, nulls of integers as 0."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()


class Rows(Protocol):
    """Rows that a batch finds by integer keys and replaces, wherever they come from.

    A null of an indexed column is 0 in memory, and 0 is never asked for. Positions are valid until the next
    `replace`.
    """

    def __len__(self) -> int: ...
    def find(self, index: str, values: np.ndarray) -> np.ndarray:
        """Positions of the rows with one of these values in an indexed column."""

    def find_any(self, asked: Mapping[str, np.ndarray]) -> np.ndarray:
        """Positions of the rows with one of the asked values in any of these columns."""

    def take(self, positions: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows at these positions."""

    def rows(self, index: str, values: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows with one of these values in an indexed column."""

    def near(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """(positions of rows near these windows, anchors of which only a part was read)."""

    def having(self, index: str, values: np.ndarray) -> np.ndarray:
        """Those of `values` that some row has in this column."""

    def all_rows(self, columns: list[str] | None = None) -> pa.Table:
        """Every row."""

    def replace(self, dead: np.ndarray, rows: pa.Table) -> None:
        """Remove the rows at positions `dead` and add `rows`."""

    def settle(self) -> None:
        """What was changed is published, and stays."""

    def undo(self) -> None:
        """Take back what was changed since it was last settled."""


class KeyedRows:
    """Rows of `schema`, findable by every column in `indexes` (int64), soonest by the first of them. `then`: the column
    (of instants) whose order the rows of one value of that first one are in, if `near` is to be asked.

    Positions are valid until the next `replace`.
    """

    def __init__(
        self, schema: pa.Schema, indexes: Iterable[str], known: Known = NOTHING_KNOWN, then: str | None = None
    ) -> None:
        self.schema, self._known, self._then = schema, known, then
        self.indexes = tuple(indexes)
        self._long = [f.name for f in schema if not _is_fixed(f.type)]
        self._segments: list[_Segment] = []
        self._settled_count = 0  # of the segments; those after them are of the running batch
        self._killed: list[
            tuple[_Segment, np.ndarray]
        ] = []  # rows of segments that the running batch replaced

    def __len__(self) -> int:
        return sum(len(s.alive) - s.dead_count for s in self._segments)

    def load(self, rows: pa.Table) -> None:
        """Forget everything and hold `rows`."""
        self._segments = []
        self.add(rows)
        self._settled_count, self._killed = len(self._segments), []

    def find(self, index: str, values: np.ndarray) -> np.ndarray:
        """Positions of the live rows whose `index` column is one of `values`; each position once."""
        if not len(values) or not self._segments:
            return np.empty(0, np.int64)
        values = distinct(values)
        found = []
        for number, segment in enumerate(self._segments):
            rows = segment.indexes[index].find(values)
            rows = rows[segment.alive[rows]].astype(np.int64)
            found.append(rows | (number << _ROW_BITS))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def find_any(self, asked: Mapping[str, np.ndarray]) -> np.ndarray:
        """Positions, ascending, of the live rows that one of `asked` (values by index) finds; each position once."""
        found = [self.find(index, values) for index, values in asked.items()]
        return distinct(np.concatenate(found)) if found else np.empty(0, np.int64)

    def take(self, positions: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows at `positions`, in segment order (not in the order given)."""
        names = columns or self.schema.names
        parts = []
        numbers = positions >> _ROW_BITS
        for number in distinct(numbers):
            rows = positions[numbers == number] & _ROW_MASK
            parts.append(self._segments[number].take(rows, names))
        if not parts:
            return pa.schema([self.schema.field(n) for n in names]).empty_table()
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts).combine_chunks()

    def rows(self, index: str, values: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The live rows whose `index` column is one of `values`."""
        return self.take(self.find(index, values), columns)

    def near(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """(positions, in part): live rows of the windows' anchors, which are the first index and never 0, and the
        anchors (ascending) that were read in part. Of those these rows at least are there: those inside the windows,
        and before and after each window the nearest ones, all of one instant. Of the others all rows are there.
        """
        assert self._then is not None
        found, in_part = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        anchors = distinct(windows.anchor)
        for number, segment in enumerate(self._segments):
            names, first, end = segment.indexes[self.indexes[0]].ranges(anchors)
            is_long = end - first > WHOLE_UP_TO
            rows = [ranges(first[~is_long], (end - first)[~is_long])]
            if is_long.any():
                names, first, end = names[is_long], first[is_long], end[is_long]
                asked = windows.select(is_in(windows.anchor, names))
                of = places_in(names, asked.anchor)
                at = segment.numbers(self._then)
                rows.append(rows_near(asked.low, asked.high, first[of], end[of], at, segment.alive))
                in_part.append(names)
            of_segment = distinct(np.concatenate(rows))
            found.append(of_segment[segment.alive[of_segment]] | (number << _ROW_BITS))
        return np.concatenate(found), distinct(np.concatenate(in_part))

    def having(self, index: str, values: np.ndarray) -> np.ndarray:
        """Those of `values`, ascending, that the `index` column of some live row has."""
        values, found = distinct(values), [np.empty(0, np.int64)]
        for segment in self._segments:
            where = segment.indexes[index]
            names, first, end = where.ranges(values)
            is_live = segment.alive[where.rows(first)]
            for i in np.flatnonzero(~is_live):
                is_live[i] = segment.alive[where.rows(np.arange(first[i], end[i]))].any()
            found.append(names[is_live])
        return distinct(np.concatenate(found))

    def all_rows(self, columns: list[str] | None = None) -> pa.Table:
        """Every live row. Costs the whole table: for rebuilds and tests."""
        names = columns or self.schema.names
        parts = [s.live(names) for s in self._segments]
        return (
            pa.concat_tables(parts)
            if parts
            else pa.schema([self.schema.field(n) for n in names]).empty_table()
        )

    def replace(self, dead: np.ndarray, rows: pa.Table) -> None:
        """Drop the rows at positions `dead` and add `rows`."""
        numbers = dead >> _ROW_BITS
        for number in distinct(numbers):
            segment = self._segments[number]
            at = dead[numbers == number] & _ROW_MASK
            at = at[segment.alive[at]]
            self._killed.append((segment, at))
            segment.alive[at] = False
            segment.dead_count += len(at)
        self.add(rows)

    def settle(self) -> None:
        """Keep what was changed: it is published."""
        self._merge()
        self._settled_count, self._killed = len(self._segments), []

    def undo(self) -> None:
        """Restore the rows as of the last `settle` or `load`. The cost depends on what was changed since."""
        del self._segments[self._settled_count :]
        for segment, at in self._killed:
            segment.alive[at] = True
            segment.dead_count = len(segment.alive) - int(np.count_nonzero(segment.alive))
        self._killed = []

    def add(self, rows: pa.Table) -> None:
        """Add `rows`; positions stay valid."""
        rows = in_schema(rows.select(self.schema.names), self.schema)
        self._segments += [self._made(part.num_rows, part.select) for part in self._parts(rows)]

    def _parts(self, rows: pa.Table) -> Iterator[pa.Table]:
        """`rows` in runs that a segment may hold."""
        count = rows.num_rows
        if count > 1 and (count > _MOST_ROWS or self._nbytes(rows) > _MOST_BYTES):
            yield from self._parts(rows[: count // 2])
            yield from self._parts(rows[count // 2 :])
        elif count:
            yield rows

    def _nbytes(self, rows: pa.Table) -> int:
        return max((rows[name].nbytes for name in self._long if name in rows.column_names), default=0)

    def _merge(self) -> None:
        self._segments = [s for s in self._segments if s.dead_count < len(s.alive)]
        while len(self._segments) > 1:
            last, before = self._segments[-1], self._segments[-2]
            if len(before.alive) > _MERGE_FACTOR * len(last.alive) or not self._is_room_for(before, last):
                break
            self._segments[-2:] = [self._merged(before, last)]
        # What is too large to be merged with others loses its dead rows by itself.
        for at, segment in enumerate(self._segments[:-1]):
            if 2 * segment.dead_count > len(segment.alive) and not self._is_room_for(
                *[segment] * _MERGE_FACTOR
            ):
                self._segments[at] = self._merged(segment)

    @staticmethod
    def _is_room_for(*segments: _Segment) -> bool:
        """Whether one segment can hold what these do."""
        count, nbytes = (sum(of) for of in zip(*((len(s.alive), s.nbytes) for s in segments), strict=True))
        return count <= _MOST_ROWS and nbytes <= _MOST_BYTES

    def _merged(self, *segments: _Segment) -> _Segment:
        count = sum(len(s.alive) - s.dead_count for s in segments)
        return self._made(count, lambda names: pa.concat_tables([s.live(names) for s in segments]))

    def _order(self, columns: Callable[[list[str]], pa.Table]) -> pa.Array | None:
        """The rows in the order in which a segment has them; None where they are."""
        by = numpy_of(columns([self.indexes[0]]).column(0))
        if self._then is not None:
            order = ordered_pairs(by, numpy_of(columns([self._then]).column(0)))
            return None if order is None else pa.array(order)
        return None if is_ascending(by) else pa.array(np.argsort(by))

    def _made(self, count: int, columns: Callable[[list[str]], pa.Table]) -> _Segment:
        """A segment of so many rows, given column by column."""
        first = self.indexes[0]
        order = self._order(columns)

        nbytes = 0

        def in_order(names: list[str]) -> pa.Table:
            nonlocal nbytes
            rows = columns(names)
            nbytes = max(nbytes, self._nbytes(rows))
            return (rows if order is None else rows.take(order)).combine_chunks()

        alive = np.ones(count, bool)
        if count < PACKED_FROM:
            rows = in_order(self.schema.names)
            indexes = {name: SortedIndex(numpy_of(whole(rows[name]))) for name in self.indexes}
            return _Segment(rows, indexes, alive, nbytes)
        packed = packed_rows(self.schema, count, lambda n: whole(in_order([n]).column(0)), self._known, first)
        indexes = {name: SortedIndex(packed.all_numbers(name), packed.numbers(name)) for name in self.indexes}
        return _Segment(packed, indexes, alive, nbytes)


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether every value of a type has as many bytes as any other."""
    return not (pa.types.is_nested(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind))


def loaded(
    schema: pa.Schema,
    indexes: Iterable[str],
    rows: pa.Table,
    known: Known = NOTHING_KNOWN,
    then: str | None = None,
) -> KeyedRows:
    """KeyedRows that hold `rows`."""
    held = KeyedRows(schema, indexes, known, then)
    held.load(rows)
    return held
