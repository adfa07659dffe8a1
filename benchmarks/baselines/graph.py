"""Who is one, by other means than the resolver: every edge from the beginning, and nothing known from before.

All take a graph of nodes 0 … n-1 and give a label per node. None of them has stable ids, limits or a log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from pipelines.runtime.graph_engine import connected_components


class CapReached(RuntimeError):
    """A baseline was still running when its time was up."""


@dataclass(frozen=True)
class Graph:
    """Edges (left[i], right[i]) between nodes 0 … node_count-1."""

    node_count: int
    left: np.ndarray
    right: np.ndarray

    def plus(self, left: np.ndarray, right: np.ndarray) -> Graph:
        return Graph(self.node_count, np.concatenate([self.left, left]), np.concatenate([self.right, right]))


def union_find(graph: Graph, cap_seconds: float = float("inf")) -> np.ndarray:
    """The textbook's: a parent per node, paths halved on the way up. Plain Python."""
    parent = list(range(graph.node_count))
    until = time.monotonic() + cap_seconds

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for at, (a, b) in enumerate(zip(graph.left.tolist(), graph.right.tolist(), strict=True)):
        a, b = root(a), root(b)
        if a != b:
            parent[max(a, b)] = min(a, b)
        if at % 100_000 == 0 and time.monotonic() > until:
            raise CapReached
    return np.fromiter(map(root, range(graph.node_count)), np.int64, graph.node_count)


def write_labels(folder: Path, labels: np.ndarray) -> None:
    """Every node's label as a Delta table, in place of the one before."""
    table = pa.table({"node": np.arange(len(labels)), "component": labels})
    write_deltalake(str(folder), table, mode="overwrite")


def read_labels(folder: Path) -> np.ndarray:
    rows = DeltaTable(str(folder)).to_pyarrow_dataset().to_table()
    labels = np.empty(rows.num_rows, np.int64)
    labels[rows["node"].to_numpy()] = rows["component"].to_numpy()
    return labels


def write_edges(folder: Path, graph: Graph) -> None:
    write_deltalake(str(folder), pa.table({"src": graph.left, "dst": graph.right}), mode="overwrite")


def graphframes_job(
    spark: SparkSession, edges: Path, node_count: int, labels: Path, cap_seconds: float
) -> float:
    """GraphFrames over the edges of one Delta table, labels into another, all of it in Spark; its seconds."""
    started = time.perf_counter()
    with capped(spark, cap_seconds):
        found = connected_components(spark.range(node_count), spark.read.format("delta").load(str(edges)))
        found.select("id", "component").withColumnRenamed("id", "node").write.format("delta").mode(
            "overwrite"
        ).save(str(labels))
        found.unpersist()
    return time.perf_counter() - started


@contextmanager
def capped(spark: SparkSession, seconds: float) -> Iterator[None]:
    """Jobs that Spark is asked for in here are cancelled when their time is up: CapReached then."""
    group, done, is_over = f"capped-{time.monotonic_ns()}", threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        is_over.set()
        while not done.wait(0.2):  # the next job of the same work may begin between two looks
            spark.sparkContext.cancelJobGroup(group)

    watcher = threading.Thread(target=watch, name="cap", daemon=True)
    spark.sparkContext.setJobGroup(group, "a baseline with a cap", interruptOnCancel=True)
    watcher.start()
    try:
        yield
    except Exception as e:
        if is_over.is_set():
            raise CapReached from e
        raise
    finally:
        done.set()
        watcher.join()
        for key in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
            spark.sparkContext.setLocalProperty(key, None)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Do two labellings of the same nodes part them in the same way?"""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    groups = int(a.max(initial=-1)) + 1
    pairs = np.unique(a.astype(np.int64) * (int(b.max(initial=-1)) + 1) + b)
    return len(a) == len(b) and len(pairs) == groups == int(b.max(initial=-1)) + 1


def timed_or_capped(run: Callable[[], float], cap_seconds: float) -> float | None:
    """Seconds, or None past the cap."""
    try:
        seconds = run()
    except CapReached:
        return None
    return seconds if seconds <= cap_seconds else None


def shown(seconds: float | None, cap_seconds: float) -> float | str:
    """A baseline's figure in a row: past its cap it has none."""
    return f">{cap_seconds:,.0f} (cap)" if seconds is None else round(seconds, 4)
