"""Connected components behind one interface: `engine(node_count, left, right) -> label per node`.

This is the driver's engine; GraphFrames implements the same interface in the pipelines. Labels are arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as scipy_components

Components = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


def driver_components(node_count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Union of nodes 0 … node_count-1 along the edges (left[i], right[i])."""
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(node_count, node_count))
    return scipy_components(graph, directed=False)[1].astype(np.int64)
