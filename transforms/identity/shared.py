"""Shared identifiers: a kiosk, a family tablet, a support desk's address. They are cut before components.

u1 ── kiosk ── u2      the kiosk is seen directly with two user_ids and a person may have one: shared.
                       Cut, it joins nobody; afterwards it is given to the one it knows best (its host).
"""

from __future__ import annotations

import numpy as np

from conf.policy import Policy
from transforms.identity.evidence import MERGE_CODE, Evidence
from transforms.identity.joined import Joined
from transforms.identity.nodes import Nodes
from transforms.identity.order import believed_order


def judge_shared(
    ids: np.ndarray, pairs: Evidence, nodes: Nodes, joined: Joined, policy: Policy
) -> tuple[np.ndarray, np.ndarray]:
    """(is_shared, is_hub) of `ids`, from all the distinct pairs that touch them.

    A hub has more distinct neighbours than its namespace's max_degree. A device or strong node is shared when it is
    seen directly with more values of a namespace than a person may have, its own included. Hubs are shared.
    """
    me = np.concatenate([pairs.left, pairs.right])
    other = np.concatenate([pairs.right, pairs.left])
    mine = np.isin(me, ids)
    me, other = np.searchsorted(ids, me[mine]), other[mine]
    degree = np.bincount(me, minlength=len(ids))
    space = nodes.namespace[nodes.at(ids)]
    max_degree = np.array([n.max_degree or policy.max_degree for n in policy.namespaces], np.int64)
    is_hub = degree > max_degree[space]
    can_be_shared = np.array([n.strength in ("device", "strong") for n in policy.namespaces])[space]
    other_space = nodes.namespace[nodes.at(other)]
    is_shared = is_hub.copy()
    for code, namespace in enumerate(policy.namespaces):
        if namespace.value_limit is not None and namespace.is_linking:
            theirs = other_space == code
            met = np.stack([me[theirs], joined.of(other[theirs])], axis=1)
            own = np.stack([np.arange(len(ids)), joined.of(ids)], axis=1)[space == code]
            met = np.unique(np.concatenate([met, own]), axis=0)[:, 0]
            is_shared |= can_be_shared & (np.bincount(met, minlength=len(ids)) > namespace.value_limit)
    return is_shared, is_hub


def choose_hosts(ids: np.ndarray, pairs: Evidence, nodes: Nodes, policy: Policy) -> np.ndarray:
    """For each shared node in `ids` the neighbour it is tied to most, among those that are not shared; 0 for none.

    Hubs, and every shared node under `shared_identifier: own_profile`, stand alone, unless somebody has decided whose
    they are.
    """
    hosts = np.zeros(len(ids), np.int64)
    if not len(ids):
        return hosts
    decided = pairs.kind == MERGE_CODE
    standing = np.intersect1d(ids, np.concatenate([pairs.left[decided], pairs.right[decided]]))
    if policy.shared_identifier != "own_profile":
        standing = np.union1d(standing, ids[~nodes.is_hub[nodes.at(ids)]])
    order = believed_order(pairs, nodes, policy)
    me = np.concatenate([pairs.left[order], pairs.right[order]])
    other = np.concatenate([pairs.right[order], pairs.left[order]])
    rank = np.concatenate([np.arange(len(order))] * 2)
    good = np.isin(me, standing) & ~nodes.is_shared[nodes.at(other)]
    me, other, rank = me[good], other[good], rank[good]
    by = np.lexsort((rank, me))
    found, first = np.unique(me[by], return_index=True)
    hosts[np.searchsorted(ids, found)] = other[by][first]
    return hosts
