"""Shared identifiers: a kiosk, a family tablet, a support desk's address. They are cut before components.

u1 ── kiosk ── u2      the kiosk is seen directly with two user_ids and a person may have one: shared.
                       Cut, it joins nobody; afterwards it is given to the one it knows best (its host).

A weak identifier that attaches (`weak_identifiers: attach`) is judged in the same way and more strictly, and is never
given to anybody: cut, it stands alone.
"""

from __future__ import annotations

import numpy as np

from conf.policy import Policy
from transforms.arrays.integers import distinct_first, groups_of_pairs, is_in, places_in, union
from transforms.identity.evidence import MERGE_CODE, Evidence
from transforms.identity.joined import Joined
from transforms.identity.nodes import Nodes
from transforms.identity.order import believed_order


def judge_shared(
    ids: np.ndarray, pairs: Evidence, nodes: Nodes, joined: Joined, policy: Policy
) -> tuple[np.ndarray, np.ndarray]:
    """(is_shared, is_hub) of `ids`, from all the distinct pairs that touch them.

    A hub has more distinct neighbours than its namespace's max_degree. A device or strong node is shared when it is
    seen directly with more values of a namespace than a person may have, its own included; an attached weak node when
    it is seen with more than that namespace's `attach_limit`. Hubs are shared.
    """
    me = np.concatenate([pairs.left, pairs.right])
    other = np.concatenate([pairs.right, pairs.left])
    mine = is_in(me, ids)
    me, other = places_in(ids, me[mine]), other[mine]
    # A person may have any number of sessions and addresses: weak neighbours make nobody a hub.
    other_space = nodes.namespace[nodes.at(other)]
    degree = np.bincount(me[~_attaching(policy)[other_space]], minlength=len(ids))
    space = nodes.namespace[nodes.at(ids)]
    max_degree = np.array([n.max_degree or policy.max_degree for n in policy.namespaces], np.int64)
    is_hub = degree > max_degree[space]
    is_attached = _attaching(policy)[space]
    can_be_shared = (
        np.array([n.strength in ("device", "strong") for n in policy.namespaces])[space] | is_attached
    )
    is_shared = is_hub.copy()
    for code, namespace in enumerate(policy.namespaces):
        if not namespace.is_linking:
            continue
        most = np.where(is_attached, _or_any(namespace.company_limit), _or_any(namespace.value_limit))
        if (most < _ANY).any():
            theirs = other_space == code
            own = np.flatnonzero(space == code)
            met = groups_of_pairs(
                np.concatenate([me[theirs], own]), joined.of(np.concatenate([other[theirs], ids[own]]))
            )
            is_shared |= can_be_shared & (np.bincount(met, minlength=len(ids)) > most)
    return is_shared, is_hub


def without_weak_pairs(evidence: Evidence, nodes: Nodes, policy: Policy) -> Evidence:
    """The evidence without pairs of two weak nodes: each of them is tied to what links, and not to the other."""
    is_weak = _attaching(policy)[nodes.namespace]
    if not is_weak.any():
        return evidence
    keep = ~(is_weak[nodes.at(evidence.left)] & is_weak[nodes.at(evidence.right)])
    return evidence.select(keep)


_ANY = np.iinfo(np.int64).max


def _or_any(limit: int | None) -> int:
    return _ANY if limit is None else limit


def _attaching(policy: Policy) -> np.ndarray:
    return np.array([n.attaches for n in policy.namespaces])


def choose_hosts(ids: np.ndarray, pairs: Evidence, nodes: Nodes, policy: Policy) -> np.ndarray:
    """For each shared node in `ids` the neighbour it is tied to most, among those that are not shared; 0 for none.

    Hubs, weak nodes, and every shared node under `shared_identifier: own_profile`, stand alone, unless somebody has
    decided whose they are.
    """
    hosts = np.zeros(len(ids), np.int64)
    if not len(ids):
        return hosts
    decided = pairs.kind == MERGE_CODE
    asked = np.intersect1d(ids, np.concatenate([pairs.left[decided], pairs.right[decided]]))
    if policy.shared_identifier != "own_profile":
        rows = nodes.at(ids)
        can_be_given = ~nodes.is_hub[rows] & ~_attaching(policy)[nodes.namespace[rows]]
        asked = union(asked, ids[can_be_given])
    # Of millions of pairs those of the few that look for a host have to be ordered.
    pairs = pairs.select(is_in(pairs.left, asked) | is_in(pairs.right, asked))
    order = believed_order(pairs, nodes, policy)
    me = np.concatenate([pairs.left[order], pairs.right[order]])
    other = np.concatenate([pairs.right[order], pairs.left[order]])
    rank = np.concatenate([np.arange(len(order))] * 2)
    other_row = nodes.at(other)
    good = is_in(me, asked) & ~nodes.is_shared[other_row] & ~_attaching(policy)[nodes.namespace[other_row]]
    me, other, rank = me[good], other[good], rank[good]
    by = np.lexsort((rank, me))
    found, first = distinct_first(me[by])
    hosts[places_in(ids, found)] = other[by][first]
    return hosts
