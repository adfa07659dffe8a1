"""A stream that is told to end while its next batch is coming."""

from __future__ import annotations

import threading

import pytest

from conf.tables import BATCHES
from pipelines.apps.run_stream import _until_done
from pipelines.stream.batch.process import StreamEnded
from tests.direct_lake import DirectLake

pytestmark = pytest.mark.thorough
EVENT = {"id": "b", "at": "2026-03-01T00:00:00Z", "type": "login", "cookie": "c"}


class LastMoment:
    """A query like Spark's: its next batch comes as it is stopped, and `stop` waits for what becomes of that."""

    isActive = True

    def __init__(self, world: DirectLake) -> None:
        self.world, self.problem, self.is_stopped = world, None, False

    def stop(self) -> None:
        batch = threading.Thread(target=self._batch, daemon=True)
        batch.start()
        batch.join(20)
        self.is_stopped = not batch.is_alive()

    def _batch(self) -> None:
        try:
            self.world.feed([EVENT])
        except StreamEnded as e:
            self.problem = self.problem or e

    def exception(self) -> Exception | None:
        return self.problem


def test_a_batch_that_comes_as_the_stream_ends_is_refused_and_left_to_the_next_stream(tmp_path) -> None:
    """Seen to fail when the stream is stopped by whoever holds the lock between batches: both wait for ever."""
    world = DirectLake(tmp_path / "lake")
    query, stop = LastMoment(world), threading.Event()
    stop.set()
    _until_done(query, world.processor, stop)
    assert query.is_stopped
    assert isinstance(query.problem, StreamEnded)
    assert world.lake.open(BATCHES).count() == 0
    world.processor = world.new_processor()
    world.feed([EVENT])
    assert world.lake.open(BATCHES).count() == 1


def test_a_batch_that_fails_as_the_stream_ends_is_told(tmp_path) -> None:
    world = DirectLake(tmp_path / "lake")
    query, stop = LastMoment(world), threading.Event()
    query.problem = world.processor.failure = ZeroDivisionError()
    stop.set()
    with pytest.raises(ZeroDivisionError):
        _until_done(query, world.processor, stop)
