"""BatchProcessor: the foreachBatch step. Frame and parse, judge duplicates, resolve, fold, write, publish.

Exactly once by the contract in contract.py, beside this module: repeating a published batch does nothing, repeating a
half-written one completes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from conf.identifier_rules import identifier_rules
from conf.policy import Policy
from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, FILES, PROFILES, QUARANTINE
from pipelines.lake.fence import require_as_left
from pipelines.lake.files_of_record import counts_of, file_rows
from pipelines.lake.lake import Lake
from pipelines.lake.writing.writer import TableWriter, Txn
from pipelines.runtime.fingerprint import code_fingerprint
from pipelines.runtime.step_times import StepTimes
from pipelines.state.open_state import OpenState
from pipelines.state.table_state import TableState
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import Owned, cut_activity, own_sessions
from pipelines.stream.batch.compacting import Compacting
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.derived import linked_rows, owned_rows
from pipelines.stream.batch.earlier import PublishedEvents
from pipelines.stream.batch.folding import fold_persons
from pipelines.stream.batch.intent import INTENT, Intent, digest_of, pending_intent, record_intent
from pipelines.stream.batch.judged import by_origin, decisions_of, judged
from pipelines.stream.batch.last_published import LastPublished
from pipelines.stream.batch.portions import Cut, Portion
from pipelines.stream.batch.publish import (
    PORTION,
    Publication,
    batch_row,
    compaction_row,
    empty_row,
    with_metrics,
)
from pipelines.stream.batch.resolution import Identified, identify
from pipelines.stream.kafka.offsets import Offsets, advanced, to_json
from pipelines.stream.read_before import Landed, readings
from transforms.identity.components import Components
from transforms.ingest.deduplication import DeduplicationOutcome
from transforms.ingest.framing.files_read import FileRead, Readings, facts_of
from transforms.ingest.parse import RecordParser
from transforms.ingest.records import parsed_for_driver

Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchReport:
    """What one published batch was, for progress lines."""

    batch_id: int
    received: int
    valid: int
    quarantined: int
    duplicate: int
    persons: int
    seconds: float
    steps: Mapping[str, float]


class StreamEnded(RuntimeError):
    """A batch has come after its stream was told to end. Nothing of it was done."""


class BatchProcessor(LastPublished):
    """Processes the micro-batches of one stream into one lake. One instance per stream; not for several threads."""

    def __init__(
        self,
        lake: Lake,
        writer: TableWriter,
        parser: RecordParser,
        policy: Policy,
        components: Components,
        settings: Settings,
        stream: str,
        key_fingerprint: str,
        on_published: Callable[[BatchReport], None] = lambda report: None,
        topic_ids: Mapping[str, str] | None = None,
        *,
        open_state: OpenState,
        offset_entry: Callable[[int], str | None] = lambda stream_batch_id: None,
        require_lock: Callable[[], None] = lambda: None,
    ) -> None:
        # A stream that is behind has some of a batch's rows before the batch comes, and puts its own way here.
        self.rows_of: Callable[[DataFrame, int], pa.Table] = lambda frame, stream_batch_id: self.parse(frame)
        self.offset_entry, self.require_lock = offset_entry, require_lock
        super().__init__(lake, stream, open_state)
        self.writer, self.parser, self.policy = writer, parser, policy
        self.components, self.settings = components, settings
        self.key_fingerprint, self.on_published = key_fingerprint, on_published
        self.topic_ids = topic_ids or {}
        self.failure: Exception | None = None
        self._one_at_a_time, self._has_ended = threading.RLock(), False
        self._compacting = Compacting(lake, writer, settings)
        self._attempt: Attempt | None = None
        self._concurrent: list[Future[Any]] = []  # what a batch works out beside its other steps
        self._earlier = PublishedEvents(lake)
        self.on_files: Callable[[Sequence[FileRead]], None] = lambda files: None
        self._pool = ThreadPoolExecutor(settings.write_threads, thread_name_prefix="write")

    # -- one batch -------------------------------------------------------------------------------------------------

    def __call__(self, frame: DataFrame, stream_batch_id: int) -> None:
        """Spark's foreachBatch entry. Raises to stop the line; what was written is completed by the next attempt."""
        self.process(lambda: self.rows_of(frame, stream_batch_id), stream_batch_id)

    def parse(self, frame: DataFrame, landed: Sequence[Landed] = ()) -> pa.Table:
        """The rows of a frame of records, in PARSED_SCHEMA. `landed`: the files in it."""
        return parsed_for_driver(frame, self.parser, self.readings(landed))

    def readings(self, landed: Sequence[Landed]) -> Readings:
        """What of files of whose names something has been published is to be taken."""
        return readings(landed, self._files) if self._files is not None else {}

    def process(self, parsed: Callable[[], pa.Table], stream_batch_id: int) -> None:
        """Process one batch of records, in PARSED_SCHEMA, that `parsed` hands over."""
        with self._one_at_a_time:
            if self._has_ended:
                raise StreamEnded("the stream has ended; the next one begins with this batch")
            try:
                self._require_compacted()
                self._process(parsed, stream_batch_id)
                self._begin_compaction()
            except Exception as e:
                self.failure, self._is_in_doubt = e, True
                if self._attempt is not None:
                    self._attempt.abandon()  # the next one must not meet what this one is still writing
                wait(self._concurrent)  # nor change what this one is still reading
                if self.state is not None and self.state.is_dirty:
                    self.state.undo()
                raise

    @contextmanager
    def between_batches(self) -> Iterator[None]:
        """No batch runs meanwhile, and no compaction."""
        while True:
            self._compacting.wait()
            with self._one_at_a_time:
                if not self._compacting.is_running:
                    yield
                    return

    def end(self) -> None:
        """Refuse every batch from now on, once the running one is published.

        Spark waits for a batch that has come when it is told to stop, so nobody may keep batches from running then.
        """
        with self._one_at_a_time:
            self._has_ended = True

    def go_on(self) -> None:
        """Take batches again: the query that was to end is followed by another one."""
        self._has_ended = False

    def close(self) -> None:
        """Wait for what is running beside the batches. Nothing is done after that."""
        self._compacting.wait()
        self._pool.shutdown()

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    def _process(self, parsed: Callable[[], pa.Table], stream_batch_id: int) -> None:
        started, steps = time.perf_counter(), StepTimes()
        self.ready_state()
        if stream_batch_id <= self._done_stream_batch_id:
            return
        with steps("parse"):
            received = parsed()
        files = facts_of(received)
        received = received.replace_schema_metadata(None)
        if not received.num_rows:
            self._publish_nothing(received, files, stream_batch_id, steps)
            return
        with steps("judge"):
            received = self.in_order(received)
            digest = digest_of(received, files)
            cut = self.cut(received, files)
        first, until, after = 0, None, self._last_batch_id
        if self._begun is not None and self._begun.stream_batch_id == stream_batch_id:
            first, until = self._begun.goes_on(self._last_batch_id)
            after = self._begun.after
        while True:
            portion = cut.portion(first, until)
            intent = self._intent(digest, stream_batch_id, portion.first, portion.until, portion.total, after)
            self._publish(portion, intent, steps, started)
            if portion.is_last:
                break
            first, until = portion.until, None
            started, steps = time.perf_counter(), StepTimes()
        self._record_files(files)

    def _publish(self, portion: Portion, proposed: Intent, steps: StepTimes, started: float) -> None:
        """Publish one portion, nearly always the whole of the stream's batch."""
        state = self.ready_state()
        stream_batch_id = proposed.stream_batch_id if portion.is_last else None
        with steps("look_up"):
            state.prefetch(portion.received)
        with steps("judge"):
            found = judged(portion.received, portion.together, state, self.settings.max_tenants)
            received, outcome, valid = found.received, found.outcome, found.valid
        intent, attempt = self._begin(proposed)
        state.is_dirty = True
        with steps("bronze"):
            landed = self.landing(received, outcome, valid, intent.batch_id)
            attempt.start({**landed, FILES: file_rows(portion.files, intent.batch_id)})
        cut = self._run_concurrently(
            lambda: cut_activity(valid, state, self.policy, intent, self._fetch_events)
        )
        with steps("identity"):
            decided = decisions_of(found.control, intent.batch_id)
            identified = identify(found.named, valid, decided, state, self.policy, self.components, intent)
            linked = linked_rows(identified, intent)
            attempt.start(linked)
        with steps("activity"):
            owned = own_sessions(valid, cut(), identified, state, self.policy, intent)
            owners = owned_rows(identified, owned, state, intent)
            attempt.start(owners)
            profiles = {PROFILES.hot: fold_persons(owned, state, self.policy, intent.batch_id)}
        with steps("write"):
            attempt.start(profiles)
            attempt.finish()
        derived = linked | owners | profiles
        self._compacting.count(sum(table.num_rows for spec, table in derived.items() if spec.is_hot))
        state.event_keys.replace(np.empty(0, np.int64), found.keys)
        offsets = self.offsets_after(received, self._offsets)
        with steps("publish"):
            publication = self._publication(
                self.kind if portion.is_last else PORTION,
                intent.batch_id,
                intent.batch_at,
                steps,
                offsets,
                stream_batch_id,
            )
            row = self.row(publication, stream_batch_id, received, outcome, identified, owned)
            row = with_metrics(row, counts_of(portion.files))
            self.require_lock()
            attempt.publish(row)
        state.settle()
        self._record_published(publication, offsets, stream_batch_id)
        self.on_published(
            BatchReport(
                intent.batch_id,
                received.num_rows,
                int(outcome.valid.sum()),
                int(outcome.quarantined.sum()),
                int(outcome.duplicate.sum()),
                len(owned.persons),
                time.perf_counter() - started,
                steps.seconds,
            )
        )

    def _run_concurrently(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Begin `work` on another core, and say how to wait for it. What asks Spark is done when it is waited for."""
        if isinstance(self.state, TableState):
            return work
        running = self._pool.submit(work)
        self._concurrent = [running]
        return running.result

    def _begin(self, proposed: Intent) -> tuple[Intent, Attempt]:
        """Put the batch on record, or take up the attempt that is."""
        self.require_lock()
        intent = record_intent(self.lake.path / INTENT, proposed)
        is_repeated = intent is not proposed
        attempt = self.attempt(
            self.lake, self.writer, intent.txn, self._versions, self._pool, is_repeated=is_repeated
        )
        self._attempt = attempt
        return intent, attempt

    def _publish_nothing(
        self, received: pa.Table, files: Sequence[FileRead], stream_batch_id: int, steps: StepTimes
    ) -> None:
        """A batch without a record is published like any other: what a checkpoint has counted and the lake has not
        would look like a batch that was lost."""
        digest = digest_of(received, files)
        intent, attempt = self._begin(self._intent(digest, stream_batch_id, 0, 0, 0, self._last_batch_id))
        for wave in ({FILES: file_rows(files, intent.batch_id)}, {}, {}, {}):
            attempt.start(wave)
        attempt.finish()
        publication = self._publication(
            "empty", intent.batch_id, intent.batch_at, steps, self._offsets, stream_batch_id
        )
        attempt.publish(with_metrics(empty_row(publication, stream_batch_id), counts_of(files)))
        self._record_published(publication, self._offsets, stream_batch_id)
        self._record_files(files)

    def _record_published(
        self, publication: Publication, offsets: Offsets, stream_batch_id: int | None
    ) -> None:
        self._set_last_batch(publication.batch_id)
        if stream_batch_id is not None:
            self._done_stream_batch_id = stream_batch_id
        self._published_versions, self._offsets = dict(publication.table_versions), offsets

    def _record_files(self, files: Sequence[FileRead]) -> None:
        """The stream's batch is published, with these files."""
        self._begun = None
        if self._files is not None:
            self._files.learn(files, self._last_batch_id)
        self.on_files(files)

    # -- upkeep between batches ------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Fold the hot parts into their tables and publish that, so that the tables themselves are complete.

        Not while a batch is half-written: this would publish what there is of it.
        """
        with self.between_batches():
            if self._is_whole():
                self._compact()

    def compact_if_due(self) -> None:
        """For a stream that has nothing to read; while there are batches, they see to it."""
        if self._compacting.is_due and self._one_at_a_time.acquire(blocking=False):
            try:
                if self.failure is None:
                    self._begin_compaction()
            except Exception as e:
                self._compacting.failure = e  # the next batch says so
            finally:
                self._one_at_a_time.release()

    def _begin_compaction(self) -> None:
        if self._compacting.is_due and not self._compacting.is_running:
            require_as_left(self.lake, self._versions)  # it folds in whatever is in the hot parts
            self._compacting.begin(self._last_batch_id, self._end_compaction)

    def _end_compaction(self, upto_batch_id: int, steps: StepTimes) -> None:
        """Of one that ran beside the batches."""
        with self._one_at_a_time:
            if self._is_whole():
                self._publish_compaction(upto_batch_id, steps)

    def _require_compacted(self) -> None:
        """What has gone wrong beside the batches stops them."""
        failure, self._compacting.failure = self._compacting.failure, None
        if failure is not None:
            raise failure

    def _is_whole(self) -> bool:
        """Whether something is published, and no batch half-written."""
        self.ready_state()
        return bool(self._last_batch_id) and not pending_intent(self.lake.path / INTENT, self._last_batch_id)

    def _compact(self) -> None:
        require_as_left(self.lake, self._versions)
        steps = self._compacting.fold(self._last_batch_id, self._pool.map)
        self._publish_compaction(self._last_batch_id, steps)

    def _publish_compaction(self, upto_batch_id: int, steps: StepTimes) -> None:
        """Base first, then hot: readers of both see the same rows at every moment. Repeating it is harmless."""
        batch_id = self._last_batch_id + 1
        txn = Txn(f"{self.stream}:compaction", batch_id)
        with steps("forget"):
            self._compacting.forget(upto_batch_id, self._pool.map)
        self._versions = require_as_left(self.lake, self._versions)
        # Held against what is published, not against what this process found: a compaction that was killed just before
        # its row has moved the versions already, and nothing would be left to do and nothing published.
        if _but_batches(self._versions) != _but_batches(self._published_versions):
            publication = self._publication(
                "compaction", batch_id, time.time_ns() // 1000, steps, self._offsets
            )
            self.require_lock()
            attempt = Attempt(self.lake, self.writer, txn, self._versions, self._pool, is_repeated=False)
            attempt.publish(compaction_row(publication))
            self._set_last_batch(batch_id)
            self._published_versions = dict(publication.table_versions)

    # -- what a batch of another kind does otherwise ---------------------------------------------------------------

    kind = "batch"
    attempt = Attempt

    def in_order(self, received: pa.Table) -> pa.Table:
        """Events in the order in which they count."""
        return by_origin(received)

    def cut(self, received: pa.Table, files: Sequence[FileRead]) -> Cut:
        """The portions in which the batch is published."""
        return Cut(received, files, self.settings.max_batch_pairs, self.settings.max_batch_bytes)

    def landing(
        self, received: pa.Table, outcome: DeduplicationOutcome, valid: pa.Table, batch_id: int
    ) -> dict[TableSpec, pa.Table]:
        """The rows of records and events as they came, which wait for no other step."""
        return {
            BRONZE_EVENTS: rows.bronze_rows(received, batch_id),
            QUARANTINE: rows.quarantine_rows(received, outcome, batch_id),
            EVENTS: rows.event_rows(valid, batch_id),
        }

    def offsets_after(self, received: pa.Table, offsets: Offsets) -> Offsets:
        """The offsets of record as of this batch; `offsets`: as of the batch before."""
        return advanced(offsets, received, self.topic_ids)

    def row(
        self,
        publication: Publication,
        stream_batch_id: int | None,
        received: pa.Table,
        outcome: DeduplicationOutcome,
        identified: Identified,
        owned: Owned,
    ) -> pa.Table:
        """The row of ops.batches."""
        return batch_row(publication, stream_batch_id, received, outcome, identified, owned)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _intent(
        self, input_digest: str, stream_batch_id: int, first: int, until: int, total: int, after: int
    ) -> Intent:
        return Intent(
            stream=self.stream,
            stream_batch_id=stream_batch_id,
            batch_id=self._last_batch_id + 1,
            batch_at=time.time_ns() // 1000,
            versions=self._published_versions,
            policy_fingerprint=self.policy.fingerprint,
            code_fingerprint=code_fingerprint(),
            key_fingerprint=self.key_fingerprint,
            input_digest=input_digest,
            first=first,
            until=until,
            total=total,
            after=after,
        )

    def _publication(
        self,
        kind: str,
        batch_id: int,
        started_at: int,
        steps: StepTimes,
        offsets: Offsets,
        stream_batch_id: int | None = None,
    ) -> Publication:
        return Publication(
            stream=self.stream,
            kind=kind,
            batch_id=batch_id,
            started_at=started_at,
            table_versions=dict(self._versions),
            step_seconds=dict(steps.seconds),
            policy_fingerprint=self.policy.fingerprint,
            key_fingerprint=self.key_fingerprint,
            offsets=to_json(offsets),
            offset_entry=None if stream_batch_id is None else self.offset_entry(stream_batch_id),
            mapping_fingerprints=self.parser.mapping_fingerprints,
            identifier_rules=identifier_rules(self.policy),
        )

    def _fetch_events(self, windows: pa.Table) -> pa.Table:
        """Published events of the windows' anchors between the earliest start and the latest end."""
        if isinstance(self.state, TableState):
            return self.state.events_in(windows)
        return self._earlier.inside(windows, self._published_versions.get(EVENTS.full_name))


def _but_batches(versions: Mapping[str, int]) -> dict[str, int]:
    """Versions without that of ops.batches, which every publication moves and none can name."""
    return {name: version for name, version in versions.items() if name != BATCHES.full_name}
