"""What does the driver's memory cost: a lake of ten million nodes held in it, over the pipeline on an empty lake?

Each lake is read by a process of its own, which then publishes a few batches. Resident memory of that process; the JVM
holds nothing of the lake. People of four identifiers: with their edges, sessions and event keys, all of which are held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.direct import copies
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale
from benchmarks.stitch import label
from conf.settings import load_settings
from pipelines.runtime.process_end import run_and_end

NAME = "driver_memory"
NODES: dict[Scale, int] = {"quick": 8_000, "usual": 1_000_000, "large": 10_000_000}
MOST_REGULARS = 250_000  # with a fifth of them, what reading leaves behind is more than what is measured
BATCHES = 3
GIB = 2**30
TEN_MILLION = 10_000_000


def measure(scale: Scale, folder: Path) -> list[Measured]:
    nodes = NODES[scale]
    persons = nodes // copies.NODES_EACH
    print(f"  making a lake with {nodes:,} nodes", flush=True)
    copies.fill(folder / "full", copies.customer(0), persons, folder)
    empty, full = probe(folder / "empty", 0), probe(folder / "full", persons)
    rows = full["rows"]
    # Besides its nodes and edges, a person has two events' keys and a session.
    assert rows == persons * (copies.NODES_EACH + copies.EDGES_EACH + 3), "not all of the lake was held"
    limit = load_settings().lookup_tables_from_rows
    conditions = {
        "nodes": nodes,
        "rows_held": rows,
        "load_seconds": full["load_seconds"],
        "auto_look_up": "driver" if rows <= limit else "tables",
    }
    baseline: dict[str, float | str] = {
        "empty_pipeline": round(empty["resident"] / GIB, 3),
        "after_load": round((full["loaded"] - empty["loaded"]) / GIB, 3),
    }
    of_history = _with_history(min(persons, MOST_REGULARS), folder)
    resident, peak = (full[k] - empty[k] for k in ("resident", "peak"))
    size = label(nodes)
    return [
        Measured(f"{NAME}.{size}_nodes", resident / GIB, "GiB", baseline=baseline, conditions=conditions),
        Measured(f"{NAME}.{size}_nodes_peak", peak / GIB, "GiB", conditions=conditions),
        Measured(
            f"{NAME}.bytes_per_node",
            resident / nodes,
            "bytes",
            baseline={"GiB_at_10m_if_linear": round(resident / nodes * TEN_MILLION / GIB, 2)},
            conditions=conditions,
        ),
        Measured(
            f"{NAME}.bytes_per_event", of_history, "bytes", note="of people who are known, 4 to a session"
        ),
    ]


def _with_history(persons: int, folder: Path) -> float:
    """What an event in history costs: the same people with more and with less of it."""
    for name, original in (("customers", copies.customer), ("regulars", copies.regular)):
        copies.fill(folder / name, original(0), persons, folder)
    loaded = {name: probe(folder / name, persons)["loaded"] for name in ("customers", "regulars")}
    return (loaded["regulars"] - loaded["customers"]) / (persons * copies.LATER_EVENTS)


def probe(lake: Path, persons: int) -> dict[str, float]:
    """What a new process needs for this lake."""
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.direct.memory_probe", str(lake), str(BATCHES), str(persons)],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    return json.loads(said.stdout.splitlines()[-1])


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
