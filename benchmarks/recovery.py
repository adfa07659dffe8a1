"""Killed with -9 under load: how long until the first new batch is published, with ten times the history?

A cold start is a stream's very first start, without a lake, until its first batch is published. It and the kill take
turns, and events arrive by the clock all the while.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.live.oracle import require_conserved, require_right
from benchmarks.live.producer import Phase, Producer
from benchmarks.live.run import EVENTS_PER_FILE, LAND_EVERY_SECONDS, LIVE_SETTINGS
from benchmarks.live.stream import Stream
from benchmarks.live.world import LiveEvent, arrive, make_world
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale, repeated
from conf.tables import BATCHES
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.runtime.process_end import run_and_end

NAME = "recovery"
TIMES = 10
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Trial:
    """History in records, of which ten times as many are there when it counts; events a second meanwhile."""

    history: int
    rate: float
    repetitions: int
    load_seconds: float = 60.0  # for so long at most events arrive in each turn
    before_kill: float = 3.0


TRIALS = {
    "quick": Trial(history=400, rate=100.0, repetitions=1, before_kill=1.0),
    "usual": Trial(history=50_000, rate=1_000.0, repetitions=3),
    "large": Trial(history=1_000_000, rate=1_000.0, repetitions=3),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    trial = TRIALS[scale]
    per_turn = round(trial.rate * trial.load_seconds)
    world = make_world(folder, TIMES * trial.history, per_turn * trial.repetitions, EVENTS_PER_FILE)
    live = world.live_events()
    turns = [live[n * per_turn : (n + 1) * per_turn] for n in range(trial.repetitions)]

    large = Stream(folder, "large", folder / "large-landing", LIVE_SETTINGS)
    arrive(world.history, large.landing)
    sent = world.history_count
    cold: list[float] = []
    killed: list[float] = []
    for n, events in enumerate(turns):
        cold.append(_cold_start(folder, n, trial, events))
        seconds, count = _killed(large, n, trial, events, sent)
        killed.append(seconds)
        sent += count
    require_right(large.lake, world.truth, sent)

    conditions = {
        "history": world.history_count,
        "events_per_second": trial.rate,
        "seconds_before_kill": trial.before_kill,
        **LIVE_SETTINGS,
    }
    beside: dict[str, float | str] = {
        "killed_seconds": round(statistics.median(killed), 2),
        "cold_start_seconds": round(statistics.median(cold), 2),
    }
    ratios = [k / c for k, c in zip(killed, cold, strict=True)]
    return [repeated(f"{NAME}.ratio", ratios, "ratio", baseline=beside, conditions=conditions)]


def _cold_start(folder: Path, n: int, trial: Trial, events: Sequence[LiveEvent]) -> float:
    """Seconds from the start of the process to its first published batch, on no lake."""
    stream = Stream(folder, f"cold-{n}", folder / f"cold-{n}-landing", LIVE_SETTINGS)
    stream.landing.mkdir()
    with _arriving(stream.landing, n, trial, events) as producer, stream.start():
        stream.wait_received(1, LONGEST_SECONDS)
        seconds = time.time() - stream.started_at
        producer.give_up()
        producer.finish()
        _wait_published(stream, producer.produced_count)
    snapshot = published(Lake(stream.lake))
    assert snapshot is not None
    require_conserved(snapshot, producer.produced_count, producer.produced_count)
    return seconds


def _killed(
    stream: Stream, n: int, trial: Trial, events: Sequence[LiveEvent], sent: int
) -> tuple[float, int]:
    """(seconds from the kill to the first batch that the next process publishes, events that arrived)."""
    with stream.start():
        if n == 0:
            stream.wait_received(sent, LONGEST_SECONDS)  # history
        with _arriving(stream.landing, n, trial, events) as producer:
            _wait_published(stream, sent + 1)
            time.sleep(trial.before_kill)
            killed_at = time.time()
            stream.kill()
            stream.start().wait_received(1, LONGEST_SECONDS)
            seconds = time.time() - killed_at
            producer.give_up()
            producer.finish()
            _wait_published(stream, sent + producer.produced_count)
    return seconds, producer.produced_count


@contextmanager
def _arriving(landing: Path, n: int, trial: Trial, events: Sequence[LiveEvent]) -> Iterator[Producer]:
    """Events arrive by the clock, whether there is a stream or not, for as long as the block lasts."""
    phase = Phase("load", len(events) / trial.rate, trial.rate)
    producer = Producer(
        landing, [phase], lambda i, at: events[i].at(at), LAND_EVERY_SECONDS, name=f"turn-{n}"
    )
    producer.start()
    try:
        yield producer
    finally:
        producer.give_up()
        producer.finish()


def _wait_published(stream: Stream, count: int) -> None:
    """Until the lake has published so many records, by whichever process."""
    until = time.monotonic() + LONGEST_SECONDS
    while (found := _received(stream.lake)) < count:
        stream.require_alive(until, f"{count:,} records ({found:,} so far)")
        time.sleep(0.2)


def _received(lake: Path) -> int:
    snapshot = published(Lake(lake))
    return sum(snapshot.arrow(BATCHES, ["received_count"])["received_count"].to_pylist()) if snapshot else 0


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
