"""What a rebuild changes: compares rebuilt with published tables, and gives rows to write and rows to remove.

One table at a time is held whole, on both sides; what is kept of it are the rows to write, and the few columns that
tell what becomes of people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    BRONZE_CORRECTIONS,
    BRONZE_EVENTS,
    FILES,
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
)
from pipelines.lake.snapshot import Snapshot
from pipelines.operations.rebuild.shadow_lake import ShadowLake
from pipelines.stream.batch.rows import hot_rows, table_of
from transforms.arrays.grouped import longs
from transforms.compare.compared import Compared, compare
from transforms.identity.renamed import Renamed, rename_persons

REBUILD = "rebuild"
NOBODY = 0  # in the log: the identifier counts no longer
# When a row came, and in which place, stays with the row while its key does.
_KEPT = ("batch_id", "batch_ordinal")
# Of several copies that say the same, which one was the first to be published is not a difference.
_WHERE_FROM = ("source", "origin", "origin_ordinal", "record_position", "received_at")
# What older rows lack and follows from the others is no difference either, or every old event would be written anew.
_FOLLOWING = ("event_key_low",)
# Not derived (bronze), never rewritten (the log), or not a function of the records alone (redirects).
_APART = (BRONZE_EVENTS, BRONZE_CORRECTIONS, FILES, BATCHES, IDENTITY_LOG, IDENTITY_REDIRECTS)
# What is kept of each table: enough to say what becomes of people, and to log it.
_KEPT_COLUMNS = {
    "silver.identity_map": ["tenant", "node_id", "canonical_id"],
    "silver.sessions": ["owner_node_id"],
    "silver.quarantine": ["reasons"],
}


@dataclass(frozen=True)
class Changes:
    """`appended`: rows to add to a table or hot part. `replaced`: all rows of tables of which rows go or change.
    `before`, `after`: of each derived table the columns that tell its effects. `compared`: how they differ."""

    appended: dict[TableSpec, pa.Table]
    replaced: dict[TableSpec, pa.Table]
    before: dict[TableSpec, pa.Table]
    after: dict[TableSpec, pa.Table]
    compared: dict[TableSpec, Compared]


def changes_of(snapshot: Snapshot, shadow: ShadowLake, batch_id: int, batch_at: int) -> Changes:
    """The rows that turn the published tables into those of `side`, which is as of the same batch, persons keeping
    their ids."""
    renamed = _renamed(snapshot, shadow, batch_id, batch_at)
    changes = Changes({}, {}, {}, {}, {})
    for spec in ALL:
        if spec in _APART:
            continue
        before, after = (
            snapshot.arrow(spec).cast(spec.arrow),
            _under_kept_ids(spec, shadow, snapshot, renamed),
        )
        left_out = (*spec.key, *_KEPT, *_WHERE_FROM, *_FOLLOWING, "updated_batch_id")
        columns = [c for c in spec.names if c not in left_out]
        compared = compare(before, after, spec.key, columns)
        if spec.write == "upsert":
            _put(changes, spec.hot, _hot_changes(spec, before, after, compared, batch_id))
        else:
            _append_or_replace(changes, spec, before, after, compared, batch_id)
        kept = _KEPT_COLUMNS.get(spec.full_name, [spec.key[0]])
        changes.before[spec], changes.after[spec] = before.select(kept), after.select(kept)
        changes.compared[spec] = compared
    _put(changes, IDENTITY_REDIRECTS.hot, _redirect_changes(renamed, batch_id))
    _put(changes, IDENTITY_LOG, _log(changes, renamed, batch_id, batch_at))
    return changes


def _put(changes: Changes, spec: TableSpec, rows: pa.Table) -> None:
    if rows.num_rows:
        changes.appended[spec] = rows


def _renamed(snapshot: Snapshot, shadow: ShadowLake, batch_id: int, batch_at: int) -> Renamed:
    present = snapshot.arrow(IDENTITY_MAP)
    redirects = snapshot.arrow(IDENTITY_REDIRECTS)
    owners = shadow.table(IDENTITY_MAP, snapshot)
    identifiers = shadow.table(IDENTIFIERS, snapshot)
    unknown = np.setdiff1d(longs(owners["node_id"]), longs(present["node_id"]))
    return rename_persons(
        owners,
        (longs(identifiers["node_id"]), longs(identifiers["tie_hash"])),
        present,
        (longs(redirects["retired_canonical_id"]), longs(redirects["canonical_id"])),
        _left_with(snapshot, unknown),
        batch_id,
        batch_at,
    )


def _left_with(snapshot: Snapshot, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(node, id) of those of `nodes` that an earlier rebuild took out, and whose they were then."""
    none = np.empty(0, np.int64)
    if not len(nodes) or snapshot.version(IDENTITY_LOG) is None:
        return none, none
    taken_out = pc.field("to_canonical_id") == NOBODY
    columns = ["batch_id", "node_id", "from_canonical_id"]
    log = snapshot.dataset(IDENTITY_LOG).to_table(columns=columns, filter=taken_out)
    node, owner, batch = longs(log["node_id"]), longs(log["from_canonical_id"]), longs(log["batch_id"])
    by = np.lexsort((-batch, node))
    node, owner = node[by], owner[by]
    node, last = np.unique(node, return_index=True)
    mine = np.isin(node, nodes)
    return node[mine], owner[last][mine]


def _under_kept_ids(spec: TableSpec, shadow: ShadowLake, snapshot: Snapshot, renamed: Renamed) -> pa.Table:
    if spec is IDENTITY_MAP:
        return renamed.owners
    rows = shadow.table(spec, snapshot)
    if spec is IDENTITY_DECISIONS:  # their order is that of (batch, place), and the batch becomes this one
        rows = rows.sort_by([("batch_id", "ascending"), ("batch_ordinal", "ascending")])
        rows = _with(rows, "batch_ordinal", pa.array(np.arange(rows.num_rows)))
    if "canonical_id" not in spec.names:
        return rows
    place = spec.names.index("canonical_id")
    return rows.set_column(place, spec.arrow.field(place), pa.array(renamed.of(longs(rows["canonical_id"]))))


def _hot_changes(
    spec: TableSpec, before: pa.Table, after: pa.Table, compared: Compared, batch_id: int
) -> pa.Table:
    """Hot rows: what changed or is new, and tombstones of what is gone."""
    is_changed = compared.is_changed
    changed = after.take(pa.array(compared.right[is_changed]))
    for name in _KEPT:
        if name in spec.names:
            was = before[name].take(pa.array(compared.left[is_changed]))
            changed = _with(changed, name, was)
    new = after.take(pa.array(compared.right_only))
    if "batch_id" in spec.names:
        new = _with(new, "batch_id", _batch(new, batch_id))
    upserts = pa.concat_tables([changed, new])
    gone = before.select(list(spec.key)).take(pa.array(compared.left_only))
    keys = {name: gone[name] for name in spec.key}
    return hot_rows(spec, _with(upserts, "updated_batch_id", _batch(upserts, batch_id)), keys, batch_id)


def _append_or_replace(
    changes: Changes, spec: TableSpec, before: pa.Table, after: pa.Table, compared: Compared, batch_id: int
) -> None:
    """Rows that were there keep their batch; new and changed ones bear this one's."""
    is_changed = compared.is_changed
    batch = np.full(after.num_rows, batch_id, np.int64)
    same = compared.right[~is_changed]
    batch[same] = longs(before["batch_id"])[compared.left[~is_changed]]
    rows = _with(after, "batch_id", pa.array(batch))
    if len(compared.left_only) or is_changed.any():
        changes.replaced[spec] = rows.take(pa.array(np.argsort(batch, kind="stable")))
    else:
        _put(changes, spec, rows.take(pa.array(compared.right_only)))


def _redirect_changes(renamed: Renamed, batch_id: int) -> pa.Table:
    ids, owners = renamed.ids, renamed.owners
    person, first = np.unique(longs(owners["canonical_id"]), return_index=True)
    tenants = owners["tenant"].take(pa.array(first[np.searchsorted(person, ids.successor)]))
    columns = {"tenant": tenants, "retired_canonical_id": ids.retired, "canonical_id": ids.successor}
    rows = table_of(IDENTITY_REDIRECTS, columns, batch_id, len(ids.retired))
    return hot_rows(IDENTITY_REDIRECTS, rows, {"retired_canonical_id": ids.dropped}, batch_id)


def _log(changes: Changes, renamed: Renamed, batch_id: int, batch_at: int) -> pa.Table:
    """One row per node whose owner changes; a node that is in no map any more goes to NOBODY."""
    owners, was = renamed.owners, renamed.was
    moved = np.flatnonzero(longs(owners["canonical_id"]) != was)
    gone = changes.before[IDENTITY_MAP].take(pa.array(changes.compared[IDENTITY_MAP].left_only))
    rows = owners.take(pa.array(moved))
    came_from = np.concatenate([was[moved], longs(gone["canonical_id"])])
    count = len(came_from)
    columns = {
        "tenant": pa.chunked_array([*rows["tenant"].chunks, *gone["tenant"].chunks], pa.string()),
        "node_id": np.concatenate([longs(rows["node_id"]), longs(gone["node_id"])]),
        "from_canonical_id": pa.array(came_from, mask=came_from == 0),
        "to_canonical_id": np.concatenate(
            [longs(rows["canonical_id"]), np.full(len(gone), NOBODY, np.int64)]
        ),
        "cause": pa.array([REBUILD] * count, pa.string()),
        "logged_at": np.full(count, batch_at, np.int64),
    }
    return table_of(IDENTITY_LOG, columns, batch_id, count)


def _with(rows: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), column)


def _batch(rows: pa.Table, batch_id: int) -> pa.Array:
    return pa.array(np.full(rows.num_rows, batch_id, np.int64))
