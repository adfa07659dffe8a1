"""One live run: history first, then events by the clock into a running stream, watched by a reader; then the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.live.oracle import require_right
from benchmarks.live.producer import Phase, Producer
from benchmarks.live.reader import Freshness, GoldReader, freshness_of
from benchmarks.live.stream import Stream
from benchmarks.live.world import arrive, make_world
from benchmarks.measured import percentile
from conf.tables import EVENTS
from pipelines.tables.snapshot import Snapshot

# Small files land five times a second, so a batch must be allowed more of them than the eight that suit large ones.
LIVE_SETTINGS = {"max_files_per_trigger": 64}
LAND_EVERY_SECONDS = 0.2
# Anonymous events on shared devices belong to nobody whom the reader could name; everybody else must come into sight.
MOST_UNFOLLOWED = 0.05


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
    world = make_world(folder, history, count, events_per_file=min(25_000, max(1_000, history)))
    live, landing = world.live_events(), folder / "landing"
    assert len(live) >= count, f"{len(live):,} live events are too few for {count:,}"
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
    share = freshness.unfollowed_count / max(1, len(freshness.seconds) + freshness.unfollowed_count)
    assert share <= MOST_UNFOLLOWED or others, f"{share:.1%} of the events did not come into sight"
    return LiveRun(producer, freshness, snapshot, reports, _catching_up(reports, world.history_count), lost)


def _live_count(snapshot: Snapshot, from_batch: int) -> int:
    batches = snapshot.arrow(EVENTS, ["batch_id"])["batch_id"].to_numpy()
    return int((batches >= from_batch).sum())


def _catching_up(reports: Sequence[Mapping[str, Any]], history_count: int) -> float:
    """Events a second of history, by the time that its batches took; without the first one, which warms up."""
    done, batches = 0, []
    for report in reports:
        if done >= history_count:
            break
        done += report["received"]
        batches.append(report)
    counted = batches[1:] or batches
    return sum(b["received"] for b in counted) / sum(b["seconds"] for b in counted)
