"""An open-loop producer: events are made by the clock, whatever becomes of them, and land several times a second.

An event's time is that of the schedule and not the moment at which the producer gets round to it, so a producer that
is held up makes its events look older and not the stream look faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Phase:
    """So many seconds at so many events a second, evenly."""

    name: str
    seconds: float
    rate: float

    @property
    def count(self) -> int:
        return round(self.seconds * self.rate)


def event_times(phases: Sequence[Phase]) -> np.ndarray:
    """When each event is made, in seconds from the start, ascending."""
    starts = np.cumsum([0.0, *(p.seconds for p in phases)])
    return np.concatenate(
        [
            start + (np.arange(p.count) + 1) / p.rate
            for start, p in zip(starts, phases, strict=False)
            if p.count
        ]
        or [np.empty(0)]
    )


def landings(times: np.ndarray, every: float) -> Iterator[tuple[float, int, int]]:
    """(due, first, past the last): which events land together, at the end of the interval they are made in."""
    ticks = np.ceil(np.round(times / every, 9)).astype(np.int64)
    firsts = np.flatnonzero(np.diff(ticks, prepend=-1))
    for first, last in zip(firsts, [*firsts[1:], len(times)], strict=True):
        yield float(ticks[first] * every), int(first), int(last)


class Producer(threading.Thread):
    """Lands files of events by rename. `line(n, microseconds)` is the text of the n-th event, made at that time."""

    def __init__(
        self,
        landing: Path,
        phases: Sequence[Phase],
        line: Callable[[int, int], bytes],
        every: float = 0.2,
        name: str = "live",
    ) -> None:
        super().__init__(name=f"producer-{name}", daemon=True)
        self.landing, self.phases, self.line, self.every = landing, tuple(phases), line, every
        self.times = event_times(self.phases)
        self.started_at = 0.0  # seconds since 1970, as time.time() has it
        self.late: list[float] = []  # by how much each file landed after it was due, in seconds
        self.byte_count = 0
        self.produced_count = 0
        self._give_up = threading.Event()
        self._label = name
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.started_at = time.time()
            for due, first, last in landings(self.times, self.every):
                if self._give_up.wait(max(0.0, self.started_at + due - time.time())):
                    return
                self._land(first, last)
                self.late.append(time.time() - self.started_at - due)
        except BaseException as e:
            self.failure = e

    def give_up(self) -> None:
        """Land nothing more."""
        self._give_up.set()

    def finish(self) -> None:
        """Wait for the end of the schedule."""
        self.join()
        if self.failure is not None:
            raise self.failure

    def microseconds(self, n: int) -> int:
        """When the n-th event was made, since 1970."""
        return round((self.started_at + float(self.times[n])) * 1e6)

    def span(self, name: str) -> tuple[float, float]:
        """From when to when a phase lasted, in seconds since 1970."""
        at = self.started_at
        for phase in self.phases:
            if phase.name == name:
                return at, at + phase.seconds
            at += phase.seconds
        raise KeyError(name)

    def _land(self, first: int, last: int) -> None:
        content = b"".join(self.line(n, self.microseconds(n)) for n in range(first, last))
        hidden = self.landing / f".{self._label}-{first:09d}"
        hidden.write_bytes(content)
        hidden.rename(self.landing / f"{self._label}-{first:09d}.jsonl")
        self.byte_count += len(content)
        self.produced_count = last
