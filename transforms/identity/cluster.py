"""Constrained clustering: divides a component that holds more than one person, taking the strongest evidence first.

u1 ─ phone ─ laptop ─ u2     every edge is plausible, all of them together are not: the least believed one that
                             would join u1 and u2 is refused, with the limit and the pair that stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conf.policy import Policy
from transforms.identity.apart import Sides, holds_both_sides, opposed
from transforms.identity.evidence import Evidence
from transforms.identity.joined import Joined
from transforms.identity.nodes import Nodes
from transforms.identity.order import believed_order

BY_DECISION = -1  # in place of a namespace: no limit refuses the pair but a manual decision


@dataclass(frozen=True)
class Refusals:
    """One refused pair a row: the namespace whose limit it would break (code), and one value of it on each side.

    A pair that a manual decision keeps apart has BY_DECISION for the namespace, and a node of each of its sides.
    """

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


def breaks_limit(
    nodes: Nodes, group: np.ndarray, group_count: int, joined: Joined, policy: Policy
) -> np.ndarray:
    """For groups 0 … group_count-1 of nodes: does the group hold more values of a namespace than a person may?"""
    broken = np.zeros(group_count, bool)
    for code, limit in limited_namespaces(policy):
        mine = nodes.namespace == code
        groups = group[mine]
        if len(joined.member):
            groups = np.unique(np.stack([groups, joined.of(nodes.id[mine])], axis=1), axis=0)[:, 0]
        broken |= np.bincount(groups, minlength=group_count) > limit
    return broken


def is_no_person(
    nodes: Nodes, group: np.ndarray, group_count: int, joined: Joined, sides: Sides, policy: Policy
) -> np.ndarray:
    """For groups 0 … group_count-1: does the group break a limit, or a decision that keeps nodes apart?"""
    return breaks_limit(nodes, group, group_count, joined, policy) | holds_both_sides(
        nodes.id, group, group_count, sides
    )


def constrained_clusters(
    nodes: Nodes, pairs: Evidence, joined: Joined, sides: Sides, policy: Policy
) -> tuple[np.ndarray, Refusals]:
    """Cluster number of each node, and the refused pairs. `pairs` has one row per pair, both ends in `nodes`.

    Edges are taken most believed first; one is accepted if the union stays within every limit and every decision.
    """
    limits = limited_namespaces(policy)
    parent = list(range(len(nodes)))
    space = nodes.namespace.tolist()
    limited = dict(limits)
    value = joined.of(nodes.id).tolist()
    # Per cluster: namespace → its values, each with the member that speaks for it; and the sides it is on.
    values: list[dict[int, dict[int, int]]] = [
        {s: {value[i]: i}} if s in limited else {} for i, s in enumerate(space)
    ]
    stands = sides.per_node(nodes.id)

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
        if a in stands and b in stands and opposed(stands[a], stands[b]):
            refused.append((row, BY_DECISION, *_opposed_members(a, b, stands, root, sides, nodes)))
            continue
        blocked = next(
            (s for s, limit in limits if s in va and s in vb and len(va[s].keys() | vb[s].keys()) > limit),
            None,
        )
        if blocked is not None:
            refused.append((row, blocked, *_witnesses(va[blocked], vb[blocked], nodes)))
            continue
        if sum(map(len, va.values())) < sum(map(len, vb.values())):
            a, b = b, a
            va, vb = vb, va
        parent[b] = a
        for s, members in vb.items():
            mine = va.setdefault(s, {})
            for v, member in members.items():
                mine[v] = _first(mine.get(v, member), member, nodes)
        values[b] = {}
        if b in stands:
            stands[a] = stands.get(a, frozenset()) | stands.pop(b)
    labels = np.unique([root(i) for i in range(len(nodes))], return_inverse=True)[1]
    rows = np.array(refused, np.int64).reshape(-1, 4)
    return labels, Refusals(
        pairs.left[rows[:, 0]],
        pairs.right[rows[:, 0]],
        rows[:, 1],
        nodes.id[rows[:, 2]],
        nodes.id[rows[:, 3]],
    )


def _witnesses(a: dict[int, int], b: dict[int, int], nodes: Nodes) -> tuple[int, int]:
    """A member of each side to name as blocking: values that the other side has not, the smallest by unkeyed hash,
    so that every run names the same."""
    return tuple(
        min((m for v, m in mine.items() if v not in other), key=lambda i: int(nodes.tie[i]))
        for mine, other in ((a, b), (b, a))
    )  # type: ignore[return-value]


def _first(a: int, b: int, nodes: Nodes) -> int:
    return min(a, b, key=lambda i: int(nodes.tie[i]))


def _opposed_members(
    a: int,
    b: int,
    stands: dict[int, frozenset[tuple[int, int]]],
    root: Callable[[int], int],
    sides: Sides,
    nodes: Nodes,
) -> tuple[int, int]:
    """A member of each cluster whom a decision keeps apart, the smallest by unkeyed hash."""
    per_node = sides.per_node(nodes.id)
    found = []
    for mine, other in ((a, b), (b, a)):
        against = frozenset((decision, 1 - side) for decision, side in stands[other])
        members = [i for i, has in per_node.items() if has & against and root(i) == mine]
        found.append(min(members, key=lambda i: int(nodes.tie[i])))
    return found[0], found[1]
