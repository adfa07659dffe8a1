"""Does one identifier with 100,000 events a minute slow the others down? Freshness of ordinary people with and without.

The hub is a device on which thousands of visitors sign in, so it is shared, past the largest degree, and has one
session that never ends. It is switched on and off twice within one run, so that both sides have the same history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from benchmarks.live.producer import Phase, Producer
from benchmarks.live.run import LAND_EVERY_SECONDS, LIVE_SETTINGS, run_live
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale, percentile
from pipelines.runtime.process_end import run_and_end

NAME = "hub"
TURNS = 2
VISITORS, EVENTS_PER_SIGN_IN = 5_000, 10


@dataclass(frozen=True)
class Sides:
    """Events a second of ordinary people and of the hub, and how many seconds it is on, and off, each time."""

    history: int
    rate: float
    hub_rate: float
    seconds: float

    def phases(self, rates: tuple[float, float], warm_up: float) -> list[Phase]:
        """Alternating: without the hub, with it. `rates` are those of either side."""
        turns = [
            Phase(f"{side}_{turn}", self.seconds, rate)
            for turn in range(TURNS)
            for side, rate in zip(("without", "with"), rates, strict=True)
        ]
        return [Phase("warm_up", self.seconds / 2, warm_up), *turns]


SIDES = {
    "quick": Sides(history=4_000, rate=50.0, hub_rate=200.0, seconds=2.0),
    "usual": Sides(history=200_000, rate=1_000.0, hub_rate=100_000 / 60, seconds=30.0),
    "large": Sides(history=1_000_000, rate=1_000.0, hub_rate=100_000 / 60, seconds=90.0),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    sides = SIDES[scale]

    def hub(landing: Path, _: Producer) -> list[Producer]:
        phases = sides.phases((0.0, sides.hub_rate), warm_up=0.0)
        return [Producer(landing, phases, hub_event, LAND_EVERY_SECONDS, name="hub")]

    phases = sides.phases((sides.rate, sides.rate), warm_up=sides.rate)
    found = run_live(folder, sides.history, phases, LIVE_SETTINGS, hub)
    is_other = np.array([not str(id_).startswith("hub-") for id_ in found.freshness.event_id])
    at, seconds = found.freshness.produced_at[is_other], found.freshness.seconds[is_other]

    def p95(side: str) -> list[float]:
        spans = [found.producer.span(f"{side}_{turn}") for turn in range(TURNS)]
        return [percentile(seconds[(at > start) & (at <= end)].tolist(), 0.95) for start, end in spans]

    with_hub, without = p95("with"), p95("without")
    ratios = [a / b for a, b in zip(with_hub, without, strict=True)]
    conditions = {
        "history": sides.history,
        "events_per_second": sides.rate,
        "hub_events_per_minute": round(sides.hub_rate * 60),
        "seconds_each": sides.seconds,
        **found.conditions(),
    }
    return [
        Measured(
            f"{NAME}.others_p95_ratio",
            sum(with_hub) / sum(without),
            "ratio",
            (min(ratios), max(ratios)),
            TURNS,
            baseline={"with_seconds": sum(with_hub) / TURNS, "without_seconds": sum(without) / TURNS},
            conditions=conditions,
        )
    ]


def hub_event(n: int, microseconds: int) -> bytes:
    """The n-th event at the hub; now and then a visitor signs in."""
    identifiers = {"device_id": "hub-device"}
    if n % EVENTS_PER_SIGN_IN == 0:
        identifiers["user_id"] = f"hub-visitor-{n // EVENTS_PER_SIGN_IN % VISITORS}"
    event = {
        "event_id": f"hub-{n}",
        "event_type": "page_view",
        "timestamp": microseconds,
        "platform": "web",
        "identifiers": identifiers,
        "context": {"locale": "en-GB", "user_agent": "Kiosk/1.0", "ip": "192.0.2.1"},
    }
    return orjson.dumps(event) + b"\n"


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
