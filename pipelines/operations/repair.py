"""Take a lake back to its last published batch, after somebody else has changed its tables.

What was published is untouched: every table returns to the version that the last published batch recorded. A Delta
RESTORE keeps the transactions that the table has seen, so a batch that was half-written would be taken for written;
therefore the checkpoint is not continued either, and what is not published is read again under a new one.
"""

from __future__ import annotations

from pathlib import Path

from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES
from pipelines.lake.fence import OWN_COMMIT, LakeChanged, first_foreign, latest_version, require_own
from pipelines.lake.lake import Lake, existing_lake, with_hot_parts
from pipelines.lake.lock import lake_lock
from pipelines.lake.snapshot import published
from pipelines.operations.attempt import ATTEMPT
from pipelines.stream.batch.intent import INTENT, IntentConflict, own_transactions, pending_intent
from pipelines.stream.checkpoint import POINTER


def repair(lake_path: Path) -> list[str]:
    """Take back what is not this lake's own. Returns a line per table that was taken back; none where all is well.

    Holds the lake's lock, and may be broken off and repeated. LakeChanged when a table cannot be brought back: it is
    older than its published version, or that version's files are gone.
    """
    lake = existing_lake(lake_path)
    with lake_lock(lake.path):
        # First the table that says what is published: up to the last commit that is our own.
        done = _repair_batches(lake)
        snapshot = published(lake)
        if snapshot is None:
            raise LakeChanged(
                f"nothing has been published in {lake.path}, so there is nothing to go back to; begin a new lake"
            )
        try:
            own = own_transactions(pending_intent(lake.path / INTENT, snapshot.batch_id))
            is_damaged = False
        except IntentConflict:
            own, is_damaged = frozenset(), True
        at = {
            spec: (left, latest_version(lake, spec, left))
            for spec in with_hot_parts(ALL)
            if spec is not BATCHES and (left := snapshot.version(spec)) is not None
        }
        for spec, (left, now) in at.items():
            if now < left:
                require_own(lake, spec, left, now)
        if (
            done
            or is_damaged
            or any(first_foreign(lake, spec, *versions, own) for spec, versions in at.items())
        ):
            _leave_checkpoint(lake)
            # What was half-written goes as well: its transaction stays in the table and would hinder its retry.
            for spec, (left, now) in at.items():
                if first_foreign(lake, spec, left, now):
                    done.append(_take_back(lake, spec, now, left))
            for name in (INTENT, ATTEMPT):
                (lake.path / name).unlink(missing_ok=True)
        return done


def _repair_batches(lake: Lake) -> list[str]:
    snapshot = published(lake)
    left = snapshot.version(BATCHES) if snapshot is not None else None
    left, now = -1 if left is None else left, latest_version(lake, BATCHES)
    foreign = first_foreign(lake, BATCHES, left, now)
    if foreign is None:
        return []
    _leave_checkpoint(lake)
    return [_take_back(lake, BATCHES, now, foreign.version - 1)]


def _leave_checkpoint(lake: Lake) -> None:
    """Before anything is taken back: a checkpoint that was continued afterwards would skip what it has written."""
    (lake.path / POINTER).unlink(missing_ok=True)


def _take_back(lake: Lake, spec: TableSpec, now: int, version: int) -> str:
    try:
        lake.open(spec).restore(version, commit_properties=CommitProperties(custom_metadata=OWN_COMMIT))
    except DeltaError:
        raise LakeChanged(
            f"{spec.full_name} cannot be taken back from version {now} to {version}: files of that version are gone; "
            "restore a backup of the whole lake"
        ) from None
    return f"{spec.full_name}: from version {now} back to {version}"
