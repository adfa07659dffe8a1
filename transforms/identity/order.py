"""The total order of evidence, strongest first, for components that break a limit.

1. An explicit wish (`alias`) before what was merely seen together.
2. The better namespaces: the pair's best priority, then its other one.
3. More support, in powers of two, so that people do not flip with every event.
4. Seen earlier.
5. An unkeyed hash of the pair: no secret, no row order.
"""

from __future__ import annotations

import numpy as np

from conf.policy import Policy
from transforms.identity.evidence import Evidence
from transforms.identity.nodes import Nodes


def support_bucket(count: np.ndarray) -> np.ndarray:
    """floor(log2(count)): 1 → 0, 2–3 → 1, 4–7 → 2, …"""
    return np.frexp(count.astype(np.float64))[1].astype(np.int64) - 1


def pair_hash(left_tie: np.ndarray, right_tie: np.ndarray) -> np.ndarray:
    """A hash of the unordered pair, from the nodes' unkeyed hashes."""
    a, b = left_tie.view(np.uint64), right_tie.view(np.uint64)
    with np.errstate(over="ignore"):
        return _mix(np.minimum(a, b) + np.uint64(0x9E3779B97F4A7C15) * _mix(np.maximum(a, b)))


def believed_order(pairs: Evidence, nodes: Nodes, policy: Policy) -> np.ndarray:
    """Row numbers of `pairs` (one row per pair), most believed first."""
    priority = np.array([n.priority for n in policy.namespaces], np.int64)
    left, right = nodes.at(pairs.left), nodes.at(pairs.right)
    p, q = priority[nodes.namespace[left]], priority[nodes.namespace[right]]
    a, b = nodes.tie[left].view(np.uint64), nodes.tie[right].view(np.uint64)
    return np.lexsort(
        (
            np.maximum(a, b),
            np.minimum(a, b),
            pair_hash(nodes.tie[left], nodes.tie[right]),
            pairs.first_seen,
            -support_bucket(pairs.count),
            np.maximum(p, q),
            np.minimum(p, q),
            -pairs.kind,
        )
    )


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
