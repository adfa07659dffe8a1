"""Generated events, cut into history and what arrives live: the same people, who come back.

generate ──▶ files ──┬─▶ history: as generated, late, repeated and broken records among it
                     └─▶ live: first copies of valid events alone, restamped with the time of their production
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson

from benchmarks.accuracy.pairs import Truth, read_truth
from benchmarks.report.measured import SEED
from pipelines.generator import generate
from transforms.ingest.values.instants import instant

EVENTS_PER_PERSON = 12
TIME = re.compile(rb'"timestamp":("[^"]*"|[0-9.eE+-]+)')
_ID = re.compile(rb'"event_id":"([^"\n]*)"')  # within its line: one that was cut off has no end


class LiveEvent:
    """One event without its time: `at(microseconds)` is its line as of then."""

    __slots__ = ("after", "before")

    def __init__(self, line: bytes) -> None:
        found = TIME.search(line)
        if found is None:
            raise ValueError("an event without a timestamp cannot be restamped")
        self.before, self.after = line[: found.start(1)], line[found.end(1) :] + b"\n"

    def at(self, microseconds: int) -> bytes:
        return b"%s%d%s" % (self.before, microseconds, self.after)


@dataclass(frozen=True)
class World:
    """`history`: files in order of arrival, `history_count` records in them; `later`: the files after them."""

    history: Sequence[Path]
    history_count: int
    later: Sequence[Path]
    truth_file: Path

    @cached_property
    def truth(self) -> Truth:
        return read_truth(self.truth_file)

    def live_events(self) -> list[LiveEvent]:
        """The later files' events, each once: what history has had, and what cannot be read, is left out."""
        return [LiveEvent(line) for line in first_copies(self.history, self.later, self.truth)]


def make_world(folder: Path, history: int, later: int = 0, events_per_file: int = 25_000) -> World:
    """History of about `history` records in whole files, and files with at least `later` valid new events."""
    asked = round(later * 1.06) + events_per_file  # some of them are repeated, broken, or known from history
    files_of_history = max(1, -(-history // events_per_file))
    records = files_of_history * events_per_file + (asked if later else 0)
    truth = folder / "truth.jsonl"
    generate(
        max(20, records // EVENTS_PER_PERSON),
        records,
        SEED,
        folder / "made",
        truth,
        events_per_file=events_per_file,
    )
    files = sorted((folder / "made").iterdir())
    return World(
        files[:files_of_history], files_of_history * events_per_file, files[files_of_history:], truth
    )


def first_copies(known: Sequence[Path], files: Sequence[Path], truth: Truth) -> Iterator[bytes]:
    """The first line of every valid event in `files` that is not in the files `known` already."""
    left = {id_.encode() for id_ in truth.events["event_id"].to_pylist()}
    for file in known:
        left.difference_update(_ID.findall(file.read_bytes()))
    for file in files:
        for line in file.read_bytes().splitlines():
            found = _ID.search(line)
            if found is not None and found[1] in left:
                left.remove(found[1])
                yield line


def event_time(line: bytes) -> int:
    """When a valid event says that it happened, in microseconds since 1970."""
    found = TIME.search(line)
    at = instant(orjson.loads(found[1]))[0] if found else None
    if at is None:
        raise ValueError("an event without a usable timestamp")
    return at


def arrive(files: Sequence[Path], landing: Path) -> None:
    """Rename whole files into the landing folder, where they are read in the order of their age."""
    landing.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.touch()
        file.rename(landing / file.name)


def byte_count(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)
