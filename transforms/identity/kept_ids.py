"""Keeps canonical ids through a rebuild: persons that are resolved anew get the ids that were published.

    before     7: a b c     9: d e     (5 → 7: c once was 5's)
    anew       {a b} {c} {d e f}
    after      7: a b       5: c       9: d e f

1. A live id goes to the person that holds most of its nodes; where several meet, the oldest stays and the others
   redirect to it.
2. A person without one takes back a retired id that most of its first carriers bring; else it gets a new one.
3. A redirect stays as it is, unless its successor is no more or a node that first carried it has moved.

Ties end in the order of persons, which is that of their smallest unkeyed hashes. Where persons are the ones that
were there, nothing changes at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.identity.canonical import minted_ids

_NOBODY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class KeptIds:
    """`canonical` per person. `retired` → `successor`: redirects to write. `dropped`: redirects to take out."""

    canonical: np.ndarray
    retired: np.ndarray
    successor: np.ndarray
    dropped: np.ndarray


def keep_ids(
    person: np.ndarray,
    present: np.ndarray,
    earlier: np.ndarray,
    borne: np.ndarray,
    redirects: tuple[np.ndarray, np.ndarray],
    batch_id: int,
) -> KeptIds:
    """Ids of persons 0 … n-1, numbered in the order in which ties end.

    person, present, earlier: per node its person, the id it carries now (0: none), and the id it carried first, or
    when it was last anybody's (0: never). borne: every id that somebody has now, also through nodes that are no
    more. redirects: every one there is (retired, successor).
    """
    count = int(person.max(initial=-1)) + 1
    live = np.unique(present[present > 0])
    # An id that somebody bears is nobody else's to take back, even where none of its nodes are left.
    asleep = np.setdiff1d(earlier[earlier > 0], borne)
    home, old_home = _home(live, present, person, count), _home(asleep, earlier, person, count)
    canonical = np.full(count, _NOBODY)
    np.minimum.at(canonical, home, live)
    wakes = canonical[old_home] == _NOBODY
    np.minimum.at(canonical, old_home[wakes], asleep[wakes])
    fresh = np.flatnonzero(canonical == _NOBODY)
    canonical[fresh] = minted_ids(batch_id, 0, len(fresh))

    retired, successor = redirects
    by = np.argsort(retired)
    retired, successor = retired[by], successor[by]
    ids = np.unique(np.concatenate([live, asleep, retired]))
    old, target = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    old[np.searchsorted(ids, retired)] = successor
    # Where the old successor's persons are now: its own id, the one that it was retired into, or nobody (0).
    follows = np.zeros(len(ids), np.int64)
    at = np.searchsorted(live, old)
    is_there = np.isin(old, live)
    follows[is_there] = canonical[home[at[is_there]]]
    follows[np.isin(old, canonical)] = old[np.isin(old, canonical)]
    target[:] = follows
    moved = np.unique(earlier[(canonical[person] != present) & (earlier > 0)])
    rows = np.searchsorted(ids, asleep)
    goes_home = np.isin(asleep, moved) | (follows[rows] == 0)
    target[rows[goes_home]] = canonical[old_home[goes_home]]
    target[np.searchsorted(ids, live)] = canonical[home]
    changed = target != old
    written = changed & (target > 0) & (target != ids)
    dropped = changed & (old > 0) & ~written
    return KeptIds(canonical, ids[written], target[written], ids[dropped])


def _home(ids: np.ndarray, carried: np.ndarray, person: np.ndarray, count: int) -> np.ndarray:
    """For each of `ids` (sorted, all of them carried) the person with most of its carriers, the first among equals."""
    mine = np.isin(carried, ids)
    key, votes = np.unique(
        np.searchsorted(ids, carried[mine]) * max(count, 1) + person[mine], return_counts=True
    )
    which, where = key // max(count, 1), key % max(count, 1)
    by = np.lexsort((where, -votes, which))
    return where[by][np.unique(which[by], return_index=True)[1]]
