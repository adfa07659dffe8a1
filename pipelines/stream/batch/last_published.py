"""What a stream knows of its lake as of the last published batch: the state, the versions, the offsets, the files."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from conf.identifier_rules import identifier_rules
from conf.tables import EVENTS
from pipelines.lake.fence import require_as_left
from pipelines.lake.files_of_record import FilesOfRecord
from pipelines.lake.snapshot import Snapshot, published
from pipelines.runtime.step_times import StepTimes
from pipelines.state.lake_state import LakeState
from pipelines.state.published_events import PublishedEvents, kinds_after, last_published_of
from pipelines.stream.batch.intent import INTENT, Intent, own_transactions, pending_intent
from pipelines.stream.batch.publish import SAME_ROWS_KINDS, Publication
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.kafka.offsets import Offsets, offsets_of_record, to_json
from transforms.ingest.framing.files_read import FileRead


class LastPublished:
    """`ready` reads it from the lake, when it has to. Whoever publishes a batch calls `record`.

    `state`: None before the first `ready`. `batch_id`: the last published batch that this process knows of.
    `done_stream_batch_id`: the last batch of the stream that is published; -1 for none. `begun`: the intent of the
    stream's batch that is half-written. `versions`: at which this process left every table. `published_versions`: those
    that the last published batch names. `offsets`: the offsets of record.
    """

    def __init__(self, setup: StreamSetup) -> None:
        self._setup, self._lake = setup, setup.lake
        self.state: LakeState | None = None
        self.batch_id = 0
        self.done_stream_batch_id = -1
        self.begun: Intent | None = None
        self.versions: dict[str, int] = {}
        self.published_versions: dict[str, int] = {}
        self.offsets: Offsets = {}
        self.files: FilesOfRecord | None = None
        # Whether a batch was broken off, so that only the lake can say what is published.
        self._is_in_doubt = False
        self._events = PublishedEvents(setup.lake)

    def ready(self) -> LakeState:
        """The state as of the last published batch. It is reloaded if it is dirty, and if a batch that seemed to fail
        is published after all: what that one changed has been undone.

        LakeChanged when another process has written the lake.
        """
        if self.state is None or self.state.is_dirty or self._is_in_doubt:
            snapshot = published(self._lake)
            batch_id = snapshot.batch_id if snapshot else 0
            if self.state is not None and (self.state.is_dirty or not self._knows(batch_id)):
                self.state = None  # before the next one is made, so that memory need not hold both
            self.published_versions = dict(snapshot.table_versions) if snapshot else {}
            pending = pending_intent(self._lake.path / INTENT, batch_id)
            self.versions = require_as_left(self._lake, self.published_versions, own_transactions(pending))
            if self.state is None:
                self.state = self._setup.open_state(snapshot)
            self._set_batch(batch_id)
            self._is_in_doubt = False
            self.begun = pending if pending is not None and pending.stream == self._setup.stream else None
            # A batch of which a portion is published is read as it was at first: as if none of it had been.
            as_of = self.begun.after if self.begun is not None and self.begun.is_portion else batch_id
            self.files = FilesOfRecord(self._lake, as_of)
            self.offsets = offsets_of_record(self._lake, snapshot)
            self.done_stream_batch_id = last_published_of(self._lake, self._setup.stream)
        return self.state

    def refresh(self) -> None:
        """Another publisher has been there: reload the state before the next batch, unless only files have changed."""
        if self.state is None or self.state.is_dirty or self._is_in_doubt:
            return
        snapshot = published(self._lake)
        if snapshot is None or snapshot.batch_id == self.batch_id:
            return
        if self._knows(snapshot.batch_id):
            self.published_versions = dict(snapshot.table_versions)
            self.versions = require_as_left(self._lake, self.published_versions)
            self._set_batch(snapshot.batch_id)
        else:
            self.state.invalidate()

    def shared_state(self, snapshot: Snapshot | None) -> LakeState:
        """The state as of the last published batch, for a request that publishes batches while this stream waits. Those
        batches change it as the stream's own do, so neither has to read the lake again."""
        batch_id = snapshot.batch_id if snapshot else 0
        if self.state is None or self.state.is_dirty or not self._knows(batch_id):
            self.state = None  # before the next one is made, so that memory need not hold both
            self.state = self._setup.open_state(snapshot)
        self._is_in_doubt = True
        return self.state

    def doubt(self) -> None:
        """A batch has failed: only the lake can say whether it is published."""
        self._is_in_doubt = True

    def undo(self) -> None:
        """Take back what a batch that was not published has changed in the state."""
        if self.state is not None and self.state.is_dirty:
            self.state.undo()

    def is_whole(self) -> bool:
        """Whether something is published, and no batch half-written."""
        self.ready()
        return bool(self.batch_id) and not pending_intent(self._lake.path / INTENT, self.batch_id)

    def require_as_left(self) -> None:
        """LakeChanged when another process has changed the tables since this one left them."""
        self.versions = require_as_left(self._lake, self.versions)

    def events_in(self, windows: pa.Table) -> pa.Table:
        """Published events of the windows' anchors between the earliest start and the latest end."""
        assert self.state is not None
        version = self.published_versions.get(EVENTS.full_name)
        return self.state.events_in(windows, lambda asked: self._events.inside(asked, version))

    def publication(
        self, kind: str, batch_id: int, started_at: int, times: StepTimes, stream_batch_id: int | None = None
    ) -> Publication:
        """The row of a batch without records, under the present versions and offsets. `started_at` in microseconds."""
        setup = self._setup
        return Publication(
            stream=setup.stream,
            kind=kind,
            batch_id=batch_id,
            started_at=started_at,
            table_versions=dict(self.versions),
            step_seconds=dict(times.seconds),
            policy_fingerprint=setup.policy.fingerprint,
            key_fingerprint=setup.key_fingerprint,
            offsets=to_json(self.offsets),
            offset_entry=None if stream_batch_id is None else setup.offset_entry(stream_batch_id),
            mapping_fingerprints=setup.parser.mapping_fingerprints,
            identifier_rules=identifier_rules(setup.policy),
            stream_batch_id=stream_batch_id,
        )

    def record(self, publication: Publication, offsets: Offsets) -> None:
        """This stream has published a batch, or a compaction. `offsets`: those of record as of it."""
        self._set_batch(publication.batch_id)
        if publication.stream_batch_id is not None:
            self.done_stream_batch_id = publication.stream_batch_id
        self.published_versions, self.offsets = dict(publication.table_versions), offsets

    def record_files(self, files: Sequence[FileRead]) -> None:
        """The last portion of the stream's batch is published, and with it these files."""
        self.begun = None
        if self.files is not None:
            self.files.learn(files, self.batch_id)

    def _knows(self, batch_id: int) -> bool:
        """Whether the state has everything that is published up to this batch, the last one: it is as of this batch, or
        only files have changed since and it does not depend on them."""
        assert self.state is not None
        since = self.state.as_of
        if since >= batch_id or self.state.depends_on_files:
            return since == batch_id
        return set(kinds_after(self._lake, since)) <= SAME_ROWS_KINDS

    def _set_batch(self, batch_id: int) -> None:
        """The state is as of that batch, the last published one."""
        self.batch_id = batch_id
        if self.state is not None:
            self.state.set_as_of(batch_id)
