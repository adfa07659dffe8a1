"""TableRows: the interface of KeyedRows over a published table; what is found is cached for one batch.

    find("component", {7, 9})      7 was asked before in this batch, 9 was not
        │  fetch what 9 finds ──▶ published rows ──▶ without those whose key is known here ──▶ kept
        ▼
    the kept rows that 7 or 9 finds

A row's *key is known* once it was fetched by any index, or written by this batch. From then on what is kept here is
the truth about it, moved or deleted as it may be: its published form is never let in again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import RLock

import numpy as np
import pyarrow as pa

from pipelines.state.keyed_rows import KeyedRows, numpy_of
from transforms.activity.windows import Windows
from transforms.arrays.integers import distinct, union, without

# Values by index → the published rows that one of them finds, each once, in the schema of the rows.
Fetch = Callable[[Mapping[str, np.ndarray]], pa.Table]


class TableRows:
    """Rows of `schema` out of a published table; `key` names the columns (integers) that tell its rows apart.

    No value of an index is fetched twice. Several threads may ask; one may `replace`.
    """

    def __init__(
        self,
        schema: pa.Schema,
        indexes: Iterable[str],
        key: tuple[str, ...],
        fetch: Fetch,
        then: str | None = None,
    ) -> None:
        self._held = KeyedRows(schema, indexes, then=then)
        self._key, self._fetch = key, fetch
        self._asked = dict.fromkeys(self._held.indexes, np.empty(0, np.int64))
        self._known = self._keys(schema.empty_table())
        self._lock = RLock()

    def __len__(self) -> int:
        """Rows kept here, not those of the table."""
        return len(self._held)

    def ask(self, asked: Mapping[str, np.ndarray]) -> None:
        """Cache the rows that `asked` (values by index) finds, with one look-up for all that is not cached yet."""
        with self._lock:
            fresh = {i: without(values, self._asked[i]) for i, values in asked.items()}
            fresh = {i: values for i, values in fresh.items() if len(values)}
            if not fresh:
                return
            rows = self._fetch(fresh)
            keys = self._keys(rows)
            is_new = ~np.isin(keys, self._known)  # a key may have several columns
            self._held.add(rows.filter(pa.array(is_new)))
            self._known = np.concatenate([self._known, keys[is_new]])
            for index, values in fresh.items():
                self._asked[index] = union(self._asked[index], values)

    def find(self, index: str, values: np.ndarray) -> np.ndarray:
        """Positions of the rows with one of these values in an indexed column."""
        return self.find_any({index: values})

    def find_any(self, asked: Mapping[str, np.ndarray]) -> np.ndarray:
        """Positions of the rows with one of the asked values in any of these columns."""
        self.ask(asked)
        return self._held.find_any(asked)

    def take(self, positions: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows at these positions."""
        return self._held.take(positions, columns)

    def rows(self, index: str, values: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows with one of these values in an indexed column."""
        return self.take(self.find(index, values), columns)

    def near(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """A look-up scans the table, whatever is asked of it: all rows of the anchors are fetched."""
        self.ask({self._held.indexes[0]: distinct(windows.anchor)})
        return self._held.near(windows)

    def having(self, index: str, values: np.ndarray) -> np.ndarray:
        """Those of `values` that some row has in this column."""
        self.ask({index: values})
        return self._held.having(index, values)

    def all_rows(self, columns: list[str] | None = None) -> pa.Table:
        """Every row kept here."""
        return self._held.all_rows(columns)

    def replace(self, dead: np.ndarray, rows: pa.Table) -> None:
        """Remove the rows at positions `dead` and add `rows`."""
        with self._lock:
            self._held.replace(dead, rows)
            self._known = np.concatenate([self._known, self._keys(rows)])

    def settle(self) -> None:
        """The batch is published: forget what was cached."""
        self.forget()

    def undo(self) -> None:
        """Forget everything: rows that were looked up are not distinguished from rows that the batch wrote."""
        self.forget()

    def forget(self) -> None:
        """Keep nothing. The table that was read from is not the latest any more, so nothing may be asked either."""
        with self._lock:
            self._held.load(self._held.schema.empty_table())
            self._known = self._known[:0]
            self._asked = {index: values[:0] for index, values in self._asked.items()}
            self._fetch = _no_more

    def _keys(self, rows: pa.Table) -> np.ndarray:
        """One comparable value per row."""
        if len(self._key) == 1:
            return numpy_of(rows[self._key[0]]).astype(np.int64)
        keys = np.empty(rows.num_rows, dtype=[(name, np.int64) for name in self._key])
        for name in self._key:
            keys[name] = numpy_of(rows[name])
        return keys


def _no_more(asked: Mapping[str, np.ndarray]) -> pa.Table:
    raise RuntimeError("rows of a batch that is over were asked for")
