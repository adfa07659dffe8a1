"""Upkeep by the running stream itself, on a schedule, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from conf.settings import Settings
from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.lake import Lake
from pipelines.operations.requests.holder import NotReady, holder_of
from pipelines.operations.requests.requests import Answer, is_between_batches
from pipelines.operations.upkeep.pause import upkeep
from pipelines.operations.upkeep.upkeep import AnotherUpkeep, UpkeepOptions, run_upkeep
from pipelines.stream.batch.process import BatchProcessor

LOOKS_EVERY_SECONDS = 30.0
# The thread shares its process with the batches: it works a third of the time.
STEPS_AT_ONCE, REST_SECONDS = 50, 0.02


class _StreamEnds(Exception):
    """There is no time for the rest; the next upkeep does it."""


@contextmanager
def own_upkeep(
    processor: BatchProcessor, settings: Settings, on_trouble: Callable[[str], None]
) -> Iterator[None]:
    """While the block runs, do upkeep whenever it is due. The end of the block waits for the step that is running."""
    if not settings.upkeep_every_hours:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(
        target=_keep_up, args=(processor, settings, stop, on_trouble), name="upkeep", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def seconds_until_due(lake: Lake, every_hours: float, now: datetime) -> float:
    """Until that long after the last upkeep, or after the first batch where there was none; of an empty lake, all.

    After one that is still to come, by its clock, nothing: nobody knows when it was.
    """
    rows = BatchRows(lake)
    last, first = rows.last_upkeep(["published_at"]), rows.first()
    if last is None and first is not None:
        last = rows.between(["published_at"], first, first).to_pylist()[0]
    since = (last and last["published_at"]) or now
    return every_hours * 3600 - (now - since).total_seconds() if since <= now else 0.0


def _keep_up(
    processor: BatchProcessor, settings: Settings, stop: threading.Event, on_trouble: Callable[[str], None]
) -> None:
    every = settings.upkeep_every_hours
    until = time.monotonic() + seconds_until_due(processor.setup.lake, every, datetime.now(UTC))
    while not stop.wait(min(LOOKS_EVERY_SECONDS, every * 3600)):
        if time.monotonic() < until:
            continue
        try:
            run_upkeep(
                processor.setup.lake, UpkeepOptions.of(settings), _pauses_of(processor), pace=_Pace(stop)
            )
        except _StreamEnds:
            return
        except NotReady:
            continue  # a batch is half-written: its retry comes first
        except AnotherUpkeep:
            pass  # somebody has asked for one: it does what was due
        except Exception as e:  # the stream continues whatever it is; the message can quote a path only
            on_trouble(f"upkeep was not finished ({type(e).__name__}); it is tried again in {every:g} hours")
        until = time.monotonic() + every * 3600


def _pauses_of(processor: BatchProcessor) -> Callable[[Mapping[str, Any]], Answer]:
    def pause(arguments: Mapping[str, Any]) -> Answer:
        with processor.between_batches():
            if not is_between_batches(processor.setup.lake):
                raise NotReady("a batch is half-written; the stream completes it first")
            holder = holder_of(processor.setup.lake, processor.setup.policy, processor.setup.settings)
            try:
                return upkeep(holder, arguments)
            finally:
                processor.last.refresh()

    return pause


class _Pace:
    """Rests between steps, and ends the upkeep with its stream."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._steps = stop, 0

    def __call__(self) -> None:
        self._steps += 1
        if (self._steps % STEPS_AT_ONCE == 0 and self._stop.wait(REST_SECONDS)) or self._stop.is_set():
            raise _StreamEnds
