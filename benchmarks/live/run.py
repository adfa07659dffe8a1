"""One live run: history first, then events by the clock into a running stream, watched by a reader; then the oracle."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.live.oracle import exact_events, require_right
from benchmarks.live.producer import Phase, Producer
from benchmarks.live.reader import Freshness, GoldReader, freshness_of
from benchmarks.live.stream import Stream
from benchmarks.live.world import arrive, make_world
from benchmarks.report.measured import percentile
from conf.tables import BATCHES, EVENTS
from pipelines.lake.snapshot import Snapshot

# Small files land five times a second, so a batch must be allowed more of them than the eight that suit large ones.
LIVE_SETTINGS = {"max_files_per_trigger": 64}
LAND_EVERY_SECONDS = 0.2
EVENTS_PER_FILE = 2_000  # of history: 128,000 events a batch, so that it is caught up with as after an outage


@dataclass(frozen=True)
class Load:
    """History in records, then a steady rate in events a second: `warm_up` seconds that do not count, and `seconds`."""

    history: int
    warm_up: float
    rate: float
    seconds: float

    def phases(self) -> list[Phase]:
        return [Phase("warm_up", self.warm_up, self.rate), Phase("load", self.seconds, self.rate)]

    def conditions(self) -> dict[str, Any]:
        return {"history": self.history, "events_per_second": self.rate, "seconds": self.seconds}


@dataclass(frozen=True)
class LiveRun:
    """What came of it. `history_rate` is the catching up with history, in events a second."""

    producer: Producer
    freshness: Freshness
    snapshot: Snapshot
    reports: Sequence[Mapping[str, Any]]
    history_rate: float
    lost_count: int

    def batches_in(self, phase: str) -> list[Mapping[str, Any]]:
        """Reports of the batches that hold events of a phase."""
        start, end = self.producer.span(phase)
        at = self.freshness.produced_at
        numbers = set(self.freshness.batch_id[(at > start) & (at <= end)].tolist())
        return [report for report in self.reports if report["batch_id"] in numbers]

    def sights_of(self, is_counted: np.ndarray) -> pd.DataFrame:
        """One row for every batch with counted events: `seen_at`, and `lag`, how old the oldest of them was then."""
        f = self.freshness
        events = pd.DataFrame({"batch_id": f.batch_id, "produced": f.produced_at, "lag": f.seconds})[
            is_counted
        ]
        events["seen_at"] = events["produced"] + events["lag"]
        return events.groupby("batch_id").agg(
            seen_at=("seen_at", "max"), lag=("lag", "max"), first=("produced", "min"), events=("lag", "size")
        )

    def conditions(self) -> dict[str, Any]:
        return {
            "land_every_seconds": self.producer.every,
            **LIVE_SETTINGS,
            "producer_late_p99": round(percentile(self.producer.late, 0.99), 3),
            "events_unfollowed": self.freshness.unfollowed_count,
        }


def run_live(
    folder: Path,
    history: int,
    phases: Sequence[Phase],
    settings: Mapping[str, Any],
    beside: Callable[[Path, Producer], Sequence[Producer]] = lambda landing, producer: (),
) -> LiveRun:
    """Runs the phases on top of history. `beside` makes further producers, which start with the first one.

    Right at the end, or an AssertionError: nothing lost or repeated, persons as the oracle has them.
    """
    count = sum(p.count for p in phases)
    world = make_world(folder, history, count, events_per_file=EVENTS_PER_FILE)
    live, landing = world.live_events(), folder / "landing"
    assert len(live) >= count, f"{len(live):,} live events are too few for {count:,}"
    gc.freeze()  # a collection that walks a million events would hold the producer up
    arrive(world.history, landing)
    with Stream(folder, "lake", landing, settings) as stream:
        stream.wait_received(world.history_count)
        reports = stream.reports()
        reader = GoldReader(stream.lake, after=reports[-1]["batch_id"])
        producer = Producer(landing, phases, lambda n, at: live[n].at(at), LAND_EVERY_SECONDS)
        others = list(beside(landing, producer))
        reader.start()
        for one in (producer, *others):
            one.start()
        for one in (producer, *others):
            one.finish()
        sent = world.history_count + sum(p.produced_count for p in (producer, *others))
        stream.wait_received(sent)
        sights = reader.stop()
        reports = stream.reports()
    snapshot = require_right(stream.lake, world.truth, sent)
    freshness = freshness_of(snapshot, sights)
    lost = sum(p.produced_count for p in (producer, *others)) - _live_count(snapshot, sights[0].batch_id)
    unseen = exact_events(snapshot, world.truth, sights[0].batch_id) - set(freshness.event_id.tolist())
    assert not unseen, f"{len(unseen):,} events of people who are certain were never in sight"
    return LiveRun(producer, freshness, snapshot, reports, _catching_up(snapshot, world.history_count), lost)


def _live_count(snapshot: Snapshot, from_batch: int) -> int:
    batches = snapshot.arrow(EVENTS, ["batch_id"])["batch_id"].to_numpy()
    return int((batches >= from_batch).sum())


def _catching_up(snapshot: Snapshot, history_count: int) -> float:
    """Events of history a second, from the first batch that is published to the last: by the clock, for a batch may be
    parsed while the one before it is published. Of one batch alone, from its start."""
    columns = ["batch_id", "received_count", "started_at", "published_at"]
    batches = snapshot.arrow(BATCHES, columns).to_pandas().sort_values("batch_id")
    batches = batches[batches["received_count"] > 0]
    batches = batches[batches["received_count"].cumsum() <= history_count]
    first, last = batches.iloc[0], batches.iloc[-1]
    if len(batches) == 1:
        return history_count / (last["published_at"] - first["started_at"]).total_seconds()
    seconds = (last["published_at"] - first["published_at"]).total_seconds()
    return int(batches["received_count"].iloc[1:].sum()) / seconds
