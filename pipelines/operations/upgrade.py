"""What a process does first when it has a lake's lock: the lake is made, cleared, and brought to the present format.

take back what a broken rebuild left ──▶ missing tables and columns ──▶ per migration: rows ──▶ publish ──▶ record
                                                                        └─ killed anywhere: done again at the next ─┘
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from conf.tables import ALL, BATCHES, FORMAT, MIGRATIONS, OUTSIDE_BATCHES
from pipelines.lake.identifier_rules import recorded_rules
from pipelines.lake.lake import FIRST_FORMAT, Lake, with_hot_parts
from pipelines.lake.migrations import IN_ORDER, Migration
from pipelines.lake.snapshot import Snapshot, published, without_batches
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.discard import discard_unpublished
from pipelines.lake.writing.writer import Txn
from pipelines.operations.attempt import half_written, take_back_unfinished
from pipelines.runtime.fingerprint import code_fingerprint, program_version
from pipelines.stream.batch.intent import INTENT, IntentConflict, pending_intent
from pipelines.stream.batch.publish import ALL_TENANTS, Publication, publication_row
from pipelines.stream.checkpoint import has_checkpoint
from pipelines.stream.kafka.offsets import offsets_of_record, to_json
from transforms.arrays.grouped import filled

MADE_NEW = "made new"


@dataclass(frozen=True)
class Ready:
    """A lake that may be written: what is published in it, and whether a broken rebuild was taken back."""

    snapshot: Snapshot | None
    is_taken_back: bool


def on_stderr(line: str) -> None:
    """Print a line of progress on standard error."""
    print(f"stitchlake: {line}", file=sys.stderr, flush=True)


def ready_to_write(lake: Lake, say: Callable[[str], None] = on_stderr) -> Ready:
    """Make the lake what this program's declarations say. Only for the holder of its lock.

    LakeTooNew, SchemaMismatch, or IntentConflict where an older program has to complete a batch that it began: no
    table has been changed then, so that the older program still runs.
    """
    lake.require_known_format()
    is_new = not lake.has(BATCHES)
    snapshot = published(lake)
    # Before columns are added: what it restores to the published version comes without them.
    is_taken_back = take_back_unfinished(lake, snapshot)
    pending = () if is_new else tuple(m for m in IN_ORDER if m.to_format > lake.format())
    last = snapshot.batch_id if snapshot else 0
    begun = pending_intent(lake.path / INTENT, last)
    if begun is not None and (pending or lake.lacks_columns(ALL)):
        _settle_half_written(lake, last)
    lake.create_missing((*ALL, *OUTSIDE_BATCHES))
    if is_new:
        _record(lake, None, FORMAT, MADE_NEW)
    for migration in pending:
        say(f"the lake {lake.path} is brought to format {migration.to_format} ({migration.name}) …")
        migration.apply(lake)
        _publish(lake, migration)
        _record(lake, migration.to_format - 1, migration.to_format, migration.name)
    return Ready(published(lake) if pending else snapshot, is_taken_back)


def _settle_half_written(lake: Lake, last: int) -> None:
    """A half-written batch is completed by the rules that began it, or by nobody: then it is taken back."""
    begun = half_written(lake, last)
    if begun is not None:
        if has_checkpoint(lake.path, begun.stream):
            raise IntentConflict(
                f"batch {begun.batch_id} was begun by an older version of the program and is half-written; run that "
                "version once, then this one, or remove the lake's folder _checkpoints to take the batch back and read "
                "anew what is not published"
            )
        discard_unpublished(lake, last, begun.txn.app_id)
    (lake.path / INTENT).unlink(
        missing_ok=True
    )  # nothing of it is there, and its number may go to a migration


def _publish(lake: Lake, migration: Migration) -> None:
    """Make the versions that the migration wrote those that readers see."""
    snapshot = published(lake)
    if snapshot is None:
        return
    versions = {spec.full_name: lake.version(spec) for spec in with_hot_parts(ALL)}
    if without_batches(versions).items() <= snapshot.table_versions.items():
        return
    publication = Publication(
        stream=snapshot.stream,
        kind="migration",
        batch_id=snapshot.batch_id + 1,
        started_at=time.time_ns() // 1000,
        table_versions=versions,
        step_seconds={},
        policy_fingerprint=snapshot.row["policy_fingerprint"],
        key_fingerprint=snapshot.row["key_fingerprint"],
        offsets=to_json(offsets_of_record(lake, snapshot)),
        identifier_rules=recorded_rules(snapshot),
    )
    txn = Txn(f"migration:{migration.to_format}", publication.batch_id)
    DeltaRsWriter(lake).append(BATCHES, publication_row(publication), txn)


def _record(lake: Lake, before: int | None, after: int, name: str) -> None:
    columns = {
        "tenant": pa.array([ALL_TENANTS]),
        "from_format": pa.array([before], pa.int64()),
        "to_format": pa.array([after], pa.int64()),
        "migration": pa.array([name]),
        "program_version": pa.array([program_version()]),
        "code_fingerprint": pa.array([code_fingerprint()]),
        "applied_at": pa.array([time.time_ns() // 1000], MIGRATIONS.arrow.field("applied_at").type),
    }
    row = pa.table(filled(columns, MIGRATIONS.arrow, 1), schema=MIGRATIONS.arrow)
    DeltaRsWriter(lake).append(MIGRATIONS, row, Txn("lake-format", after))


assert [m.to_format for m in IN_ORDER] == list(range(FIRST_FORMAT + 1, FORMAT + 1)), "one migration a format"
