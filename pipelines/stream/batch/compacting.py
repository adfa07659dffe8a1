"""Compactions of a stream: when hot parts are folded into their tables, mostly while batches go on.

    batch 7 │ batch 8 │ batch 9 │ forget ≤ 7, publish │ batch 10
            └─ fold ≤ 7 into the bases, join files ──┘

A batch writes hot parts and appends; only a compaction writes the bases. So batches go on while it does, and wait for
what is short: taking the rows out of the hot parts, and the row of ops.batches. Until then readers have the bases as
they were published, and every hot row that is in the new ones already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import AbstractContextManager

from conf.table_spec import TableSpec
from conf.tables import ALL, UPSERTED
from pipelines.lake.snapshot import without_batches
from pipelines.lake.writing.compaction import compact_files, fold_hot, forget_folded
from pipelines.lake.writing.writer import Txn
from pipelines.runtime.released_memory import give_back
from pipelines.runtime.step_times import StepTimes
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.last_published import LastPublished
from pipelines.stream.batch.publish import publication_row
from pipelines.stream.batch.setup import StreamSetup

# A lake that takes minutes to fold is not folded all the time: its readers have the hot parts, its batches a core.
# Seconds of rest for each second that the last one took, while hot rows are few and while they are many.
REST, SHORT_REST = 4.0, 1.0
Each = Callable[[Callable[[TableSpec], int], tuple[TableSpec, ...]], Iterable[int]]


class Compactions:
    """The compactions of one stream. `between` is entered between two batches, by one at a time."""

    def __init__(
        self,
        setup: StreamSetup,
        last: LastPublished,
        pool: Executor,
        between: AbstractContextManager[object],
    ) -> None:
        self._setup, self._last, self._pool, self._between = setup, last, pool, between
        self._rows = 0
        self._may_from = 0.0
        self._due_at = time.monotonic() + setup.settings.compact_every_seconds
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._failure: BaseException | None = None

    def count(self, hot_rows: int) -> None:
        """Count the hot rows that a batch has written."""
        self._rows += hot_rows

    @property
    def is_due(self) -> bool:
        """Whether a compaction should begin now."""
        now, are_many = time.monotonic(), self._rows > self._setup.settings.compact_from_hot_rows
        return self._rows > 0 and now > (self._may_from if are_many else self._due_at)

    @property
    def is_running(self) -> bool:
        """Whether a compaction is running."""
        return not self._is_idle.is_set()

    def wait(self) -> None:
        """Wait until none is running. A caller that blocks batches would wait for ever: it ends between two."""
        self._is_idle.wait()

    def raise_failure(self) -> None:
        """Raise the error of the last compaction that ran concurrently with batches, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def begin_if_due(self) -> None:
        """Fold what is published in a thread of its own, and publish it between two batches. Where no batch runs.

        What goes wrong in that thread is raised by `raise_failure`.
        """
        if self.is_due and not self.is_running:
            self._last.require_as_left()  # it folds in whatever is in the hot parts
            self._begin(self._last.batch_id)

    def begin_if_due_when_idle(self) -> None:
        """As `begin_if_due`, where no batch follows: everything that goes wrong is raised by `raise_failure`."""
        try:
            self.begin_if_due()
        except Exception as e:
            self._failure = e

    def compact(self) -> None:
        """Fold and publish at once. Where no batch and no compaction runs."""
        self._last.require_as_left()
        upto = self._last.batch_id
        self._publish(upto, self._fold(upto, self._pool.map))

    def _begin(self, upto_batch_id: int) -> None:
        def work() -> None:
            started = time.monotonic()
            try:
                times = self._fold(upto_batch_id)
                with self._between:
                    if self._last.is_whole():
                        self._publish(upto_batch_id, times)
            except BaseException as e:
                self._failure = e
            finally:
                self._rest_after(time.monotonic() - started)
                self._is_idle.set()
                give_back()  # a compaction takes more memory than batches do

        self._rows = 0
        self._is_idle.clear()
        threading.Thread(target=work, name="compaction", daemon=True).start()

    def _fold(self, upto_batch_id: int, each: Each = map) -> StepTimes:
        """Hot rows up to that batch into their bases, small files into larger ones, `each` table by its own.

        Repeating it is harmless, and so is leaving it unfinished.
        """
        lake, writer, times = self._setup.lake, self._setup.writer, StepTimes()
        with times("compact"):
            list(each(lambda spec: fold_hot(lake, spec, upto_batch_id, writer), UPSERTED))
        with times("compact_files"):
            for spec in ALL:
                compact_files(lake, spec)
        return times

    def _publish(self, upto_batch_id: int, times: StepTimes) -> None:
        """Base first, then hot: readers of both see the same rows at every moment. Repeating it is harmless."""
        last, setup = self._last, self._setup
        batch_id = last.batch_id + 1
        with times("forget"):
            list(
                self._pool.map(
                    lambda spec: forget_folded(setup.lake, spec, upto_batch_id, setup.writer), UPSERTED
                )
            )
        last.require_as_left()
        # Held against what is published, not against what this process found: a compaction that was killed just before
        # its row has moved the versions already, and nothing would be left to do and nothing published.
        if without_batches(last.versions) != without_batches(last.published_versions):
            publication = last.publication("compaction", batch_id, time.time_ns() // 1000, times)
            setup.require_lock()
            txn = Txn(f"{setup.stream}:compaction", batch_id)
            attempt = Attempt(setup.lake, setup.writer, txn, last.versions, self._pool, is_repeated=False)
            attempt.publish(publication_row(publication))
            last.record(publication, last.offsets)

    def _rest_after(self, seconds: float) -> None:
        now = time.monotonic()
        self._may_from = now + seconds * SHORT_REST
        self._due_at = now + max(self._setup.settings.compact_every_seconds, seconds * REST)
