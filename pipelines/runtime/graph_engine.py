"""Connected components by GraphFrames. This is the only module that imports graphframes.

Two uses: the second opinion on published persons, and a batch's graph that does not fit into the driver's memory. The
driver's own engine is faster at every size that was measured (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from graphframes import GraphFrame
from pyspark.sql import DataFrame, SparkSession

from pipelines.runtime.free_memory import free_memory
from transforms.identity.components import Components, driver_components


def connected_components(vertices: DataFrame, edges: DataFrame, is_small: bool = False) -> DataFrame:
    """(id, component) of every vertex (id) along the edges (src, dst). The caller unpersists it.

    `is_small`: the graph fits into the executors' memory. GraphFrames then runs GraphX, which needs no checkpoints: 1 s
    and not 4 for 26,000 vertices.
    """
    algorithm = "graphx" if is_small else "graphframes"
    return GraphFrame(vertices, edges).connectedComponents(algorithm=algorithm, checkpointInterval=2)


def graphframes_components(spark: SparkSession) -> Components:
    """Implements `Components` on Spark. Leaves no frame cached and no checkpoint behind its result."""

    def solve(node_count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if not len(left):
            return np.arange(node_count)
        edges = spark.createDataFrame(pa.table({"src": left.astype(np.int64), "dst": right.astype(np.int64)}))
        found = connected_components(spark.range(node_count), edges)
        try:
            rows = found.select("id", "component").toArrow()
        finally:
            found.unpersist()
        labels = np.empty(node_count, np.int64)
        labels[rows["id"].to_numpy()] = rows["component"].to_numpy()
        return np.unique(labels, return_inverse=True)[1]

    return solve


# What the driver's engine takes at its peak, measured for 1 and 10 million of each.
NODE_BYTES, EDGE_BYTES = 20, 33
SHARE = 0.5  # of the free memory that one graph may take


def fits_driver(node_count: int, edge_count: int, free_bytes: int | None) -> bool:
    """Whether the driver's engine may solve a graph with `free_bytes` of memory. Yes if that is unknown (None)."""
    needed = node_count * NODE_BYTES + edge_count * EDGE_BYTES
    return free_bytes is None or needed <= SHARE * free_bytes


def choose_components(
    engine: str,
    spark: Callable[[], SparkSession] | SparkSession,
    free_bytes: Callable[[], int | None] = free_memory,
) -> Components:
    """The engine asked for: `driver`, `graphframes`, or `auto`: the driver for every graph that fits into its memory.

    `free_bytes`: asked before each graph. ValueError for another engine.
    """
    if engine == "driver":
        return driver_components
    by_graphframes = graphframes_components(spark() if callable(spark) else spark)
    if engine == "graphframes":
        return by_graphframes
    if engine != "auto":
        raise ValueError(f"engine must be auto, graphframes or driver, not {engine!r}")

    def solve(node_count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        fits = fits_driver(node_count, len(left), free_bytes())
        return (driver_components if fits else by_graphframes)(node_count, left, right)

    return solve
