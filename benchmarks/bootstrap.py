"""What does a graph cost from nothing: through GraphFrames, through the driver's engine, by a plain union-find?

Both of our engines as the resolver calls them, arrays in and labels out. The driver's engine is taken wherever the
graph fits into memory. Visitors of four identifiers, a part of them joined in chains. All must agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

from benchmarks.baselines.graph import (
    Graph,
    capped,
    same_partition,
    shown,
    timed_or_capped,
    union_find,
    write_labels,
)
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import SEED, Measured, Scale, repeated
from benchmarks.stitch import label, visitors
from conf.settings import load_settings
from pipelines.runtime.graph_engine import graphframes_components
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from transforms.identity.components import Components, driver_components

NAME = "bootstrap"
JOINED_SHARE = 0.05  # of the edges lie between visitors


@dataclass(frozen=True)
class Plan:
    """Edges, how often the quick sides run, how long any side may take."""

    edges: int
    rounds: int
    cap_seconds: float
    driver_memory: str = "4g"


PLANS: dict[Scale, Plan] = {
    "quick": Plan(4_000, 2, 300.0, "1g"),
    "usual": Plan(1_000_000, 3, 120.0),
    "large": Plan(10_000_000, 1, 180.0, "8g"),
}


def joined_visitors(edge_count: int) -> Graph:
    """A graph of so many edges: visitors, and edges between visitors who may be anybody; in no order."""
    between = int(edge_count * JOINED_SHARE)
    graph = visitors((edge_count - between) // 4)
    rng = np.random.default_rng(SEED)
    between = edge_count - len(graph.left)
    graph = graph.plus(*rng.integers(0, graph.node_count, (2, between)))
    by = rng.permutation(edge_count)
    return Graph(graph.node_count, graph.left[by], graph.right[by])


def measure(scale: Scale, folder: Path) -> list[Measured]:
    plan = PLANS[scale]
    graph = joined_visitors(plan.edges)
    spark = build_session("stitchlake bootstrap", load_settings().master, driver_memory=plan.driver_memory)
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float | None]] = {"driver": [], "graphframes": [], "union_find": []}

    def side(name: str, solve: Callable[[], np.ndarray]) -> None:
        def run() -> float:
            started = time.perf_counter()
            found[name] = solve()
            write_labels(folder / name, found[name])
            return time.perf_counter() - started

        seconds[name].append(timed_or_capped(run, plan.cap_seconds))

    sides: dict[str, Callable[[], np.ndarray]] = {
        "driver": lambda: driver_components(graph.node_count, graph.left, graph.right),
        "union_find": lambda: union_find(graph, plan.cap_seconds),
        "graphframes": lambda: _in_time(graphframes_components(spark), spark, graph, plan.cap_seconds),
    }
    try:
        for turn in range(plan.rounds):
            for name in sides if turn % 2 else reversed(sides):
                if turn == 0 or name == "driver":
                    side(name, sides[name])
    finally:
        spark.stop()
    for name, labels in found.items():
        assert same_partition(labels, found["driver"]), (
            f"{name} finds other components than the driver's engine"
        )
    conditions = {"nodes": graph.node_count, "edges": plan.edges, "cap_seconds": plan.cap_seconds}
    others = {name: shown(seconds[name][0], plan.cap_seconds) for name in ("graphframes", "union_find")}
    return [
        repeated(
            f"{NAME}.driver_engine_{label(plan.edges)}",
            [s if s is not None else plan.cap_seconds for s in seconds["driver"]],
            "s",
            baseline=others,
            conditions=conditions,
        )
    ]


def _in_time(solve: Components, spark: SparkSession, graph: Graph, cap_seconds: float) -> np.ndarray:
    with capped(spark, cap_seconds):
        return solve(graph.node_count, graph.left, graph.right)


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
