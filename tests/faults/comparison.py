"""What a lake shows, in a form that compares, and what must hold of it whatever happened to it.

`digests` names every row of a published state; two states are the same when their digests are. Instants of batches are
told as the batch that they belong to, so that runs compare, and a retry that forgets its batch's instant shows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    BRONZE_EVENTS,
    EVENTS,
    FILES,
    IDENTIFIERS,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    PROFILES,
    QUARANTINE,
    SESSIONS,
)
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published

Row = dict[str, Any]
Rows = Mapping[TableSpec, list[Row]]
Digests = dict[str, str]
INSTANTS_OF_BATCHES = ("since_at", "logged_at")
# What no two runs share: names of streams, clocks, and versions, which count attempts.
OF_A_RUN = (
    *("stream", "step_seconds", "table_versions", "started_at", "published_at", "offsets", "inputs"),
    "offset_entry",
)
# What depends on how often a batch was cut and numbered; left out where batches differ.
OF_BATCHES = ("batch_id", "updated_batch_id", "batch_ordinal", "stream_batch_id", "since_at", "component_id")
MINTED = ("first_canonical_id", "retired_canonical_id", "from_canonical_id", "to_canonical_id")


def snapshot_of(lake: Lake, batch_id: int) -> Snapshot:
    """The state that a past batch published."""
    (row,) = [r for r in lake.open(BATCHES).to_pyarrow_table().to_pylist() if r["batch_id"] == batch_id]
    return Snapshot(
        lake, batch_id, dict(row["table_versions"] or ()), row["stream"], row["published_at"], row
    )


def rows_of(snapshot: Snapshot) -> dict[TableSpec, list[Row]]:
    """Every table of a published state, live."""
    return {spec: snapshot.arrow(spec).to_pylist() for spec in ALL}


def digests(rows: Rows, *, is_renumbered: bool = False) -> Digests:
    """A digest per table, equal for equal rows in any order.

    `is_renumbered`: batches were cut otherwise, so minted ids are told by the person's identifiers, and what follows
    the sequence of batches is left out.
    """
    # A rebuild and the compaction after it have one instant, which is the rebuild's.
    by_number = sorted(rows[BATCHES], key=lambda b: b["batch_id"], reverse=True)
    started = {b["started_at"]: b["batch_id"] for b in by_number}
    person = _persons(rows)
    found = {}
    for spec in ALL:
        if is_renumbered and spec in (BATCHES, IDENTITY_LOG, IDENTITY_REDIRECTS):
            continue
        left_out = {*OF_A_RUN, *((*OF_BATCHES, *MINTED) if is_renumbered else ())}
        lines = []
        for row in rows[spec]:
            if (
                spec is FILES and row["outcome"] == "known"
            ):  # a new checkpoint meets files that another one had read
                continue
            told = {name: value for name, value in row.items() if name not in left_out}
            if spec is BATCHES:
                told["metrics"] = [m for m in row["metrics"] or () if m[0] != "file_known_count"]
            for name in INSTANTS_OF_BATCHES:
                if name in told and told[name] is not None:
                    told[name] = started.get(told[name], f"no batch: {told[name]}")
            if is_renumbered and "canonical_id" in told:
                told["canonical_id"] = person.get(told["canonical_id"])
            if is_renumbered and spec in (BRONZE_EVENTS, EVENTS, QUARANTINE):
                told = {k: v for k, v in told.items() if k not in ("origin", "origin_ordinal", "received_at")}
            lines.append(repr(sorted(told.items())))
        found[spec.full_name] = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    return found


def partition(rows: Rows) -> set[frozenset[str]]:
    """Who is one, as sets of `tenant/namespace:value`; an unclaimed node is its anchor's name with a tilde."""
    return {frozenset(names) for names in _members(rows).values()}


def differences(found: Digests, expected: Digests) -> list[str]:
    """Names of the tables that differ."""
    return sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))


def broken_rules(lake: Lake, rows: Rows | None = None) -> list[str]:
    """What does not hold of a lake's published state (`rows`, if they are at hand) and of the rows on its disk.

    Conservation, no row twice, every person exists, every batch once; and nothing of a batch that is not published.
    """
    snapshot = published(lake)
    if snapshot is None:
        return ["nothing is published"]
    rows = rows_of(snapshot) if rows is None else rows
    problems: list[str] = []
    for b in rows[BATCHES]:
        if b["received_count"] != b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]:
            problems.append(f"batch {b['batch_id']}: received is not valid + quarantined + duplicate")
    for count, spec in (("record", BRONZE_EVENTS), ("valid", EVENTS), ("quarantined", QUARANTINE)):
        total = sum(b[f"{count}_count"] for b in rows[BATCHES])
        # Accepted decisions are valid and have no row in silver.events.
        decided = sum(r["feed"] == "control" for r in rows[BRONZE_EVENTS]) if spec is EVENTS else 0
        if not total - decided <= len(rows[spec]) <= total:
            problems.append(f"{spec.full_name}: {len(rows[spec])} rows, ops.batches says {total}")
    numbers = sorted(b["batch_id"] for b in rows[BATCHES])
    if numbers != list(range(1, len(numbers) + 1)):
        problems.append("ops.batches: batch ids are not 1, 2, 3, …")
    problems += _repeated(rows)
    problems += _homeless(rows)
    problems += _on_disk(lake, snapshot)
    return problems


def base_is_complete(lake: Lake) -> bool:
    """After a clean end the tables alone, as published, say everything: nothing is left in a hot part."""
    snapshot = published(lake)
    hot = [spec.hot for spec in ALL if spec.write == "upsert"]
    return snapshot is not None and not any(snapshot.dataset(spec).count_rows() for spec in hot)


def event_id_of(line: bytes) -> object:
    """The tenant and event id of a JSON line; the line itself where it has none that can be read."""
    try:
        record = json.loads(line)
        return record.get("tenant", "default"), record["event_id"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return line


def _repeated(rows: Rows) -> list[str]:
    keys: dict[TableSpec, tuple[str, ...]] = {spec: spec.key for spec in ALL}
    keys[BRONZE_EVENTS] = ("source", "origin", "origin_ordinal")
    problems = []
    for spec, key in keys.items():
        often = Counter(tuple(row[k] for k in key) for row in rows[spec])
        if twice := sum(n > 1 for n in often.values()):
            problems.append(f"{spec.full_name}: {twice} keys more than once")
    return problems


def _homeless(rows: Rows) -> list[str]:
    nodes = {r["node_id"] for r in rows[IDENTITY_MAP]}
    persons = {r["canonical_id"] for r in rows[IDENTITY_MAP]}
    checks = {
        PROFILES: ("canonical_id", persons),
        IDENTITY_REDIRECTS: ("canonical_id", persons),
        SESSIONS: ("owner_node_id", nodes),
    }
    return [
        f"{spec.full_name}: {missing} rows of a {name} that is nobody's"
        for spec, (name, known) in checks.items()
        if (missing := sum(row[name] not in known for row in rows[spec]))
    ]


def _on_disk(lake: Lake, snapshot: Snapshot) -> list[str]:
    """Every physical table as it is now, not as of the snapshot: no row twice, none of an unpublished batch."""
    problems = []
    for spec in with_hot_parts(ALL):
        table = lake.open(spec).to_pyarrow_table()
        batch = "updated_batch_id" if "updated_batch_id" in spec.names else "batch_id"
        later = sum(b > snapshot.batch_id for b in table[batch].to_pylist())
        if later:
            problems.append(f"{spec.full_name}: {later} rows of a batch that is not published")
        keys = Counter(zip(*(table[k].to_pylist() for k in spec.key), strict=True))
        if twice := sum(n > 1 for n in keys.values()):
            problems.append(f"{spec.full_name}: {twice} keys more than once on disk")
    return problems


def _members(rows: Rows) -> dict[int, list[str]]:
    names = {r["node_id"]: f"{r['tenant']}/{r['namespace']}:{r['value']}" for r in rows[IDENTIFIERS]}
    members: dict[int, list[str]] = defaultdict(list)
    for row in rows[IDENTITY_MAP]:
        node = row["node_id"]
        name = names.get(node) if node > 0 else f"~{names.get(-node)}"
        members[row["canonical_id"]].append(name or f"unknown {node}")
    return members


def _persons(rows: Rows) -> dict[int, str]:
    return {person: min(names) for person, names in _members(rows).items()}
