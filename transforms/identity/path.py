"""The shortest chain of evidence between two nodes, and among equally short ones the best supported."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count


def shortest_path(pairs: Iterable[tuple[int, int, int]], start: int, end: int) -> list[int] | None:
    """The nodes from `start` to `end` over `pairs` (left, right, evidence count); None where nothing connects them.

    Fewest steps; then the one whose weakest step has most evidence; then the smallest nodes.
    """
    near: dict[int, dict[int, int]] = {}
    for left, right, support in pairs:
        for a, b in ((left, right), (right, left)):
            near.setdefault(a, {})[b] = max(support, near.get(a, {}).get(b, 0))
    serial = count()
    waiting: list[tuple[int, int, int, int, list[int]]] = [(0, -(2**62), next(serial), start, [start])]
    seen: set[int] = set()
    while waiting:
        steps, weakest, _, node, path = heappop(waiting)
        if node == end:
            return path
        if node in seen:
            continue
        seen.add(node)
        for other, support in sorted(near.get(node, {}).items()):
            if other not in seen:
                heappush(waiting, (steps + 1, max(weakest, -support), next(serial), other, [*path, other]))
    return None
