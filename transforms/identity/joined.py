"""Joined values: values of one namespace that an `alias` event or a manual merge has declared to be one.

u1 ─alias─ u2 ─merge─ u3      three user_ids, one value: a person may have them all, and a laptop that is seen with
                              u1 and u3 has met one person. What devices they share does not join values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from conf.policy import Policy
from transforms.arrays.integers import distinct, distinct_first, is_in, places_in, union, without
from transforms.identity.components import driver_components
from transforms.identity.evidence import OBSERVED_CODE, Evidence
from transforms.identity.nodes import Nodes, union_of

_NONE = np.empty(0, np.int64)


class MergeRequestLookup(Protocol):
    """The part of the resolver's look-up that joined values are read from."""

    def nodes(self, ids: np.ndarray) -> Nodes:
        """The known nodes among `ids`, sorted by id."""

    def merge_requests_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(left, right) of the pairs that somebody asked to be one, with an end in `ids`."""


@dataclass(frozen=True)
class Joined:
    """`member` (sorted) → `label`: one label per value. Nodes that are not members are values of their own."""

    member: np.ndarray
    label: np.ndarray

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The value that each node stands for, as the id of one of the nodes that do."""
        if not len(self.member):
            return ids
        at = np.minimum(places_in(self.member, ids), len(self.member) - 1)
        return np.where(self.member[at] == ids, self.label[at], ids)

    def with_siblings(self, ids: np.ndarray) -> np.ndarray:
        """`ids` and every node that stands for the same value as one of them, sorted."""
        return union(ids, self.member[is_in(self.label, self.of(ids))])


NOTHING_JOINED = Joined(_NONE, _NONE)


def joined_values(
    asked: Nodes, seen: Nodes, evidence: Evidence, lookup: MergeRequestLookup, policy: Policy
) -> Joined:
    """What the values among `asked`, and the merge requests of a batch, are joined to, however many steps away.

    `seen` and `evidence` are the batch's own nodes and pairs, which the look-up does not know yet.
    """
    limited = np.array([n.is_linking and n.value_limit is not None for n in policy.namespaces])
    requested = evidence.kind > OBSERVED_CODE
    own = (evidence.left[requested], evidence.right[requested])
    lefts, rights = [], []
    known = distinct(asked.id[limited[asked.namespace]])
    frontier = union(known, np.concatenate(own)) if len(own[0]) else known
    known = frontier
    while len(frontier):
        stored = lookup.merge_requests_of(frontier)
        mine = is_in(own[0], frontier) | is_in(own[1], frontier)
        left, right = np.concatenate([stored[0], own[0][mine]]), np.concatenate([stored[1], own[1][mine]])
        if not len(left):
            break
        ends = union(left, right)
        nodes = union_of(lookup.nodes(ends), seen)
        left_space, right_space = nodes.namespace[nodes.at(left)], nodes.namespace[nodes.at(right)]
        same = (left_space == right_space) & limited[left_space]
        lefts.append(left[same])
        rights.append(right[same])
        ends = union(left[same], right[same])
        frontier = without(ends, known)
        known = union(known, ends)
    if not lefts or not sum(map(len, lefts)):
        return NOTHING_JOINED
    left, right = np.concatenate(lefts), np.concatenate(rights)
    member = union(left, right)
    group = driver_components(len(member), places_in(member, left), places_in(member, right))
    _, first = distinct_first(group)
    return Joined(member, member[first][group])
