"""What a batch processor knows of its lake: the state, the versions and the offsets as of the last published batch."""

from __future__ import annotations

from pipelines.lake.fence import require_as_left
from pipelines.lake.files_of_record import FilesOfRecord
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.state.lake_state import LakeState
from pipelines.state.open_state import OpenState
from pipelines.state.table_state import TableState
from pipelines.stream.batch.earlier import kinds_after, last_published_of
from pipelines.stream.batch.intent import INTENT, Intent, own_transactions, pending_intent
from pipelines.stream.batch.publish import SAME_ROWS_KINDS
from pipelines.stream.kafka.offsets import Offsets, offsets_of_record


class LastPublished:
    """`ready_state` reads it from the lake, when it has to; whoever publishes keeps it up to date."""

    _versions: dict[str, int]

    def __init__(self, lake: Lake, stream: str, open_state: OpenState) -> None:
        self.lake, self.stream, self.open_state = lake, stream, open_state
        self.state: LakeState | None = None
        # Whether a batch was broken off, so that only the lake can say what is published.
        self._is_in_doubt = False
        self._last_batch_id = 0
        self._done_stream_batch_id = -1
        self._begun: Intent | None = None  # the stream's batch that is half-written
        self._versions = {}
        self._published_versions: dict[str, int] = {}
        self._offsets: Offsets = {}
        self._files: FilesOfRecord | None = None

    @property
    def last_batch_id(self) -> int:
        """The last published batch that this processor knows of."""
        return self._last_batch_id

    def ready_state(self) -> LakeState:
        """The state as of the last published batch. It is reloaded if it is dirty, and if a batch that seemed to fail
        is published after all: what that one changed has been undone.

        LakeChanged when somebody else has written the lake.
        """
        if self.state is None or self.state.is_dirty or self._is_in_doubt:
            snapshot = published(self.lake)
            batch_id = snapshot.batch_id if snapshot else 0
            if self.state is not None and (self.state.is_dirty or not self._knows(batch_id)):
                self.state = None  # before the next one is made, so that memory need not hold both
            self._published_versions = dict(snapshot.table_versions) if snapshot else {}
            pending = pending_intent(self.lake.path / INTENT, batch_id)
            self._versions = require_as_left(self.lake, self._published_versions, own_transactions(pending))
            if self.state is None:
                self.state = self.open_state(snapshot)
            self._set_last_batch(batch_id)
            self._is_in_doubt = False
            self._begun = pending if pending is not None and pending.stream == self.stream else None
            # A batch of which a portion is published is read as it was at first: as if none of it had been.
            begun = self._begun
            as_of = begun.after if begun is not None and begun.is_portion else batch_id
            self._files = FilesOfRecord(self.lake, as_of)
            self._offsets = offsets_of_record(self.lake, snapshot)
            self._done_stream_batch_id = last_published_of(self.lake, self.stream)
        return self.state

    def refresh(self) -> None:
        """Somebody else has published: read the state anew before the next batch, unless only files have changed."""
        if self.state is None or self.state.is_dirty or self._is_in_doubt:
            return
        snapshot = published(self.lake)
        if snapshot is None or snapshot.batch_id == self._last_batch_id:
            return
        if self._knows(snapshot.batch_id):
            self._published_versions = dict(snapshot.table_versions)
            self._versions = require_as_left(self.lake, self._published_versions)
            self._set_last_batch(snapshot.batch_id)
        else:
            self.state.is_dirty = True

    def _knows(self, batch_id: int) -> bool:
        """Whether the state has everything that is published up to this batch, the last one: only files have changed
        since its own. One that reads tables reads the files of its own snapshot."""
        assert self.state is not None
        since = self.state.as_of
        if since >= batch_id or isinstance(self.state, TableState):
            return since == batch_id
        return set(kinds_after(self.lake, since)) <= SAME_ROWS_KINDS

    def _set_last_batch(self, batch_id: int) -> None:
        """What this processor knows is what that batch has published, the last one."""
        self._last_batch_id = batch_id
        if self.state is not None:
            self.state.as_of = batch_id

    def shared_state(self, snapshot: Snapshot | None) -> LakeState:
        """The state as of the last published batch, for whoever publishes batches while this processor waits. It is
        changed by them as by this processor's own, so that neither has to read the lake again."""
        batch_id = snapshot.batch_id if snapshot else 0
        if self.state is None or self.state.is_dirty or not self._knows(batch_id):
            self.state = None  # before the next one is made, so that memory need not hold both
            self.state = self.open_state(snapshot)
        self._is_in_doubt = True
        return self.state
