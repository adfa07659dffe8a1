"""Evidence: the pairs of linking identifiers that a batch of events shows together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.arrays.integers import pair_order

OBSERVED, ALIAS, MERGE = "observed", "alias", "merge"
# In the order of belief, the last one most: seen together, asked for by an event, decided by a person.
KINDS: tuple[str, ...] = (OBSERVED, ALIAS, MERGE)
OBSERVED_CODE, ALIAS_CODE, MERGE_CODE = range(len(KINDS))


@dataclass(frozen=True)
class Evidence:
    """Aggregated edges of one batch, one row per (pair, source, kind), smaller node first, sorted.

    Instants are microseconds UTC. Counts, first and last seen merge by sum, min and max, so that neither order nor
    batching can matter.
    """

    left: np.ndarray
    right: np.ndarray
    source: np.ndarray
    kind: np.ndarray
    count: np.ndarray
    first_seen: np.ndarray
    last_seen: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def select(self, mask_or_rows: np.ndarray) -> Evidence:
        """The evidence of these rows."""
        return Evidence(*(getattr(self, f.name)[mask_or_rows] for f in fields(self)))


PAIRS_AT_ONCE = 1 << 21  # pairs of a batch's records that are folded together
_NONE, _NO_CODES = np.empty(0, np.int64), np.empty(0, np.int32)
NO_EVIDENCE = Evidence(_NONE, _NONE, _NO_CODES, _NO_CODES, _NONE, _NONE, _NONE)


def kind_codes(event_type: pa.ChunkedArray) -> np.ndarray:
    """0 where identifiers were merely seen together, 1 where the event asks for a merge (`alias`)."""
    return pc.fill_null(pc.equal(event_type, "alias"), False).to_numpy(zero_copy_only=False).astype(np.int32)


def pairs_of(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, left, right) of every pair inside each list, smaller value first."""
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)
    sizes = np.diff(offsets)
    rows, lefts, rights = [], [], []
    for size in np.unique(sizes[sizes > 1]):
        which = np.flatnonzero(sizes == size)
        block = values[offsets[which][:, None] + np.arange(size)]
        a, b = np.triu_indices(int(size), 1)
        rows.append(np.repeat(which, len(a)))
        lefts.append(block[:, a].ravel())
        rights.append(block[:, b].ravel())
    if not rows:
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    row, x, y = np.concatenate(rows), np.concatenate(lefts), np.concatenate(rights)
    return row, np.minimum(x, y), np.maximum(x, y)


def gather_evidence(
    lists: pa.ListArray, source: np.ndarray, kind: np.ndarray, event_at: np.ndarray
) -> Evidence:
    """One row per (pair, source, kind) of the events' linking identifiers, with count, first and last seen.

    A record of 50 identifiers shows 1,225 pairs. They are folded portion by portion, so that a batch of such records
    takes the memory of the pairs that differ, and not of all that it shows.
    """

    def seen_in(portion: pa.ListArray, first: int) -> Evidence:
        row, left, right = pairs_of(portion)
        row += first
        count, at = np.ones(len(row), np.int64), event_at[row]
        return merge_evidence(Evidence(left, right, source[row], kind[row], count, at, at))

    return _folded(seen_in(portion, first) for first, portion in portions_of_pairs(lists))


def different_pairs(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) of each pair that is inside some list, smaller value first, once."""
    zeros = np.zeros(len(lists), np.int64)
    pairs = gather_evidence(lists, zeros.astype(np.int16), zeros.astype(np.int16), zeros)
    return pairs.left, pairs.right


def portions_of_pairs(lists: pa.ListArray) -> Iterator[tuple[int, pa.ListArray]]:
    """(first row, lists): the lists in their order, as many at a time as have PAIRS_AT_ONCE pairs, and at least one."""
    sizes = np.diff(lists.offsets.to_numpy()).astype(np.int64)
    until = np.cumsum(sizes * (sizes - 1) // 2)
    first = 0
    while first < len(lists):
        before = int(until[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(until, before + PAIRS_AT_ONCE, "right")))
        yield first, lists.slice(first, end - first)
        first = end


def _folded(parts: Iterable[Evidence]) -> Evidence:
    """Evidence of several portions as one. Not folded after each of them: what there is would be sorted every time."""
    waiting: list[Evidence] = []
    for part in parts:
        waiting.append(part)
        if len(waiting) > 2 and sum(map(len, waiting[1:])) > len(waiting[0]):
            waiting = [_as_one(waiting)]
    return waiting[0] if len(waiting) == 1 else _as_one(waiting)


def _as_one(parts: list[Evidence]) -> Evidence:
    """The parts merged; the list is emptied, so that memory need not hold them beside that."""
    together = concat_evidence(NO_EVIDENCE, *parts)
    parts.clear()
    return merge_evidence(together)


def merge_evidence(e: Evidence) -> Evidence:
    """Rows of the same (pair, source, kind) as one, sorted by it."""
    if not len(e):
        return e
    order = pair_order(e.left, e.right, e.source.astype(np.int64) * len(KINDS) + e.kind)
    left, right, source, kind = e.left[order], e.right[order], e.source[order], e.kind[order]
    new = np.ones(len(order), bool)
    new[1:] = (
        (left[1:] != left[:-1])
        | (right[1:] != right[:-1])
        | (source[1:] != source[:-1])
        | (kind[1:] != kind[:-1])
    )
    at = np.flatnonzero(new)
    return Evidence(
        left[at],
        right[at],
        source[at],
        kind[at],
        np.add.reduceat(e.count[order], at),
        np.minimum.reduceat(e.first_seen[order], at),
        np.maximum.reduceat(e.last_seen[order], at),
    )


def concat_evidence(*parts: Evidence) -> Evidence:
    """The rows of all parts, one after the other."""
    return Evidence(*(np.concatenate([getattr(p, f) for p in parts]) for f in Evidence.__dataclass_fields__))


def per_pair(e: Evidence) -> Evidence:
    """Evidence over all sources and kinds: one row per pair; `kind` is the strongest."""
    if not len(e):
        return e
    order = pair_order(e.left, e.right, np.zeros(len(e), np.int64))
    left, right = e.left[order], e.right[order]
    new = np.ones(len(order), bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    at = np.flatnonzero(new)
    return Evidence(
        left[at],
        right[at],
        np.zeros(len(at), np.int32),
        np.maximum.reduceat(e.kind[order], at),
        np.add.reduceat(e.count[order], at),
        np.minimum.reduceat(e.first_seen[order], at),
        np.maximum.reduceat(e.last_seen[order], at),
    )
