"""The reconciliation: are the published tables what bronze gives, when it is derived again by the lake's own rules?

Reads one pinned state of the lake and writes a shadow lake only, so a stream may run meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from conf.policy import Policy
from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import BATCHES, EVENTS, IDENTITY_MAP, PROFILES, SESSIONS
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.rebuild.rebuild import OpenSpark, rules_for, something_published
from pipelines.operations.rebuild.shadow_lake import Declared, Progress, ShadowLake, shadow_lake
from transforms.compare.reconciliation import (
    CHANGED,
    COMPARED,
    LEFT_ONLY,
    RIGHT_ONLY,
    Persons,
    TableDifference,
    compare_table,
    persons_of,
)

ROWS_AT_ONCE = 1_000_000
# What is left is published, what is right is derived again.
SAID = {LEFT_ONLY: "extra", RIGHT_ONLY: "missing", CHANGED: "different"}
_COUNTS = ("received_count", "valid_count", "quarantined_count", "duplicate_count")


@dataclass(frozen=True)
class Reconciliation:
    """`tables`: published on the left, derived again on the right. `since`, `until`: ISO dates of the records that
    were read again, None for all. `changed_mappings`: those that some published batch was read by another version of.
    `published_counts`: what the batches counted when they were published; `derived_counts`: what was derived now."""

    batch_id: int
    since: str | None
    until: str | None
    tables: tuple[TableDifference, ...]
    changed_mappings: tuple[str, ...]
    published_counts: dict[str, int]
    derived_counts: dict[str, int]

    @property
    def is_equal(self) -> bool:
        """Whether all tables are equal."""
        return all(t.is_equal for t in self.tables)

    def is_equal_in(self, spec: TableSpec) -> bool:
        """Whether this table is equal."""
        return next(t for t in self.tables if t.table == spec.full_name).is_equal

    def as_dict(self) -> dict[str, Any]:
        """As JSON can carry it. No identifier is in it: rows are known by hashes, node ids and places of records."""
        return {
            "is_equal": self.is_equal,
            "published_batch_id": self.batch_id,
            "since": self.since,
            "until": self.until,
            "is_partition_equal": self.is_equal_in(IDENTITY_MAP),
            "are_sessions_equal": self.is_equal_in(SESSIONS),
            "are_profiles_equal": self.is_equal_in(PROFILES),
            "tables": [_table_as_dict(t) for t in self.tables],
            "changed_mappings": list(self.changed_mappings),
            "published_counts": self.published_counts,
            "derived_counts": self.derived_counts,
        }


def reconcile(
    lake: Lake,
    policy: Policy,
    settings: Settings,
    spark: OpenSpark,
    dates: Dates | None = None,
    progress: Progress = lambda text: None,
) -> Reconciliation:
    """Derive the last published state again under `policy`, which must be the lake's own, and compare."""
    snapshot = something_published(lake)
    rules = rules_for(snapshot, policy, settings, spark)
    with shadow_lake(snapshot, rules, dates) as shadow:
        shadow.catch_up(snapshot, rules, progress)
        return _reconciled(snapshot, shadow, progress)


def _reconciled(snapshot: Snapshot, shadow: ShadowLake, progress: Progress) -> Reconciliation:
    columns = ["node_id", "canonical_id"]
    persons = (
        persons_of(snapshot.arrow(IDENTITY_MAP, columns)),
        persons_of(shadow.table(IDENTITY_MAP, snapshot).select(columns)),
    )
    tables = []
    for spec in COMPARED:
        progress(f"comparing {spec.full_name}")
        parts = list(_differences(spec, snapshot, shadow, persons))
        total = parts[0]
        for part in parts[1:]:
            total = total.plus(part)
        tables.append(total)
    declared, batches = shadow.declared, snapshot.arrow(BATCHES, list(_COUNTS))
    return Reconciliation(
        snapshot.batch_id,
        declared.since,
        declared.until,
        tuple(tables),
        tuple(sorted(_changed_mappings(snapshot, declared))),
        {name: pc.sum(batches[name]).as_py() or 0 for name in _COUNTS},
        shadow.counts(),
    )


def _differences(
    spec: TableSpec, snapshot: Snapshot, shadow: ShadowLake, persons: tuple[Persons, Persons]
) -> Iterator[TableDifference]:
    """One table at a time, and of events, which are most of a lake, a slice by the hashes of their ids."""
    if spec is not EVENTS:
        yield compare_table(spec, snapshot.arrow(spec), shadow.table(spec, snapshot), *persons)
        return
    published = snapshot.dataset(spec)
    slices = 1
    while published.count_rows() > ROWS_AT_ONCE * slices:
        slices *= 2
    for number in range(slices):
        mine = pc.bit_wise_and(pc.field("event_key"), slices - 1) == number
        yield compare_table(spec, published.to_table(filter=mine), shadow.chosen(spec, mine), *persons)


def _changed_mappings(snapshot: Snapshot, declared: Declared) -> set[str]:
    """Mappings that records were read by in another version, since everything was last read again."""
    rows = snapshot.arrow(BATCHES, ["batch_id", "kind", "inputs", "mapping_fingerprints"]).sort_by("batch_id")
    changed: set[str] = set()
    for row in rows.to_pylist():
        if row["kind"] == "rebuild" and _is_whole(row["inputs"]):
            changed = set()
        for name, of in row["mapping_fingerprints"] or ():
            if declared.mapping_fingerprints.get(name, of) != of:
                changed.add(name)
    return changed


def _is_whole(inputs: str | None) -> bool:
    read = json.loads(inputs) if inputs else {}
    return not (read.get("since") or read.get("until"))


def _table_as_dict(t: TableDifference) -> dict[str, Any]:
    kinds = {SAID[kind]: [e for e in t.examples if e.difference == kind] for kind in SAID}
    return {
        "table": t.table,
        "published_count": t.left_count,
        "derived_count": t.right_count,
        "equal_count": t.equal_count,
        "extra_count": t.left_only_count,
        "missing_count": t.right_only_count,
        "different_count": t.changed_count,
        "different_columns": t.changed_columns,
        "examples": {
            kind: [e.key | ({"columns": list(e.columns)} if e.columns else {}) for e in found]
            for kind, found in kinds.items()
            if found
        },
    }


def as_text(r: Reconciliation) -> str:
    """The report for people."""
    dates = f", records of {r.since or '…'} to {r.until or '…'} read again" if r.since or r.until else ""
    lines = [f"batch {r.batch_id:,} derived again from bronze{dates}"]
    for t in r.tables:
        what = (
            "equal"
            if t.is_equal
            else (
                f"{t.right_only_count:,} missing, {t.left_only_count:,} extra, {t.changed_count:,} different"
            )
        )
        lines.append(f"  {t.table:<26} {t.left_count:>12,} rows  {what}")
        if t.changed_columns:
            columns = ", ".join(f"{name} {count:,}" for name, count in sorted(t.changed_columns.items()))
            lines.append(f"  {'':<26} columns: {columns}")
        for e in t.examples[:3]:
            key = ", ".join(f"{name} {value}" for name, value in e.key.items() if name != "tenant")
            lines.append(f"  {'':<26} {SAID[e.difference]}: {key}")
    if r.changed_mappings:
        lines.append(
            f"  read by an older mapping: {', '.join(r.changed_mappings)} (`stitchlake rebuild` reads again)"
        )
    lines.append(
        "the published tables are what bronze gives" if r.is_equal else "the published tables differ"
    )
    return "\n".join(lines)
