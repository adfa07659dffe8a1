"""Rebuild a lake under a policy: compute everything derived from bronze, show what changes, publish it as one batch.

published state N ──▶ replay ──▶ changes ──▶ [effects] ──▶ rows of batch N+1 ──▶ ops.batches: N+1 ──▶ compaction
                      reads only                           invisible until ───────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession

from conf.policy import Policy
from conf.settings import Settings
from conf.tables import ALL, BATCHES, UPSERTED
from pipelines.batch.publish import Publication, compaction_row, rebuild_row
from pipelines.batch.steps import Steps
from pipelines.hashing_key import fingerprint, load_key
from pipelines.kafka.offsets import offsets_of_record, to_json
from pipelines.lock import lake_lock
from pipelines.rebuild.attempt import (
    RebuildRefused,
    begin,
    forget,
    refuse_half_written_batch,
)
from pipelines.rebuild.changes import Changes, changes_of
from pipelines.rebuild.replay import Progress, Rebuilt, replay
from pipelines.tables.compaction import compact_files, compact_hot
from pipelines.tables.engines import make_writer
from pipelines.tables.lake import Lake, with_hot_parts
from pipelines.tables.replacement import replace_rows
from pipelines.tables.snapshot import Snapshot, published
from pipelines.tables.writer import TableWriter, Txn
from pipelines.upgrade import ready_to_write
from pipelines.upkeep.archive import require_all_records
from transforms.effects import Effects, effects_of


@dataclass(frozen=True)
class Plan:
    """What a rebuild of `snapshot` would write and do. Nothing of it is written."""

    snapshot: Snapshot
    batch_at: int
    key: bytes
    rebuilt: Rebuilt
    changes: Changes
    effects: Effects


def plan_rebuild(
    spark: SparkSession, lake: Lake, policy: Policy, settings: Settings, progress: Progress
) -> Plan:
    """Compute a rebuild of the last published state. Reads only, so it may run beside the stream."""
    snapshot = published(lake)
    if snapshot is None:
        raise RebuildRefused(
            f"there is nothing to rebuild in {lake.path}: nothing has been published there yet; "
            "give --lake a lake that `stitchlake run` has filled"
        )
    require_all_records(snapshot)
    key = load_key(lake.path, True, snapshot.row["key_fingerprint"])
    rebuilt = replay(spark, snapshot, policy, key, settings, progress)
    progress("comparing with the published tables")
    batch_at = time.time_ns() // 1000
    changes = changes_of(snapshot, rebuilt, snapshot.batch_id + 1, batch_at)
    effects = effects_of(changes.before, changes.after, changes.compared)
    return Plan(snapshot, batch_at, key, rebuilt, changes, effects)


def rebuild(
    spark: SparkSession,
    lake_path: Path,
    policy: Policy,
    settings: Settings,
    *,
    confirm: Callable[[Plan], bool] = lambda plan: True,
    progress: Progress = lambda text: None,
) -> Plan | None:
    """Rebuild the lake and publish it, holding its lock; None when `confirm` declines, and then nothing is written.

    Killed at any moment, the lake shows the former state or the new one; the next rebuild or stream clears what is
    left of an attempt that was not published.
    """
    with lake_lock(lake_path):
        lake = Lake(lake_path)
        ready = ready_to_write(lake, progress)
        if ready.is_taken_back:
            progress("took back a rebuild that had been broken off")
        if ready.snapshot is not None:
            refuse_half_written_batch(lake, ready.snapshot)
        plan = plan_rebuild(spark, lake, policy, settings, progress)
        if not confirm(plan):
            return None
        progress("writing")
        writer = make_writer(settings.writer, lake, spark, settings.spark_writer_from_rows)
        publish_rebuild(lake, plan, policy, writer)
        return plan


def publish_rebuild(lake: Lake, plan: Plan, policy: Policy, writer: TableWriter) -> None:
    """Write the plan's rows, then the row that makes them visible, then empty the hot parts."""
    steps = Steps()
    attempt = begin(plan.snapshot, plan.batch_at, policy.fingerprint)
    txn = Txn(f"rebuild:{attempt.id}", attempt.batch_id)
    with steps("write"):
        for spec, rows in plan.changes.appended.items():
            writer.append(spec, rows, txn)
        # Last, because readers that are not pinned to a version see these before they are published.
        for spec, rows in plan.changes.replaced.items():
            replace_rows(lake, spec, rows, txn)

    def publication(kind: str, batch_id: int) -> Publication:
        return Publication(
            stream=plan.snapshot.stream,
            kind=kind,
            batch_id=batch_id,
            started_at=plan.batch_at,
            table_versions={spec.full_name: lake.version(spec) for spec in with_hot_parts(ALL)},
            step_seconds=dict(steps.seconds),
            policy_fingerprint=policy.fingerprint,
            key_fingerprint=fingerprint(plan.key),
            offsets=to_json(offsets_of_record(lake, plan.snapshot)),
        )

    rebuilt = publication("rebuild", attempt.batch_id)
    writer.append(BATCHES, rebuild_row(rebuilt, _metrics(plan)), txn)

    with steps("compact"):
        for spec in UPSERTED:
            compact_hot(lake, spec, attempt.batch_id, writer)
        for spec in ALL:
            if spec.write != "upsert":
                compact_files(lake, spec)
    compacted = publication("compaction", attempt.batch_id + 1)
    if _without_batches(compacted) != _without_batches(rebuilt):
        writer.append(BATCHES, compaction_row(compacted), Txn(txn.app_id, attempt.batch_id + 1))
    forget(lake)


def _without_batches(publication: Publication) -> dict[str, int]:
    """The versions of the tables that compaction may have moved; publishing moves ops.batches by itself."""
    return {name: v for name, v in publication.table_versions.items() if name != BATCHES.full_name}


def _metrics(plan: Plan) -> dict[str, int]:
    """Counts for ops.batches: what the records are now, and what became of people."""
    counts = {name: value for name, value in plan.effects.as_dict().items() if isinstance(value, int)}
    replayed = ("received", "valid", "quarantined", "duplicate")
    return counts | {f"replayed_{name}_count": getattr(plan.rebuilt, f"{name}_count") for name in replayed}
