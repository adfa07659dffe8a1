"""Finds rows of ops.batches without reading all of them: the cost depends on the rows asked for, not on the history.

Which files may have a batch is in the statistics of the table's log; files are few, because upkeep joins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from conf.tables import BATCHES
from pipelines.lake.lake import Lake
from pipelines.runtime.contained import contained

UPKEEP = "upkeep"  # the kind of batch whose metrics say, for all batches up to it:
OLDEST_READABLE = "oldest_readable_batch_id"  # the oldest that can be read as it was
RECORDS_UP_TO_HERE = "record_count_up_to_here"  # how many records all have put into bronze.events
_NUMBER = "batch_id"
_ROWS_AT_ONCE = 256


class BatchRows:
    """The table as it was opened. Columns that it does not have yet read as null."""

    def __init__(self, lake: Lake, table: DeltaTable | None = None) -> None:
        folder = lake.table_path(BATCHES)
        files = pa.table((table or lake.open(BATCHES)).get_add_actions(flatten=True))
        bounds = (
            files[name].to_pylist() if name in files.column_names else [None] * files.num_rows
            for name in (f"min.{_NUMBER}", f"max.{_NUMBER}")
        )
        # (first batch, last batch, path), the newest first.
        self._files: list[tuple[int, int, str]] = []
        for low, high, path in zip(*bounds, files["path"].to_pylist(), strict=True):
            place = str(contained(folder, unquote(path)))
            if low is None or high is None:  # somebody has written it without statistics
                low, high = _bounds(place)
            if low is not None and high is not None:
                self._files.append((low, high, place))
        self._files.sort(key=lambda file: (-file[1], file[2]))

    def last(self) -> int | None:
        """The number of the last published batch; None where there is none."""
        return max((last for _, last, _ in self._files), default=None)

    def first(self) -> int | None:
        """The number of the first one."""
        return min((first for first, _, _ in self._files), default=None)

    def between(self, columns: list[str], first: int = 0, last: int = 2**63 - 1) -> pa.Table:
        """The rows of the batches from `first` to `last`, in order."""
        paths = [file[2] for file in self._files if file[0] <= last and file[1] >= first]
        wanted = list(dict.fromkeys([_NUMBER, *columns]))
        if not paths:
            return BATCHES.arrow.empty_table().select(columns)
        number = pc.field(_NUMBER)
        rows = ds.dataset(paths, schema=BATCHES.arrow, format="parquet").to_table(
            columns=wanted, filter=(number >= first) & (number <= last)
        )
        return rows.sort_by(_NUMBER).select(columns)

    def newest_first(
        self, columns: list[str], upto: int = 2**63 - 1, where: pc.Expression | None = None
    ) -> Iterator[dict]:
        """The rows up to a batch, the newest one first. For whoever stops early no more is read than one row group
        beyond what he has seen. `where` may ask for these columns."""
        wanted = list(dict.fromkeys([_NUMBER, *columns]))
        keep = pc.field(_NUMBER) <= upto if where is None else (pc.field(_NUMBER) <= upto) & where
        files = [file for file in self._files if file[0] <= upto]
        waiting = BATCHES.arrow.empty_table().select(wanted)
        for at, file in enumerate(files):
            dataset = ds.dataset(file[2], schema=BATCHES.arrow, format="parquet")
            groups = [g for fragment in dataset.get_fragments() for g in fragment.split_by_row_group()]
            # Files that were joined out of order overlap: a row waits until nothing newer can come.
            newest_left = files[at + 1][1] if at + 1 < len(files) else -1
            for left, group in zip(reversed(range(len(groups))), reversed(groups), strict=True):
                rows = group.to_table(schema=BATCHES.arrow, columns=wanted).filter(keep)
                waiting = pa.concat_tables([waiting, rows]).sort_by([(_NUMBER, "descending")])
                bound = newest_left if not left else max(newest_left, _newest_of(groups[:left]))
                ready = pc.sum(pc.greater(waiting[_NUMBER], bound)).as_py() or 0
                for start in range(0, ready, _ROWS_AT_ONCE):
                    yield from waiting.slice(start, min(_ROWS_AT_ONCE, ready - start)).to_pylist()
                waiting = waiting.slice(ready)

    def last_upkeep(self, columns: list[str], upto: int = 2**63 - 1) -> dict | None:
        """The row of the newest upkeep up to a batch; None where there was none. Until there is one, reads all."""
        return next(self.newest_first([*columns, "kind"], upto, pc.field("kind") == UPKEEP), None)

    def record_count(self, upto: int) -> int:
        """How many records the batches up to `upto` have put into bronze.events; corrections are none."""
        total, since = 0, 0
        for row in self.newest_first(["kind", "metrics"], upto, pc.field("kind") == UPKEEP):
            if (counted := dict(row["metrics"] or ()).get(RECORDS_UP_TO_HERE)) is not None:
                total, since = counted, row[_NUMBER] + 1
                break
        rows = self.between(["kind", "record_count"], since, upto)
        return total + (pc.sum(rows.filter(pc.field("kind") != "replay")["record_count"]).as_py() or 0)


def _bounds(file: str) -> tuple[int | None, int | None]:
    """The first and last batch with rows in a file."""
    numbers = ds.dataset(file, format="parquet").to_table(columns=[_NUMBER])[_NUMBER]
    return pc.min(numbers).as_py(), pc.max(numbers).as_py()


def _newest_of(groups: list[ds.Fragment]) -> int:
    """The newest batch that row groups may have, by their statistics."""
    statistics = [group.row_groups[0].statistics for group in groups]
    return max(s[_NUMBER]["max"] if s and _NUMBER in s else 2**63 - 2 for s in statistics)
