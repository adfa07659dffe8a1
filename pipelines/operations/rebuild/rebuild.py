"""Rebuilds a lake: derives everything from bronze again in a shadow lake, shows the changes, publishes them as a batch.

published S ──▶ shadow lake ──▶ changes ──▶ [effects] … caught up with N ──▶ rows of batch N+1 ──▶ ops.batches: N+1
                beside a running stream                      between two of its batches; invisible until ──┘
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.identifier_rules import identifier_rules
from conf.policy import Policy
from conf.settings import Settings
from conf.tables import ALL, BATCHES, IDENTIFIERS, UPSERTED
from pipelines.lake.hashing_key import fingerprint, load_key
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published, without_batches
from pipelines.lake.writing.compaction import compact_files, compact_hot
from pipelines.lake.writing.engines import make_writer
from pipelines.lake.writing.replacement import replace_rows
from pipelines.lake.writing.writer import TableWriter, Txn
from pipelines.operations.attempt import RebuildRefused, begin, forget
from pipelines.operations.rebuild.changes import Changes, changes_of
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.rebuild.shadow_lake import Progress, Rules, ShadowLake, shadow_lake
from pipelines.runtime.step_times import StepTimes
from pipelines.stream.batch.publish import Publication, publication_row
from pipelines.stream.kafka.offsets import offsets_of_record, to_json
from transforms.compare.effects import Effects, effects_of

OpenSpark = Callable[[], SparkSession]
DRIVER_READS_UP_TO = 200_000  # events: as many as one process has read before a JVM has started and read them


@dataclass(frozen=True)
class Plan:
    """What a rebuild of `snapshot` would write and do; nothing of it is written. `counts`: what records became."""

    snapshot: Snapshot
    batch_at: int
    shadow: ShadowLake
    changes: Changes
    effects: Effects
    counts: dict[str, int]
    compare_seconds: float

    def identifiers(self, node_ids: set[int]) -> dict[int, str]:
        """`namespace:value` of some nodes, before or after. Only while the shadow lake is there."""
        wanted = pc.field("node_id").isin(pa.array(sorted(node_ids), pa.int64()))
        names: dict[int, str] = {}
        for rows in (
            self.shadow.chosen(IDENTIFIERS, wanted),
            self.snapshot.dataset(IDENTIFIERS).to_table(filter=wanted),
        ):
            names |= {r["node_id"]: f"{r['namespace']}:{r['value']}" for r in rows.to_pylist()}
        return names


def rules_for(snapshot: Snapshot, policy: Policy, settings: Settings, spark: OpenSpark) -> Rules:
    """With what a lake is derived again: with Spark where there is much to read, or the settings ask for it."""
    events = pc.sum(snapshot.arrow(BATCHES, ["received_count"])["received_count"]).as_py() or 0
    asks_for_spark = (
        settings.writer == "spark" or settings.engine == "graphframes" or settings.lookup == "tables"
    )
    key = load_key(snapshot.lake.path, True, snapshot.row["key_fingerprint"])
    return Rules(policy, key, settings, spark() if asks_for_spark or events > DRIVER_READS_UP_TO else None)


def something_published(lake: Lake) -> Snapshot:
    """The lake's last published state. RebuildRefused when there is none."""
    snapshot = published(lake)
    if snapshot is None:
        raise RebuildRefused(
            f"there is nothing to rebuild in {lake.path}: nothing has been published there yet; "
            "give --lake a lake that `stitchlake run` has filled"
        )
    return snapshot


@contextmanager
def planned(
    lake: Lake,
    policy: Policy,
    settings: Settings,
    spark: OpenSpark,
    dates: Dates | None = None,
    progress: Progress = lambda text: None,
) -> Iterator[tuple[Plan, Rules]]:
    """A rebuild of the last published state, computed while others may write the lake; its shadow lake ends with the
    block. Of the lake itself nothing is written."""
    snapshot = something_published(lake)
    rules = rules_for(snapshot, policy, settings, spark)
    with shadow_lake(snapshot, rules, dates) as shadow:
        yield plan_of(snapshot, shadow, rules, progress), rules


def plan_of(
    snapshot: Snapshot, shadow: ShadowLake, rules: Rules, progress: Progress = lambda text: None
) -> Plan:
    """Bring the shadow lake up to the snapshot and compare them."""
    shadow.catch_up(snapshot, rules, progress)
    progress("comparing with the published tables")
    began = time.perf_counter()
    batch_at = time.time_ns() // 1000
    changes = changes_of(snapshot, shadow, snapshot.batch_id + 1, batch_at)
    effects = effects_of(changes.before, changes.after, changes.compared)
    return Plan(snapshot, batch_at, shadow, changes, effects, shadow.counts(), time.perf_counter() - began)


def publish_rebuild(plan: Plan, rules: Rules, writer: TableWriter | None = None) -> int:
    """Write the plan's rows, then the row that makes them visible, then empty the hot parts; the published batch.

    For the holder of the lake's lock, as long as the plan's snapshot is the last published one. Killed at any moment,
    the lake shows the former state or the new one, and the next holder takes back what is left of the former.
    """
    lake, steps = plan.snapshot.lake, StepTimes()
    settings, declared = rules.settings, plan.shadow.declared
    writer = writer or make_writer(
        settings.writer if rules.spark else "delta_rs", lake, rules.spark, settings.spark_writer_from_rows
    )
    attempt = begin(plan.snapshot, plan.batch_at, rules.policy.fingerprint)
    txn = Txn(attempt.app_id, attempt.batch_id)
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
            policy_fingerprint=rules.policy.fingerprint,
            key_fingerprint=fingerprint(rules.key),
            offsets=to_json(offsets_of_record(lake, plan.snapshot)),
            mapping_fingerprints=declared.mapping_fingerprints,
            identifier_rules=identifier_rules(rules.policy),
        )

    inputs = {"side": declared.id, "since": declared.since, "until": declared.until}
    rebuilt = replace(
        publication("rebuild", attempt.batch_id), inputs=json.dumps(inputs), metrics=_metrics(plan)
    )
    writer.append(BATCHES, publication_row(rebuilt), txn)

    with steps("compact"):
        for spec in UPSERTED:
            compact_hot(lake, spec, attempt.batch_id, writer)
        for spec in ALL:
            if spec.write != "upsert":
                compact_files(lake, spec)
    compacted = publication("compaction", attempt.batch_id + 1)
    if without_batches(compacted.table_versions) != without_batches(rebuilt.table_versions):
        writer.append(BATCHES, publication_row(compacted), Txn(txn.app_id, attempt.batch_id + 1))
    forget(lake)
    return attempt.batch_id


def published_as(snapshot: Snapshot, shadow_id: str) -> int | None:
    """The batch that has published a shadow lake, if one has."""
    rows = snapshot.arrow(BATCHES, ["batch_id", "kind", "inputs"])
    for row in rows.filter(pc.equal(rows["kind"], "rebuild")).to_pylist():
        if row["inputs"] and json.loads(row["inputs"]).get("side") == shadow_id:
            return row["batch_id"]
    return None


def _metrics(plan: Plan) -> dict[str, int]:
    """Counts for ops.batches: what the records are now, and what became of people."""
    counts = {name: value for name, value in plan.effects.as_dict().items() if isinstance(value, int)}
    return counts | {f"replayed_{name}": count for name, count in plan.counts.items()}
