"""Constrained clustering: a component that holds more than one person is divided by believing evidence in order.

u1 ─ phone ─ laptop ─ u2     every edge is plausible, all of them together are not: the least believed one that
                             would join u1 and u2 is refused, with the limit and the pair that stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.policy import Policy
from transforms.identity.evidence import Evidence
from transforms.identity.nodes import Nodes
from transforms.identity.order import believed_order


@dataclass(frozen=True)
class Refusals:
    """One refused pair a row: the namespace whose limit it would break (code), and one value of it on each side."""

    left: np.ndarray
    right: np.ndarray
    namespace: np.ndarray
    blocking_left: np.ndarray
    blocking_right: np.ndarray

    def __len__(self) -> int:
        return len(self.left)


_NONE = np.empty(0, np.int64)
NO_REFUSALS = Refusals(_NONE, _NONE, _NONE, _NONE, _NONE)


def limited_namespaces(policy: Policy) -> list[tuple[int, int]]:
    """(code, values a person may have) of every linking namespace that has a limit."""
    return [
        (i, n.value_limit)
        for i, n in enumerate(policy.namespaces)
        if n.is_linking and n.value_limit is not None
    ]


def breaks_limit(group: np.ndarray, namespace: np.ndarray, group_count: int, policy: Policy) -> np.ndarray:
    """For groups 0 … group_count-1 of nodes: does the group hold more values of a namespace than a person may?"""
    broken = np.zeros(group_count, bool)
    for code, limit in limited_namespaces(policy):
        broken |= np.bincount(group[namespace == code], minlength=group_count) > limit
    return broken


def constrained_clusters(nodes: Nodes, pairs: Evidence, policy: Policy) -> tuple[np.ndarray, Refusals]:
    """Cluster number of each node, and the refused pairs. `pairs` has one row per pair, both ends in `nodes`.

    Edges are taken most believed first; one is accepted if the union stays within every limit.
    """
    limits = limited_namespaces(policy)
    parent = list(range(len(nodes)))
    space = nodes.namespace.tolist()
    limited = dict(limits)
    values: list[dict[int, list[int]]] = [{s: [i]} if s in limited else {} for i, s in enumerate(space)]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    lefts, rights = nodes.at(pairs.left).tolist(), nodes.at(pairs.right).tolist()
    refused: list[tuple[int, int, int, int]] = []
    for row in believed_order(pairs, nodes, policy).tolist():
        a, b = root(lefts[row]), root(rights[row])
        if a == b:
            continue
        va, vb = values[a], values[b]
        blocked = next(
            (s for s, limit in limits if s in va and s in vb and len(va[s]) + len(vb[s]) > limit), None
        )
        if blocked is not None:
            refused.append((row, blocked, _witness(va[blocked], nodes), _witness(vb[blocked], nodes)))
            continue
        if sum(map(len, va.values())) < sum(map(len, vb.values())):
            a, b = b, a
            va, vb = vb, va
        parent[b] = a
        for s, members in vb.items():
            va.setdefault(s, []).extend(members)
        values[b] = {}
    labels = np.unique([root(i) for i in range(len(nodes))], return_inverse=True)[1]
    rows = np.array(refused, np.int64).reshape(-1, 4)
    return labels, Refusals(
        pairs.left[rows[:, 0]],
        pairs.right[rows[:, 0]],
        rows[:, 1],
        nodes.id[rows[:, 2]],
        nodes.id[rows[:, 3]],
    )


def _witness(members: list[int], nodes: Nodes) -> int:
    """The member to name as blocking: the smallest by unkeyed hash, so that every run names the same."""
    return min(members, key=lambda i: int(nodes.tie[i]))
