"""Does a batch cost more when the identity map is larger? The same batches over 100 k nodes, and 1 M or 10 M.

The lakes are copies of one customer; the batches come through the real stream, one after the other: people who come
back, log in, bring a new cookie, and new people, drawn from the whole map. Sizes take turns, in reversed order every
second time.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc

from benchmarks.baselines.graph import same_partition
from benchmarks.direct import copies
from benchmarks.direct.copies import Record, event, number
from benchmarks.live.oracle import require_conserved
from benchmarks.live.stream import Stream
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import SEED, Measured, Scale, repeated
from benchmarks.stitch import label
from conf.settings import load_settings
from conf.tables import IDENTIFIERS, IDENTITY_MAP, PROFILES
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.runtime.process_end import run_and_end
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.open_state import row_count

NAME = "map_growth"
STRANGERS_FROM = 5 * 10**8  # numbers of people who are in no lake yet
SESSION_APART = 100_000  # seconds between two rounds' events


@dataclass(frozen=True)
class Plan:
    """Nodes in the lakes, events in a batch, batches that count and that warm up each time, and how many times."""

    nodes: tuple[int, ...]
    events: int
    batches: int
    warm_up: int
    rounds: int


PLANS: dict[Scale, Plan] = {
    "quick": Plan((400, 4_000), events=100, batches=2, warm_up=1, rounds=1),
    "usual": Plan((100_000, 1_000_000), events=2_500, batches=15, warm_up=5, rounds=2),
    "large": Plan((100_000, 10_000_000), events=2_500, batches=8, warm_up=4, rounds=3),
}


@dataclass
class _Grown:
    """One lake and what its batches cost: the median of every round."""

    folder: Path
    persons: int
    batch_seconds: list[float] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    batch_count: int = 0
    newcomers: int = 0

    @property
    def nodes(self) -> int:
        return self.persons * copies.NODES_EACH


def measure(scale: Scale, folder: Path) -> list[Measured]:
    plan = PLANS[scale]
    lakes = []
    for nodes in plan.nodes:
        print(f"  making a lake with {nodes:,} nodes", flush=True)
        grown = _Grown(folder / label(nodes), nodes // copies.NODES_EACH)
        copies.fill(grown.folder / "lake", copies.customer(0), grown.persons, grown.folder)
        lakes.append(grown)
    for turn in range(plan.rounds):
        for grown in lakes if turn % 2 == 0 else reversed(lakes):
            _round(grown, plan, turn)
    limit = load_settings().lookup_tables_from_rows
    for grown in lakes:
        snapshot = published(Lake(grown.folder / "lake"))
        assert snapshot is not None
        require_right(snapshot, grown, plan)
        grown.steps[-1]["rows"] = row_count(snapshot)
    return rows_of(lakes, plan, limit)


def _round(grown: _Grown, plan: Plan, turn: int) -> None:
    """Land one batch after the other, each once the one before is published."""
    landing = grown.folder / "landing"
    landing.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([SEED, turn, grown.persons])
    sent = 0
    with Stream(grown.folder, "lake", landing) as stream:
        for n in range(plan.warm_up + plan.batches):
            records = batch(grown, plan.events, turn, n, rng)
            hidden = landing / f".{turn}-{n:04d}.jsonl"
            hidden.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in records))
            hidden.rename(landing / f"{turn}-{n:04d}.jsonl")
            sent += len(records)
            stream.wait_received(sent)
        reports = stream.reports()
    for report in reports:
        assert report["received"] == report["valid"] == plan.events, "all of these events are valid and new"
    counted = reports[plan.warm_up :]
    grown.batch_count += len(reports)
    grown.batch_seconds.append(statistics.median(r["seconds"] for r in counted))
    grown.steps.append({s: statistics.median(r["steps"][s] for r in counted) for s in counted[0]["steps"]})


def batch(grown: _Grown, events: int, turn: int, n: int, rng: np.random.Generator) -> list[Record]:
    """70 % come back, 20 % log in, 5 % bring a new cookie, 5 % are new."""
    at = copies.AT + SESSION_APART * (turn + 1) + n
    records = []
    for k, (copy, dice) in enumerate(
        zip(rng.integers(0, grown.persons, events).tolist(), rng.random(events).tolist(), strict=True)
    ):
        name, who = f"g{turn}-{n}-{k}", number(copy)
        if dice < 0.7:
            here = {"device_id": f"d{who}", "cookie_id": f"c{who}"}
        elif dice < 0.9:
            here = {"device_id": f"d{who}", "user_id": f"u{who}"}
        elif dice < 0.95:
            here = {"device_id": f"d{who}", "cookie_id": f"x{who}-{turn}-{n}-{k}"}
        else:
            new = number(STRANGERS_FROM + grown.newcomers)
            here = {"device_id": f"d{new}", "cookie_id": f"c{new}"}
            grown.newcomers += 1
        records.append(event(name, at, "login" if "user_id" in here else "page_view", here))
    return records


def require_right(snapshot: Snapshot, grown: _Grown, plan: Plan) -> None:
    """Every record counted, every identifier with the person whose number it has and with nobody else."""
    require_conserved(snapshot, grown.persons * 2 + grown.batch_count * plan.events)
    named = snapshot.arrow(IDENTIFIERS, ["node_id", "value"]).sort_by("node_id")
    owned = snapshot.arrow(IDENTITY_MAP, ["node_id", "canonical_id"])
    owned = owned.filter(pc.greater(owned["node_id"], 0)).sort_by("node_id")
    assert np.array_equal(numpy_of(named["node_id"]), numpy_of(owned["node_id"])), (
        "not every node is somebody's"
    )
    persons = copies.copies_of_values(named["value"])
    assert same_partition(persons, numpy_of(owned["canonical_id"])), (
        "persons are not whose the identifiers are"
    )
    profiles = snapshot.arrow(PROFILES, ["canonical_id"]).num_rows
    assert profiles == len(np.unique(persons)), (
        f"{profiles:,} profiles of {len(np.unique(persons)):,} persons"
    )


def rows_of(lakes: Sequence[_Grown], plan: Plan, limit: int) -> list[Measured]:
    """Seconds of a batch at every size, and the ratio of each to the smallest one."""
    smallest, shape = lakes[0], {"events_per_batch": plan.events, "batches": plan.batches}
    rows = []
    for grown in lakes:
        conditions: Mapping[str, Any] = shape | {
            "nodes": grown.nodes,
            f"look_up_at_{label(grown.nodes)}": "driver" if grown.steps[-1]["rows"] <= limit else "tables",
        }
        steps = {k: round(v, 4) for k, v in grown.steps[-1].items() if k != "rows"}
        size = label(grown.nodes)
        rows.append(
            repeated(
                f"{NAME}.batch_seconds_{size}",
                grown.batch_seconds,
                "s",
                baseline=steps,
                conditions=dict(conditions),
                note="steps beside it",
            )
        )
        if grown is not smallest:
            pairs = zip(grown.batch_seconds, smallest.batch_seconds, strict=True)
            rows.append(
                repeated(
                    f"{NAME}.cost_ratio_{size}",
                    [mine / theirs for mine, theirs in pairs],
                    "ratio",
                    baseline={
                        f"s_at_{label(smallest.nodes)}": round(statistics.median(smallest.batch_seconds), 4)
                    },
                    conditions=dict(conditions),
                )
            )
    return rows


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
