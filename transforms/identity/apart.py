"""Keep-apart decisions: nodes that must not belong to one person.

split, do-not-merge:   side 0: c1 c2      side 1: u1 d1        no person holds nodes of both sides
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.arrays.integers import is_in, places_in

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Sides:
    """One row per (node, decision): the side (0 or 1) that a decision in force puts the node on."""

    node: np.ndarray
    decision: np.ndarray
    side: np.ndarray

    def __len__(self) -> int:
        return len(self.node)

    def select(self, keep: np.ndarray) -> Sides:
        """The rows to keep."""
        return Sides(self.node[keep], self.decision[keep], self.side[keep])

    def per_node(self, ids: np.ndarray) -> dict[int, frozenset[tuple[int, int]]]:
        """Row number in `ids` (sorted) → the (decision, side) of that node, for nodes that have any."""
        found: dict[int, set[tuple[int, int]]] = {}
        rows = self.select(is_in(self.node, ids))
        for row, decision, side in zip(
            places_in(ids, rows.node).tolist(), rows.decision.tolist(), rows.side.tolist(), strict=True
        ):
            found.setdefault(row, set()).add((decision, side))
        return {row: frozenset(sides) for row, sides in found.items()}


NO_SIDES = Sides(_NONE, _NONE, _NONE)


def opposed(a: frozenset[tuple[int, int]], b: frozenset[tuple[int, int]]) -> bool:
    """Whether some decision puts `a` and `b` on different sides."""
    return any((decision, 1 - side) in b for decision, side in a)


def holds_both_sides(ids: np.ndarray, group: np.ndarray, group_count: int, sides: Sides) -> np.ndarray:
    """For groups 0 … group_count-1 of the nodes `ids` (sorted): does the group hold both sides of a decision?"""
    broken = np.zeros(group_count, bool)
    rows = sides.select(is_in(sides.node, ids))
    if not len(rows):
        return broken
    place = np.stack([group[places_in(ids, rows.node)], rows.decision, rows.side], axis=1)
    place = np.unique(place, axis=0)
    both = (place[1:, 0] == place[:-1, 0]) & (place[1:, 1] == place[:-1, 1])
    broken[place[1:, 0][both]] = True
    return broken
