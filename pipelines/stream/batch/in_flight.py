"""The work of a batch in other threads: the writes of its attempt, and a step that runs concurrently."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.contract import Attempt

Result = TypeVar("Result")


class InFlight:
    """The running work of the batches of one stream, which come one after the other. `pool` does it."""

    def __init__(self, pool: Executor) -> None:
        self.pool = pool
        self._attempt: Attempt | None = None
        self._concurrent: Future[Any] | None = None

    def attempt(self, attempt: Attempt) -> Attempt:
        """Take the attempt of the batch that begins, and return it."""
        self._attempt = attempt
        return attempt

    def run_concurrently(self, work: Callable[[], Result], state: LakeState) -> Callable[[], Result]:
        """Begin `work`, which asks `state`, on another core. The result waits for it and returns what it returns.

        Where `state` may not be asked by two threads, the work is done when it is waited for.
        """
        if not state.may_be_shared:
            return work
        running = self.pool.submit(work)
        self._concurrent = running
        return running.result

    def wait(self) -> None:
        """Wait until nothing of the last batch is being written or read any more, however that ends."""
        if self._attempt is not None:
            self._attempt.abandon()
        if self._concurrent is not None:
            wait([self._concurrent])
