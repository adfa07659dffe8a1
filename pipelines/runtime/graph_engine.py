"""Connected components by GraphFrames: the engine for graphs that outgrow the driver. The only user of graphframes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from graphframes import GraphFrame
from pyspark.sql import DataFrame, SparkSession

from transforms.identity.components import Components, driver_components


def connected_components(vertices: DataFrame, edges: DataFrame) -> DataFrame:
    """(id, component) of every vertex (id) along the edges (src, dst). The caller unpersists it."""
    return GraphFrame(vertices, edges).connectedComponents(algorithm="graphframes", checkpointInterval=2)


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


def choose_components(
    engine: str, spark: Callable[[], SparkSession] | SparkSession, graphframes_from_edges: int
) -> Components:
    """The engine asked for: `driver`, `graphframes`, or `auto`: GraphFrames from that many contracted edges on."""
    if engine == "driver":
        return driver_components
    by_graphframes = graphframes_components(spark() if callable(spark) else spark)
    if engine == "graphframes":
        return by_graphframes
    if engine != "auto":
        raise ValueError(f"engine must be auto, graphframes or driver, not {engine!r}")

    def solve(node_count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        large = len(left) >= graphframes_from_edges
        return (by_graphframes if large else driver_components)(node_count, left, right)

    return solve
