"""Records a rebuild or a portion of a replay before its first write, so that an interrupted one can be taken back.

Until the row in ops.batches is there, all that an attempt has written is rows of a batch that nobody has published,
and newer versions of tables whose published version is still there. Both can be undone at any time.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass

import pyarrow.compute as pc
from deltalake import CommitProperties

from conf.errors import Refusal
from conf.tables import ALL, BATCHES
from pipelines.lake.fence import OWN_COMMIT, require_as_left
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.writing.discard import discard_unpublished
from pipelines.lake.writing.writer import Txn
from pipelines.runtime.durable_file import write_durably
from pipelines.stream.batch.intent import INTENT, Intent, own_transactions, pending_intent

ATTEMPT = "_stitchlake/rebuild.json"


class RebuildRefused(Refusal):
    """The lake cannot be rebuilt as it stands; the message says why and what to do."""


@dataclass(frozen=True)
class Attempt:
    """`batch_id`: the batch it is going to publish. `batch_at` in microseconds. `app_id`: its transactions' name."""

    id: str
    batch_id: int
    batch_at: int
    policy_fingerprint: str
    versions: dict[str, int]
    stream: str | None = None  # of a replay, whose transactions are those of a direct batch

    @property
    def app_id(self) -> str:
        """The application id of its transactions."""
        return self.stream or f"rebuild:{self.id}"


def begin(snapshot: Snapshot, batch_at: int, policy_fingerprint: str, stream: str | None = None) -> Attempt:
    """A new attempt on disk, to publish the batch after the snapshot's."""
    attempt = Attempt(
        uuid.uuid4().hex,
        snapshot.batch_id + 1,
        batch_at,
        policy_fingerprint,
        snapshot.table_versions,
        stream,
    )
    path = snapshot.lake.path / ATTEMPT
    write_durably(path, json.dumps(asdict(attempt)))
    return attempt


def forget(lake: Lake) -> None:
    """The attempt is published, or taken back."""
    (lake.path / ATTEMPT).unlink(missing_ok=True)


def take_back_unfinished(lake: Lake, snapshot: Snapshot | None) -> bool:
    """Undo what a rebuild or replay that never came to publishing has written. For the holder of the lake's lock.

    LakeChanged when the tables have changed in a way that no attempt on record explains.
    """
    path = lake.path / ATTEMPT
    attempt = Attempt(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
    last = snapshot.batch_id if snapshot is not None else 0
    own = set(own_transactions(pending_intent(lake.path / INTENT, last)))
    if attempt is not None:
        own.add(Txn(attempt.app_id, attempt.batch_id))
    require_as_left(lake, snapshot.table_versions if snapshot is not None else {}, own)
    if snapshot is None or attempt is None:
        return False
    is_unfinished = attempt.batch_id > snapshot.batch_id
    if is_unfinished:
        # Upserted tables were only added to; of the others a newer version may hold other rows.
        for spec in (s for s in ALL if s.write != "upsert" and s is not BATCHES):
            version = snapshot.version(spec)
            if version is not None and lake.version(spec) != version:
                lake.open(spec).restore(
                    version, commit_properties=CommitProperties(custom_metadata=OWN_COMMIT)
                )
        discard_unpublished(lake, snapshot.batch_id, attempt.app_id)
    forget(lake)
    return is_unfinished


def refuse_half_written_batch(lake: Lake, snapshot: Snapshot) -> None:
    """RebuildRefused when the stream has begun a batch and not finished it: its retry relies on the present policy."""
    begun = half_written(lake, snapshot.batch_id)
    if begun is not None:
        raise RebuildRefused(
            f"batch {begun.batch_id} of the stream is half-written; run `stitchlake run --once` with its sources "
            "and its policy, so that it is completed, then rebuild"
        )
    (lake.path / INTENT).unlink(missing_ok=True)  # nothing of it is there, and its number goes to the rebuild


def half_written(lake: Lake, last_published: int) -> Intent | None:
    """The batch after `last_published` that was begun and has left rows in some table, or of which a portion is
    published."""
    begun = pending_intent(lake.path / INTENT, last_published)
    if begun is None or begun.first or begun.batch_id <= last_published:
        return begun
    for spec in (s for s in with_hot_parts(ALL) if lake.has(s)):
        column = "updated_batch_id" if "updated_batch_id" in spec.names else "batch_id"
        rows = lake.open(spec).to_pyarrow_dataset()
        if rows.count_rows(filter=pc.field(column) > last_published):
            return begun
    return None
