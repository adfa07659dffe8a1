"""Evidence: the pairs of linking identifiers that a batch of events shows together."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.integers import pair_order

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
        return Evidence(*(getattr(self, f.name)[mask_or_rows] for f in fields(self)))


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
    """One row per (pair, source, kind) of the events' linking identifiers, with count, first and last seen."""
    row, left, right = pairs_of(lists)
    return merge_evidence(
        Evidence(
            left, right, source[row], kind[row], np.ones(len(row), np.int64), event_at[row], event_at[row]
        )
    )


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
