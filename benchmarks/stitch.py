"""What do 1,000 new edges cost: our batch that stitches them in, against solving the whole graph again?

Ours is a whole batch but for Spark's parsing: bronze, edges, map, redirects, log, sessions and profiles written, and
published. The others label every node anew, from edges that they have at hand, and write the labels to one Delta table:
GraphFrames in Spark, scipy in numpy, a plain union-find in Python. All must part the nodes in the same way.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from benchmarks.baselines.graph import (
    Graph,
    graphframes_job,
    read_labels,
    same_partition,
    shown,
    timed_or_capped,
    union_find,
    write_edges,
    write_labels,
)
from benchmarks.direct import copies
from benchmarks.direct.batches import Batches
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import SEED, Measured, Scale, repeated
from conf.settings import load_settings
from conf.tables import IDENTIFIERS, IDENTITY_MAP
from pipelines.lake.snapshot import published
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.state.keyed_rows import numpy_of
from pipelines.stream.batch.setup import BatchReport
from transforms.identity.components import driver_components

NAME = "stitch"
LETTERS = "dcve"  # a visitor's nodes, in the order of their numbers in the graph
DAY = 86_400


@dataclass(frozen=True)
class Plan:
    """Edges in the lake by size, new edges a round, rounds, and how long a baseline may take."""

    sizes: tuple[int, ...]
    new_edges: int = 1_000
    rounds: int = 5
    cap_seconds: float = 90.0
    driver_memory: str = "4g"


PLANS: dict[Scale, Plan] = {
    "quick": Plan((4_000,), new_edges=100, rounds=2, cap_seconds=300.0, driver_memory="1g"),
    "usual": Plan((100_000, 1_000_000)),
    # Ours takes less than a second: a baseline that is stopped at the cap is far past every target.
    "large": Plan((10_000_000,), rounds=3, cap_seconds=180.0, driver_memory="8g"),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    plan = PLANS[scale]
    master = load_settings().master
    spark = build_session("stitchlake stitch", master, driver_memory=plan.driver_memory)
    try:
        rows = [row for size in plan.sizes for row in _measure_size(size, plan, spark, folder / label(size))]
    finally:
        spark.stop()
    return rows


def label(count: int) -> str:
    """100k, 1m, 10m: as rows are named."""
    for size, letter in ((1_000_000, "m"), (1_000, "k")):
        if count >= size:
            return f"{count // size}{letter}"
    return str(count)


def visitors(count: int) -> Graph:
    """The graph of so many visitors: per visitor device, two cookies and a visitor id, 4 edges."""
    first = np.arange(count) * len(LETTERS)
    left = np.stack([first, first, first + 1, first], axis=1).ravel()
    right = np.stack([first + 1, first + 2, first + 2, first + 3], axis=1).ravel()
    return Graph(count * len(LETTERS), left, right)


@dataclass
class _Sides:
    """Seconds by side; None past the cap."""

    ours: list[float] = field(default_factory=list)
    scipy: list[float] = field(default_factory=list)
    graphframes: list[float | None] = field(default_factory=list)
    union_find: list[float | None] = field(default_factory=list)


def _measure_size(size: int, plan: Plan, spark: SparkSession, folder: Path) -> list[Measured]:
    count = size // copies.EDGES_EACH
    print(f"  making a lake with {size:,} edges", flush=True)
    copies.fill(folder / "lake", copies.visitor(0), count, folder)
    lake = Batches(folder / "lake")
    load_seconds = lake.load()
    graph, rng = visitors(count), np.random.default_rng(SEED)
    sides, reports = _Sides(), []
    for turn in range(plan.rounds):
        a, b = rng.choice(count, (2, plan.new_edges), replace=False)
        # The device of one visitor is seen with a cookie of another one.
        graph = graph.plus(a * len(LETTERS), b * len(LETTERS) + 1)
        found: dict[str, np.ndarray] = {}

        def ours(a: np.ndarray = a, b: np.ndarray = b, turn: int = turn) -> None:
            report = _stitch(lake, a, b, turn)
            reports.append(report)
            sides.ours.append(report.seconds)

        def scipy(now: Graph = graph, found: dict[str, np.ndarray] = found) -> None:
            started = time.perf_counter()
            found["scipy"] = driver_components(now.node_count, now.left, now.right)
            write_labels(folder / "scipy", found["scipy"])
            sides.scipy.append(time.perf_counter() - started)

        order: list[Callable[[], None]] = [ours, scipy]
        if turn == 0:  # they take long, and hardly vary
            order += _slow_sides(graph, plan, spark, folder, sides, found)
        for side in order if turn % 2 else reversed(order):
            side()
        found["ours"] = labels_of(lake)
        for name, labels in found.items():
            assert same_partition(labels, found["scipy"]), f"{name} finds other persons than scipy"
    compaction = time.perf_counter()
    lake.processor.compact()
    compaction = time.perf_counter() - compaction
    conditions = {
        "nodes": graph.node_count,
        "edges": size,
        "new_edges": plan.new_edges,
        "cap_seconds": plan.cap_seconds,
        "identity_step_seconds": _median_step(reports, "identity"),
        "write_seconds": _median_step(reports, "write"),
        "state_load_seconds": round(load_seconds, 2),
        "compaction_seconds": round(compaction, 2),
    }
    return rows_of(label(size), sides, plan.cap_seconds, conditions)


def _slow_sides(
    graph: Graph, plan: Plan, spark: SparkSession, folder: Path, sides: _Sides, found: dict[str, np.ndarray]
) -> list[Callable[[], None]]:
    def plain() -> None:
        def run() -> float:
            started = time.perf_counter()
            found["union_find"] = union_find(graph, plan.cap_seconds)
            write_labels(folder / "union_find", found["union_find"])
            return time.perf_counter() - started

        sides.union_find.append(timed_or_capped(run, plan.cap_seconds))

    def graphframes() -> None:
        write_edges(folder / "edges", graph)
        labels = folder / "graphframes"
        seconds = timed_or_capped(
            lambda: graphframes_job(spark, folder / "edges", graph.node_count, labels, plan.cap_seconds),
            plan.cap_seconds,
        )
        sides.graphframes.append(seconds)
        if seconds is not None:
            found["graphframes"] = read_labels(labels)

    return [plain, graphframes]


def _stitch(lake: Batches, a: np.ndarray, b: np.ndarray, turn: int) -> BatchReport:
    at = copies.AT + DAY * (turn + 1)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return lake.stitch(
        [
            copies.event(
                f"s{turn}-{n}",
                at,
                "page_view",
                {"device_id": f"d{copies.number(x)}", "cookie_id": f"c{copies.number(y)}"},
            )
            for n, (x, y) in enumerate(pairs)
        ]
    )


def labels_of(lake: Batches) -> np.ndarray:
    """The published person of every node of the graph."""
    snapshot = published(lake.lake)
    assert snapshot is not None
    named = snapshot.arrow(IDENTIFIERS, ["node_id", "value"]).sort_by("node_id")
    owned = snapshot.arrow(IDENTITY_MAP, ["node_id", "canonical_id"])
    owned = owned.filter(pc.greater(owned["node_id"], 0)).sort_by("node_id")
    assert np.array_equal(numpy_of(named["node_id"]), numpy_of(owned["node_id"]))
    letters = pc.utf8_slice_codeunits(named["value"], 0, 1)
    kinds = pc.index_in(letters, value_set=pa.array(list(LETTERS))).to_numpy()
    labels = np.full(named.num_rows, -1, np.int64)
    labels[copies.copies_of_values(named["value"]) * len(LETTERS) + kinds] = numpy_of(owned["canonical_id"])
    assert (labels > 0).all(), "a node is nobody's"
    return labels


def rows_of(size: str, sides: _Sides, cap: float, conditions: dict[str, object]) -> list[Measured]:
    """Ours in seconds with the others beside it, and how many times faster it is than each of the two."""
    ours = statistics.median(sides.ours)
    slow = {"graphframes": sides.graphframes, "union_find": sides.union_find}
    baseline: dict[str, float | str] = {"scipy": round(statistics.median(sides.scipy), 4)}
    baseline |= {name: shown(seconds[0], cap) for name, seconds in slow.items() if seconds}
    (graphframes,) = sides.graphframes
    at_least = "" if graphframes is not None else "at least: GraphFrames was stopped at its cap"
    against = graphframes if graphframes is not None else cap
    return [
        repeated(f"{NAME}.seconds_{size}", sides.ours, "s", baseline=baseline, conditions=conditions),
        repeated(
            f"{NAME}.times_graphframes_{size}",
            [against / seconds for seconds in sides.ours],
            "times",
            baseline={"ours_s": round(ours, 4), "graphframes_s": shown(graphframes, cap)},
            note=at_least,
        ),
        repeated(
            f"{NAME}.times_scipy_{size}",
            [theirs / mine for theirs, mine in zip(sides.scipy, sides.ours, strict=True)],
            "times",
            baseline={"ours_s": round(ours, 4), "scipy_s": baseline["scipy"]},
        ),
    ]


def _median_step(reports: list[BatchReport], step: str) -> float:
    return round(statistics.median(r.steps.get(step, 0.0) for r in reports), 4)


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
