"""What upkeep does between two batches: everything that commits. Short, and cut off when the pause has lasted enough.

complete a move ─▶ move archived files ─▶ hot parts into bases ─▶ join small files ─▶ checkpoints ─▶ publish
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from conf.identifier_rules import identifier_rules
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, UPSERTED
from pipelines.lake.batch_rows import OLDEST_READABLE, RECORDS_UP_TO_HERE, UPKEEP, BatchRows
from pipelines.lake.fence import require_as_left
from pipelines.lake.hashing_key import fingerprint
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import oldest_readable_batch, without_batches
from pipelines.lake.writing.compaction import compact_files, compact_hot
from pipelines.lake.writing.engines import make_writer
from pipelines.lake.writing.writer import Txn
from pipelines.operations.requests.holder import Holder
from pipelines.operations.requests.requests import Answer
from pipelines.operations.upkeep.archive import Moves, archived_record_count
from pipelines.operations.upkeep.delta_log import commits, log_folder, newest_checkpoint
from pipelines.operations.upkeep.history import History, oldest_to_keep, versions_of
from pipelines.operations.upkeep.moving import change_sides, complete_broken_off
from pipelines.runtime.step_times import StepTimes
from pipelines.stream.batch.publish import Publication, publication_row
from pipelines.stream.kafka.offsets import offsets_of_record, to_json

WRITER = "stitchlake:upkeep"  # the application of its publishing transactions
CHECKPOINT_FROM_COMMITS = 10  # fewer are read faster than a checkpoint is written


def upkeep(holder: Holder, arguments: Mapping[str, Any]) -> Answer:
    """The request `upkeep`. Arguments: `history_days`, `history_batches`, `pause_seconds`, `moves` (or null), and
    `done_steps`: how many were done in the pauses before this one.

    The answer's `is_complete` is false when steps are left for another pause. `floors`: per table the oldest version
    that stays readable.
    """
    started = time.monotonic()
    lake, steps = holder.lake, StepTimes()
    history = History(arguments["history_days"], arguments["history_batches"])
    left_at = require_as_left(lake, holder.snapshot.table_versions)  # what is published anew is ours
    with steps("archive"):
        completed = complete_broken_off(lake)
        moved = change_sides(lake, Moves.of(arguments["moves"])) if arguments["moves"] else None
    joining, done = _joining(holder), arguments["done_steps"]
    while done < len(joining):
        name, work = joining[done]
        with steps(name):
            work()
        done += 1
        if time.monotonic() - started > arguments["pause_seconds"]:
            break
    with steps("publish"):
        batch_id, oldest = _publish(holder, require_as_left(lake, left_at), history, steps)
    return {
        "batch_id": batch_id,
        "oldest_readable_batch_id": oldest,
        "floors": versions_of(lake, oldest),
        "done_steps": done,
        "is_complete": done == len(joining),
        "moved": None if moved is None else moved.as_dict(),
        "completed": None if completed is None else completed.as_dict(),
        "step_seconds": dict(steps.seconds),
        "pause_seconds": time.monotonic() - started,
    }


def _joining(holder: Holder) -> list[tuple[str, Callable[[], object]]]:
    """The steps that leave the same rows in fewer files, each short and complete in itself."""
    lake, writer = holder.lake, make_writer("delta_rs", holder.lake)

    def fold(spec: TableSpec) -> None:
        # As many rows as Spark is there for are the stream's to fold: it does that about once a minute.
        if lake.open(spec.hot).count() < holder.settings.spark_writer_from_rows:
            compact_hot(lake, spec, holder.snapshot.batch_id, writer)

    folding = [("compact", lambda spec=spec: fold(spec)) for spec in UPSERTED]
    joining = [("compact_files", lambda spec=spec: compact_files(lake, spec)) for spec in ALL]
    checkpoints = [("checkpoint", lambda spec=spec: _checkpoint(lake, spec)) for spec in with_hot_parts(ALL)]
    return [*folding, *joining, *checkpoints]


def _checkpoint(lake: Lake, spec: TableSpec) -> None:
    log = log_folder(lake, spec)
    version = commits(log)[-1]
    last = newest_checkpoint(log, version)
    if version - (-1 if last is None else last) > CHECKPOINT_FROM_COMMITS:
        lake.open(spec).create_checkpoint()


def _publish(holder: Holder, versions: dict[str, int], history: History, steps: StepTimes) -> tuple[int, int]:
    """Publish the tables' `versions`, and how far back batches stay readable: only then may files be removed.

    Returns the last published batch and the oldest readable one. Nothing is published where neither has changed.
    """
    lake, snapshot = holder.lake, holder.snapshot
    is_changed = without_batches(versions) != without_batches(snapshot.table_versions)
    batch_id = snapshot.batch_id + 1
    promised = oldest_readable_batch(lake) or snapshot.batch_id
    oldest = oldest_to_keep(lake, history, batch_id if is_changed else None, datetime.now(UTC))
    if not is_changed and _kept(lake, oldest) == _kept(lake, promised):
        return snapshot.batch_id, promised
    publication = Publication(
        stream=snapshot.stream,
        kind=UPKEEP,
        batch_id=batch_id,
        started_at=time.time_ns() // 1000,
        table_versions=versions,
        step_seconds=dict(steps.seconds),
        policy_fingerprint=holder.policy.fingerprint,
        key_fingerprint=fingerprint(holder.key),
        offsets=to_json(offsets_of_record(lake, snapshot)),
        identifier_rules=identifier_rules(holder.policy),
    )
    archived = archived_record_count(replace(snapshot, table_versions=versions))
    metrics = {
        OLDEST_READABLE: oldest,
        "archived_record_count": archived,
        RECORDS_UP_TO_HERE: BatchRows(lake).record_count(snapshot.batch_id),
    }
    row = publication_row(replace(publication, metrics=metrics))
    make_writer("delta_rs", lake).append(BATCHES, row, Txn(WRITER, batch_id))
    return batch_id, oldest


def _kept(lake: Lake, batch_id: int) -> dict[str, int]:
    return without_batches(versions_of(lake, batch_id))
