"""BatchProcessor: the foreachBatch step of a stream. It publishes each batch of the stream, in one portion or several.

Exactly once, by the contract in contract.py: repeating a published batch does nothing, repeating a
half-written one completes it. steps.py has the steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame

from conf.tables import FILES
from pipelines.lake.files_of_record import counts_of, file_rows
from pipelines.runtime.fingerprint import code_fingerprint
from pipelines.runtime.step_times import StepTimes
from pipelines.stream.batch import steps
from pipelines.stream.batch.compacting import Compactions
from pipelines.stream.batch.in_flight import InFlight
from pipelines.stream.batch.intent import Intent, digest_of
from pipelines.stream.batch.kind import STREAM, BatchKind
from pipelines.stream.batch.last_published import LastPublished
from pipelines.stream.batch.portions import Portion
from pipelines.stream.batch.publish import publication_row
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.read_before import Landed, readings
from transforms.ingest.framing.files_read import FileRead, Readings, facts_of
from transforms.ingest.records import parsed_for_driver


class StreamEnded(RuntimeError):
    """A batch has come after the stream's end. Nothing of it was done."""


class BatchProcessor:
    """Processes the micro-batches of one stream into one lake. One instance per stream; not for several threads.

    `failure`: what stopped the last batch, if something did.
    """

    def __init__(self, setup: StreamSetup) -> None:
        self.setup, self.last = setup, LastPublished(setup)
        self.failure: Exception | None = None
        self._one_at_a_time, self._has_ended = threading.RLock(), False
        self._pool = ThreadPoolExecutor(setup.settings.write_threads, thread_name_prefix="write")
        self._in_flight = InFlight(self._pool)
        self.compactions = Compactions(setup, self.last, self._pool, self._one_at_a_time)

    # -- one batch -------------------------------------------------------------------------------------------------

    def process(self, parsed: Callable[[], pa.Table], stream_batch_id: int, kind: BatchKind = STREAM) -> None:
        """Process one batch of records, in PARSED_SCHEMA, that `parsed` returns.

        Raises to stop the line; what was written is completed by the next attempt. StreamEnded after `end`.
        """
        with self._one_at_a_time:
            if self._has_ended:
                raise StreamEnded("the stream has ended; the next one begins with this batch")
            try:
                self.compactions.raise_failure()
                self._process(parsed, stream_batch_id, kind)
                self.compactions.begin_if_due()
            except Exception as e:
                self.failure = e
                self.last.doubt()
                self._in_flight.wait()  # the next attempt must not meet what this one is still writing or reading
                self.last.undo()
                raise

    def parse(self, frame: DataFrame, landed: Sequence[Landed] = ()) -> pa.Table:
        """The rows of a frame of records, in PARSED_SCHEMA. `landed`: the files in it."""
        return parsed_for_driver(frame, self.setup.parser, self.readings(landed))

    def readings(self, landed: Sequence[Landed]) -> Readings:
        """What is to be taken of those files of whose names something has been published."""
        return readings(landed, self.last.files) if self.last.files is not None else {}

    def _process(self, parsed: Callable[[], pa.Table], stream_batch_id: int, kind: BatchKind) -> None:
        began, times = time.perf_counter(), StepTimes()
        self.last.ready()
        if stream_batch_id <= self.last.done_stream_batch_id:
            return
        with times("parse"):
            received = parsed()
        files = facts_of(received)
        received = received.replace_schema_metadata(None)
        after, first, until = self.last.batch_id, 0, None
        if not received.num_rows:
            proposed = self._intent(digest_of(received, files), stream_batch_id, after, 0, 0, 0)
            self._publish_nothing(files, self._batch(kind, proposed, times, began))
            self._record_files(files)
            return
        with times("judge"):
            received = kind.order(received)
            digest = digest_of(received, files)
            cut = kind.cut(received, files, self.setup.settings)
        begun = self.last.begun
        if begun is not None and begun.stream_batch_id == stream_batch_id:
            first, until = begun.goes_on(self.last.batch_id)
            after = begun.after
        while True:
            portion = cut.portion(first, until)
            proposed = self._intent(
                digest, stream_batch_id, after, portion.first, portion.until, portion.total
            )
            self._publish(portion, self._batch(kind, proposed, times, began))
            if portion.is_last:
                break
            first, until = portion.until, None
            began, times = time.perf_counter(), StepTimes()
        self._record_files(files)

    def _publish(self, portion: Portion, batch: steps.Batch) -> None:
        """Publish one portion, nearly always the whole of the stream's batch."""
        judged = steps.judge(portion, batch)
        recorded = steps.record(judged, batch)
        linked = steps.link(recorded, batch)
        folded = steps.fold(linked, batch)
        written = steps.write(folded, batch)
        self.compactions.count(written.hot_row_count)
        published = steps.publish(written, batch)
        self.last.record(published.publication, published.offsets)
        self.setup.on_published(published.report)

    def _publish_nothing(self, files: Sequence[FileRead], batch: steps.Batch) -> None:
        """A batch without a record is published like any other: what a checkpoint has counted and the lake has not
        would look like a batch that was lost."""
        intent, attempt = steps.begin(batch)
        for wave in ({FILES: file_rows(files, intent.batch_id)}, {}, {}, {}):
            attempt.start(wave)
        attempt.finish()
        publication = self.last.publication(
            "empty", intent.batch_id, intent.batch_at, batch.times, intent.stream_batch_id
        )
        publication = replace(publication, inputs="[]", metrics=counts_of(files))
        attempt.publish(publication_row(publication))
        self.last.record(publication, self.last.offsets)

    def _batch(self, kind: BatchKind, proposed: Intent, times: StepTimes, began: float) -> steps.Batch:
        return steps.Batch(
            self.setup, kind, self.last, self.last.ready(), self._in_flight, proposed, times, began
        )

    def _intent(
        self, input_digest: str, stream_batch_id: int, after: int, first: int, until: int, total: int
    ) -> Intent:
        return Intent(
            stream=self.setup.stream,
            stream_batch_id=stream_batch_id,
            batch_id=self.last.batch_id + 1,
            batch_at=time.time_ns() // 1000,
            versions=self.last.published_versions,
            policy_fingerprint=self.setup.policy.fingerprint,
            code_fingerprint=code_fingerprint(),
            key_fingerprint=self.setup.key_fingerprint,
            input_digest=input_digest,
            first=first,
            until=until,
            total=total,
            after=after,
        )

    def _record_files(self, files: Sequence[FileRead]) -> None:
        self.last.record_files(files)
        self.setup.on_files(files)

    # -- between batches -------------------------------------------------------------------------------------------

    @contextmanager
    def between_batches(self) -> Iterator[None]:
        """While the block runs, no batch runs and no compaction."""
        while True:
            self.compactions.wait()
            with self._one_at_a_time:
                if not self.compactions.is_running:
                    yield
                    return

    def compact(self) -> None:
        """Fold the hot parts into their tables and publish that, so that the tables themselves are complete.

        Not while a batch is half-written: this would publish what there is of it.
        """
        with self.between_batches():
            if self.last.is_whole():
                self.compactions.compact()

    def compact_if_due(self) -> None:
        """Begin a compaction if one is due. For a stream without input; otherwise batches begin compactions."""
        if self.compactions.is_due and self._one_at_a_time.acquire(blocking=False):
            try:
                if self.failure is None:
                    self.compactions.begin_if_due_when_idle()
            finally:
                self._one_at_a_time.release()

    # -- the end of the stream -------------------------------------------------------------------------------------

    def end(self) -> None:
        """Refuse every batch from now on, once the running one is published.

        Spark's `stop` waits for a batch that has begun, so a caller of `stop` must not block batches.
        """
        with self._one_at_a_time:
            self._has_ended = True

    def go_on(self) -> None:
        """Take batches again: another query follows the one that ended or failed."""
        self._has_ended, self.failure = False, None

    def close(self) -> None:
        """Wait for a running compaction and end the threads. The processor cannot be used after that."""
        self.compactions.wait()
        self._pool.shutdown()

    @property
    def has_ended(self) -> bool:
        """Whether batches are refused."""
        return self._has_ended
