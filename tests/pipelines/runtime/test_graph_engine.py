"""Two engines, one partition, and an oracle that is neither."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from chispa import assert_df_equality

from pipelines.runtime.graph_engine import (
    EDGE_BYTES,
    NODE_BYTES,
    choose_components,
    connected_components,
    fits_driver,
    graphframes_components,
)
from transforms.identity.components import driver_components


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def oracle(node_count: int, left: np.ndarray, right: np.ndarray) -> set[frozenset[int]]:
    graph = nx.Graph()
    graph.add_nodes_from(range(node_count))
    graph.add_edges_from(zip(left.tolist(), right.tolist(), strict=True))
    return {frozenset(c) for c in nx.connected_components(graph)}


def random_graph(seed: int, node_count: int = 60, edge_count: int = 50) -> tuple[int, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return node_count, rng.integers(0, node_count, edge_count), rng.integers(0, node_count, edge_count)


CHAIN = (40, np.arange(39), np.arange(1, 40))
STAR = (40, np.zeros(39, np.int64), np.arange(1, 40))
EDGELESS = (5, np.empty(0, np.int64), np.empty(0, np.int64))


def disjoint_union(*graphs: tuple[int, np.ndarray, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(g[0] for g in graphs)])
    left = np.concatenate([g[1] + o for g, o in zip(graphs, offsets, strict=False)])
    right = np.concatenate([g[2] + o for g, o in zip(graphs, offsets, strict=False)])
    return int(offsets[-1]), left, right


@pytest.mark.parametrize("graph", [CHAIN, STAR, EDGELESS, *(random_graph(s) for s in range(30))])
def test_driver_engine_gives_the_oracles_partition(graph):
    assert partition(driver_components(*graph)) == oracle(*graph)


def test_graphframes_and_driver_give_the_oracles_partition(spark):
    # One Spark job solves many graphs at once: a disjoint union has the union of their partitions.
    graph = disjoint_union(CHAIN, STAR, EDGELESS, *(random_graph(s) for s in range(100, 140)))
    found = partition(graphframes_components(spark)(*graph))
    assert found == oracle(*graph) == partition(driver_components(*graph))


@pytest.mark.parametrize(
    ("free", "fits"), [(None, True), (2 * 5_300, True), (2 * 5_300 - 1, False), (0, False)]
)
def test_a_graph_fits_into_half_of_the_free_memory(free, fits):
    """100 nodes of 20 bytes and 100 edges of 33."""
    assert fits_driver(100, 100, free) == fits


def test_auto_takes_graphframes_where_memory_is_short(spark):
    """The engines are told apart by their work: GraphFrames runs Spark jobs, the driver none."""
    free = 2 * (40 * NODE_BYTES + 29 * EDGE_BYTES)
    solve = choose_components("auto", spark, lambda: free)
    for edge_count, by_graphframes in ((29, False), (30, True), (39, True)):
        graph = (40, *(side[:edge_count] for side in CHAIN[1:]))
        group = f"components of {edge_count}"
        spark.sparkContext.setJobGroup(group, group)
        try:
            assert partition(solve(*graph)) == oracle(*graph)
        finally:
            spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
        jobs = spark.sparkContext.statusTracker().getJobIdsForGroup(group)
        assert bool(jobs) == by_graphframes, edge_count


def _nothing_stays_cached(spark, calls: int) -> None:
    solve = graphframes_components(spark)
    spark.catalog.clearCache()  # what Delta keeps of the tables that other tests read
    before = spark.sparkContext._jsc.getPersistentRDDs().size()
    for seed in range(calls):
        solve(*random_graph(seed, 20, 15))
    assert spark.sparkContext._jsc.getPersistentRDDs().size() <= before
    assert spark._jsparkSession.sharedState().cacheManager().isEmpty()


def test_no_cached_frames_are_left_behind(spark):
    _nothing_stays_cached(spark, 3)


@pytest.mark.slow
def test_fifty_batches_by_graphframes_leave_no_cached_frames_behind(spark):
    _nothing_stays_cached(spark, 50)


def test_every_vertex_has_the_component_of_whom_it_is_connected_with(spark):
    """1 ─ 2 ─ 3    4 ─ 5    6: edges lead both ways, and a vertex without one is a component by itself."""
    vertices = spark.createDataFrame([(n,) for n in (3, 1, 2, 6, 5, 4)], "id long")
    edges = spark.createDataFrame([(2, 1), (2, 3), (5, 4), (5, 4)], "src long, dst long")
    found = connected_components(vertices, edges)
    wanted = [(1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 6)]
    try:
        assert_df_equality(
            found.select("id", "component"),
            spark.createDataFrame(wanted, "id long, component long"),
            ignore_row_order=True,
            ignore_nullable=True,
        )
    finally:
        found.unpersist()
