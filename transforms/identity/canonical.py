"""Canonical ids: stable names of persons. The older id survives a merge; a split leaves it with the part that holds
most of the nodes that first carried it; a retired id redirects, and reopens if its own nodes part again.

An id is (batch << 28) + ordinal: opaque to users, never given twice, and smaller means older.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.errors import Refusal
from transforms.arrays.integers import distinct, distinct_counts, distinct_first, is_in, places_in

ORDINAL_BITS = 28


class TooManyPersons(Refusal):
    """One batch makes more new persons than it has ids for."""


def minted_ids(batch_id: int, first: int, count: int) -> np.ndarray:
    """`count` new ids of a batch, after the `first` that it has given already."""
    if first + count > 1 << ORDINAL_BITS:
        raise TooManyPersons(
            f"one batch makes more than {1 << ORDINAL_BITS:,} new persons, and has no more ids; read less at a time "
            "(a stream's max_files_per_trigger or max_offsets_per_trigger, a rebuild's --since and --until)"
        )
    return (np.int64(batch_id) << ORDINAL_BITS) + first + np.arange(count)


@dataclass(frozen=True)
class CanonicalIds:
    """`canonical` per node. `retired` → `successor`: redirects to hold now. `reopened`: redirects to drop."""

    canonical: np.ndarray
    retired: np.ndarray
    successor: np.ndarray
    reopened: np.ndarray


def assign_canonical_ids(
    cluster: np.ndarray,
    current: np.ndarray,
    first: np.ndarray,
    tie: np.ndarray,
    redirects: tuple[np.ndarray, np.ndarray],
    batch_id: int,
) -> CanonicalIds:
    """Ids of clusters 0 … n-1. `cluster`, `current`, `first` and `tie` are per node: its new cluster, the id it
    carries and the id it first carried (0: none yet), its unkeyed hash. Every node of every id in `current` is here,
    and `redirects` = (retired, successor) holds every redirect that points to one of them.
    """
    count = int(cluster.max(initial=-1)) + 1
    cluster_tie = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(cluster_tie, cluster, tie)
    live = distinct(current[current > 0])
    retired, successor = redirects
    # Ids that these persons may have: those they have, and those retired into them. An id that somebody else has,
    # or that was retired into somebody else, is not theirs to take even if a node of theirs first carried it.
    known = distinct(np.concatenate([live, retired]))
    home = _home(known, cluster, current, first, cluster_tie)
    lost = home < 0
    if lost.any():  # its nodes are elsewhere now: it follows its successor
        where = dict(zip(retired.tolist(), successor.tolist(), strict=True))
        home[lost] = [home[np.searchsorted(known, where[int(i)])] for i in known[lost]]
    winner = np.full(count, np.iinfo(np.int64).max)
    is_live = is_in(known, live)
    np.minimum.at(winner, home[is_live], known[is_live])
    # A retired id is the oldest of a person only where the nodes that first carried it are by themselves again.
    reopens = ~is_live & ~lost
    np.minimum.at(winner, home[reopens], known[reopens])
    fresh = np.flatnonzero(winner == np.iinfo(np.int64).max)
    fresh = fresh[np.argsort(cluster_tie[fresh], kind="stable")]
    winner[fresh] = minted_ids(batch_id, 0, len(fresh))
    target = winner[home]
    was = np.zeros(len(known), np.int64)
    was[places_in(known, retired)] = successor
    moved = (known != target) & (was != target)
    reopened = known[~is_live & (known == target)]
    return CanonicalIds(winner[cluster], known[moved], target[moved], reopened)


def _home(
    known: np.ndarray, cluster: np.ndarray, current: np.ndarray, first: np.ndarray, cluster_tie: np.ndarray
) -> np.ndarray:
    """For each known id the cluster with most of its first carriers; where it has none here, with most of its
    present ones; -1 where it has neither. Ties by the cluster's smallest unkeyed hash."""
    home = np.full(len(known), -1, np.int64)
    for carried in (current, first):  # the later one overrides
        mine = is_in(carried, known) if len(known) else np.zeros(len(carried), bool)
        index = places_in(known, carried[mine])
        key, votes = distinct_counts(index * len(cluster_tie) + cluster[mine])
        which, where = key // max(len(cluster_tie), 1), key % max(len(cluster_tie), 1)
        by = np.lexsort((cluster_tie[where], -votes, which))
        ids, at = distinct_first(which[by])
        home[ids] = where[by][at]
    return home
