"""Generates a world: event files in order of arrival and, if asked for, the truth behind them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from pipelines.generator.anchors import equip
from pipelines.generator.arrival import order_of_arrival, share_out
from pipelines.generator.defects import spoil
from pipelines.generator.itinerary import plan_itinerary
from pipelines.generator.population import GeneratorError, populate
from pipelines.generator.rendering import Facts, Storyteller
from pipelines.generator.source_formats import SOURCE_FORMATS
from pipelines.generator.summary import GeneratorSummary, summarize
from pipelines.generator.timetable import lay_out
from pipelines.generator.truth import World, truth_lines
from pipelines.generator.vocabulary import actions, signing_actions

TRUTH_LINES_PER_WRITE = 20_000

Progress = Callable[[int, int], None]


def generate(
    persons: int,
    events: int,
    seed: int,
    out: Path,
    truth: Path | None = None,
    source_format: str = "native",
    events_per_file: int = 50_000,
    progress: Progress | None = None,
) -> GeneratorSummary:
    """Writes exactly `events` records as `out/part-00000.jsonl`… and the truth; same request, same bytes."""
    out, truth = Path(out), None if truth is None else Path(truth)
    _check_request(persons, events, seed, out, source_format, events_per_file)
    dice, numbers = Random(seed), np.random.Generator(np.random.PCG64(seed))
    counts = share_out(events)

    population = populate(dice, numbers, persons, counts.valid)
    plan = plan_itinerary(dice, population)
    anchors = equip(dice, numbers, plan.anchor_kind)
    world = World(population, anchors, *lay_out(numbers, plan))
    arrivals = order_of_arrival(numbers, world.events.time, counts)
    event_ids = numbers.bytes(16 * (counts.valid + counts.malformed))
    storyteller = Storyteller(population, anchors, world.events, event_ids, actions(dice), signing_actions())

    render = SOURCE_FORMATS[source_format]
    out.mkdir(parents=True, exist_ok=True)
    file_count = 0
    for start in range(0, events, events_per_file):
        records = arrivals.records[start : start + events_per_file]
        lines = _lines(records, storyteller, dice, counts.valid, render)
        _write_atomically(out / f"part-{file_count:05d}.jsonl", [b"\n".join(lines) + b"\n"])
        file_count += 1
        if progress is not None:
            progress(start + len(records), events)
    if truth is not None:
        truth.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(truth, _in_blocks(truth_lines(world, storyteller)))
    return summarize(world, counts, arrivals.late_count, file_count)


def _check_request(
    persons: int, events: int, seed: int, out: Path, source_format: str, events_per_file: int
) -> None:
    for name, value, least in (
        ("persons", persons, 1),
        ("events", events, 1),
        ("seed", seed, 0),
        ("events-per-file", events_per_file, 1),
    ):
        if value < least:
            raise GeneratorError(f"{name}: {value} is too small; give at least {least}")
    if source_format not in SOURCE_FORMATS:
        known = ", ".join(sorted(SOURCE_FORMATS))
        raise GeneratorError(f"source-format: '{source_format}' cannot be generated; give one of {known}")
    if out.exists() and not out.is_dir():
        raise GeneratorError(f"out: {out} is a file; give a folder that is new or empty")
    if out.is_dir() and any(out.iterdir()):
        raise GeneratorError(f"out: {out} is not empty; give a folder that is new or empty")


def _lines(
    records: np.ndarray, storyteller: Storyteller, dice: Random, valid: int, render: Callable[[Facts], str]
) -> list[bytes]:
    """The lines of some arrivals; a bad record is modelled on the planned event of the same number."""
    models = np.where(records >= 0, records, (-1 - records) * 97 % valid)
    lines = []
    for record, facts in zip(records.tolist(), storyteller.tell(models), strict=True):
        if record >= 0:
            lines.append(render(facts).encode())
        else:
            number = -1 - record
            lines.append(spoil(dice, number, facts, storyteller.event_id(valid + number), render))
    return lines


def _in_blocks(lines: Iterable[str]) -> Iterator[bytes]:
    lines = iter(lines)
    while block := list(islice(lines, TRUTH_LINES_PER_WRITE)):
        yield ("\n".join(block) + "\n").encode()


def _write_atomically(path: Path, blocks: Iterable[bytes]) -> None:
    """A reader sees the whole file or none: names that start with a dot are ignored until the rename."""
    unfinished = path.with_name(f".{path.name}.tmp")
    with unfinished.open("wb") as file:
        for block in blocks:
            file.write(block)
    os.replace(unfinished, path)
