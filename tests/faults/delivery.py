"""The same events brought otherwise: several times, in any order, some of them late, in any number of batches."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conf.tables import EVENTS, IDENTIFIERS, IDENTITY_EDGES, IDENTITY_MAP, PROFILES, REJECTED_EDGES, SESSIONS
from tests.faults import comparison, events
from tests.faults.in_process import BATCHES, Line, Op, Verdict, drop, published_state
from tests.faults.injection import Faults

# What does not depend on how often a record came. Bronze has every arrival, quarantine every refusal.
SAME = (EVENTS, IDENTIFIERS, IDENTITY_EDGES, IDENTITY_MAP, REJECTED_EDGES, SESSIONS, PROFILES)
DELIVERED = Op("stream 1", "stream")


@dataclass(frozen=True)
class Delivery:
    """`cuts` batches; every event 1 to `times` times; `shuffled`; a share of `late` ones comes with the last batch."""

    cuts: int
    times: int = 1
    shuffled: bool = False
    late: float = 0.0
    draws: int = 1

    def __str__(self) -> str:
        words = [f"{self.cuts} batches"]
        words += [f"each 1 to {self.times} times"] * (self.times > 1)
        words += ["shuffled"] * self.shuffled + [f"{self.late:.0%} late"] * (self.late > 0)
        return ", ".join(words)

    def batches(self, seed: int) -> list[bytes]:
        """The files that are landed."""
        dice = random.Random(seed)
        lines = [line for line in _lines() for _ in range(dice.randint(1, self.times))]
        if self.shuffled:
            dice.shuffle(lines)
        late = [line for line in lines if dice.random() < self.late]
        held = set(map(id, late))
        lines = [line for line in lines if id(line) not in held]
        at = [0, *sorted(dice.sample(range(1, len(lines)), self.cuts - 1)), len(lines)]
        cut = [lines[a:b] for a, b in itertools.pairwise(at)]
        cut[-1] += late
        return [b"".join(part) for part in cut]


def run_delivery(delivery: Delivery, folder: Path, seed: int) -> Verdict:
    """Bring the events in this way and hold what comes of it against what comes of one batch of them."""
    started = time.perf_counter()
    expected = _brought(Delivery(1), folder / "plain", seed)[0]
    found, problems = _brought(delivery, folder / "otherwise", seed)
    wrong = [n for n in comparison.differences(found, expected) if n in {s.full_name for s in SAME}]
    problems += [f"other content in {', '.join(wrong)}"] if wrong else []
    return Verdict(problems, time.perf_counter() - started)


def _brought(delivery: Delivery, folder: Path, seed: int) -> tuple[comparison.Digests, list[str]]:
    line = Line(folder, Faults())
    line.make()
    for number, content in enumerate(delivery.batches(seed)):
        drop(line.landing / f"{number:03}.jsonl", content)
    line.run(DELIVERED)
    rows = comparison.rows_of(published_state(line.lake))
    problems = comparison.broken_rules(line.lake)
    published = sum(b["kind"] == "batch" for b in rows[comparison.BATCHES])
    if published != delivery.cuts:
        problems.append(f"{published} batches published of {delivery.cuts}")
    return comparison.digests(rows, is_renumbered=True), problems


@cache
def _lines() -> list[bytes]:
    """Every event of the suite, without those that contradict another one: of these the first published wins."""
    lines = [line for content in events.files(BATCHES) for line in content.splitlines(keepends=True)]
    said: dict[Any, set[bytes]] = {}
    for line in lines:
        said.setdefault(comparison.event_id_of(line), set()).add(line)
    return [line for line in lines if len(said[comparison.event_id_of(line)]) == 1]
