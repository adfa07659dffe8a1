"""When hot parts are folded into their tables, and the part of it that batches do not wait for.

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

from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import ALL, UPSERTED
from pipelines.lake.lake import Lake
from pipelines.lake.writing.compaction import compact_files, fold_hot, forget_folded
from pipelines.lake.writing.writer import TableWriter
from pipelines.runtime.step_times import StepTimes

# A lake that takes minutes to fold is not folded all the time: its readers have the hot parts, its batches a core.
# Seconds of rest for each second that the last one took, while hot rows are few and while they are many.
REST, SHORT_REST = 4.0, 1.0
Each = Callable[[Callable[[TableSpec], int], tuple[TableSpec, ...]], Iterable[int]]


class Compacting:
    """The compactions of one stream. `begin` and `end` of one are called where no batch runs."""

    def __init__(self, lake: Lake, writer: TableWriter, settings: Settings) -> None:
        self._lake, self._writer, self._settings = lake, writer, settings
        self._rows = 0
        self._may_from, self._due_at = 0.0, time.monotonic() + settings.compact_every_seconds
        self._is_idle = threading.Event()
        self._is_idle.set()
        self.failure: BaseException | None = None

    def count(self, hot_rows: int) -> None:
        """A batch has written so many."""
        self._rows += hot_rows

    @property
    def is_due(self) -> bool:
        now, are_many = time.monotonic(), self._rows > self._settings.compact_from_hot_rows
        return self._rows > 0 and now > (self._may_from if are_many else self._due_at)

    @property
    def is_running(self) -> bool:
        return not self._is_idle.is_set()

    def wait(self) -> None:
        """Until none is running. Not for whoever keeps batches from running: the end of one waits for that."""
        self._is_idle.wait()

    def begin(self, upto_batch_id: int, end: Callable[[int, StepTimes], None]) -> None:
        """Fold the rows of published batches up to that one, in a thread of its own; then call `end` there.

        What goes wrong is in `failure`.
        """

        def work() -> None:
            started = time.monotonic()
            try:
                steps = self.fold(upto_batch_id)
                end(upto_batch_id, steps)
            except BaseException as e:
                self.failure = e
            finally:
                self._rest_after(time.monotonic() - started)
                self._is_idle.set()

        self._rows = 0
        self._is_idle.clear()
        threading.Thread(target=work, name="compaction", daemon=True).start()

    def fold(self, upto_batch_id: int, each: Each = map) -> StepTimes:
        """Hot rows up to that batch into their bases, small files into larger ones, `each` table by its own.

        Repeating it is harmless, and so is leaving it unfinished.
        """
        steps = StepTimes()
        with steps("compact"):
            list(each(lambda spec: fold_hot(self._lake, spec, upto_batch_id, self._writer), UPSERTED))
        with steps("compact_files"):
            for spec in ALL:
                compact_files(self._lake, spec)
        return steps

    def forget(self, upto_batch_id: int, each: Each = map) -> None:
        """Take what was folded out of the hot parts."""
        list(each(lambda spec: forget_folded(self._lake, spec, upto_batch_id, self._writer), UPSERTED))

    def _rest_after(self, seconds: float) -> None:
        now = time.monotonic()
        self._may_from = now + seconds * SHORT_REST
        self._due_at = now + max(self._settings.compact_every_seconds, seconds * REST)
