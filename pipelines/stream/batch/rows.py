"""Makes rows of the declared tables from what a batch has computed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import DELETED, TableSpec
from conf.tables import (
    BRONZE_EVENTS,
    EVENTS,
    IDENTIFIERS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    QUARANTINE,
    REJECTED_EDGES,
)
from pipelines.state.lake_state import LakeState
from transforms.arrays.grouped import filled, in_schema
from transforms.identity.cluster import BY_DECISION, Refusals
from transforms.identity.evidence import Evidence
from transforms.identity.nodes import Nodes
from transforms.ingest.deduplication import CONFLICT, DeduplicationOutcome

ELEMENT = "element"
Columns = dict[str, np.ndarray | pa.Array | pa.ChunkedArray]


def table_of(spec: TableSpec, columns: Columns, batch_id: int, count: int) -> pa.Table:
    """Rows of `spec`: `columns` by name, the batch id filled in, instants from integer microseconds, the rest null."""
    ids = pa.array(np.full(count, batch_id, np.int64))
    columns = {**columns, "batch_id": ids, "updated_batch_id": ids}
    arrays = [
        column if column.type == field.type else column.cast(field.type)
        for field, column in zip(spec.arrow, map(_as_arrow, filled(columns, spec.arrow, count)), strict=True)
    ]
    return pa.table(arrays, schema=spec.arrow)


def _as_arrow(column: np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pa.array(column) if isinstance(column, np.ndarray) else column


def with_batch_id(rows: pa.Table, batch_id: int) -> pa.Table:
    """The rows as those of that batch."""
    at = rows.schema.get_field_index("batch_id")
    column = pa.array(np.full(rows.num_rows, batch_id, np.int64))
    return rows.set_column(at, rows.schema.field(at), column)


def hot_rows(spec: TableSpec, upserts: pa.Table, gone: Columns, batch_id: int) -> pa.Table:
    """Rows for the hot part of `spec`: `upserts`, and tombstones for the keys in `gone`."""
    count = len(next(iter(gone.values())))
    live = in_schema(
        upserts.append_column(DELETED, pa.array(np.zeros(upserts.num_rows, bool))), spec.hot.arrow
    )
    if not count:
        return live
    dead = table_of(spec.hot, {**gone, DELETED: np.ones(count, bool)}, batch_id, count)
    return pa.concat_tables([live, dead])


def bronze_rows(received: pa.Table, batch_id: int) -> pa.Table:
    """One row per record, however many events it holds."""
    records = records_of(received)
    return table_of(BRONZE_EVENTS, _by_name(records), batch_id, records.num_rows)


def records_of(received: pa.Table) -> pa.Table:
    """Of each record the row of its first event, which carries the payload."""
    is_first = pc.equal(received["record_position"], 0)
    # Nearly always every record is one event: nothing is copied then.
    return received if pc.all(is_first).as_py() else received.filter(is_first)


def quarantine_rows(received: pa.Table, outcome: DeduplicationOutcome, batch_id: int) -> pa.Table:
    """One row per refused event; one of several in an envelope keeps its own text, not that of the others."""
    refused = received.filter(pa.array(outcome.refused))
    conflicting = received.filter(pa.array(outcome.conflicting))
    reasons = pa.array([[CONFLICT]] * conflicting.num_rows, pa.list_(pa.string()))
    parts = [
        table_of(QUARANTINE, _with_own_payload(refused), batch_id, refused.num_rows),
        table_of(
            QUARANTINE,
            {**_with_own_payload(conflicting), "reasons": reasons},
            batch_id,
            conflicting.num_rows,
        ),
    ]
    return pa.concat_tables(parts)


def _with_own_payload(events: pa.Table) -> Columns:
    columns = _by_name(events)
    element = columns["element"]
    is_element = pc.is_valid(element)
    return {
        **columns,
        "payload": pc.if_else(is_element, element, columns["payload"]),
        "payload_format": pc.if_else(is_element, ELEMENT, columns["payload_format"]),
    }


def event_rows(valid: pa.Table, batch_id: int) -> pa.Table:
    """Rows of silver.events, one per valid event."""
    # Edges and events name the mapping, so that the same records by file or by broker give the same tables.
    return table_of(EVENTS, _by_name(valid), batch_id, valid.num_rows)


def identifier_rows(identifiers: pa.Table, batch_id: int) -> pa.Table:
    """Rows of silver.identifiers, one per new identifier."""
    return table_of(IDENTIFIERS, _by_name(identifiers), batch_id, identifiers.num_rows)


def edge_rows(edges: Evidence, state: LakeState, batch_id: int) -> pa.Table:
    """Rows of silver.identity_edges, one per pair, source and kind."""
    left = state.identity.nodes(edges.left)
    columns: Columns = {
        "tenant": state.tenants.decode(left.tenant[left.at(edges.left)]),
        "left_node_id": edges.left,
        "right_node_id": edges.right,
        "source": state.mappings.decode(edges.source),
        "kind": state.kinds.decode(edges.kind),
        "evidence_count": edges.count,
        "first_seen_at": edges.first_seen,
        "last_seen_at": edges.last_seen,
    }
    return table_of(IDENTITY_EDGES, columns, batch_id, len(edges))


def map_rows(nodes: Nodes, state: LakeState, batch_id: int) -> pa.Table:
    """Rows of silver.identity_map, one per node."""
    columns: Columns = {
        "tenant": state.tenants.decode(nodes.tenant),
        "node_id": nodes.id,
        "namespace": state.namespaces.decode(nodes.namespace),
        "canonical_id": nodes.canonical,
        "component_id": _null_zero(nodes.component),
        "is_shared": nodes.is_shared,
        "is_hub": nodes.is_hub,
        "host_node_id": _null_zero(nodes.host),
        "first_canonical_id": nodes.first_canonical,
        "since_at": nodes.since,
    }
    return table_of(IDENTITY_MAP, columns, batch_id, len(nodes))


def redirect_rows(retired: np.ndarray, successor: np.ndarray, tenant: pa.Array, batch_id: int) -> pa.Table:
    """Rows of silver.identity_redirects, one per retired canonical id."""
    columns: Columns = {"tenant": tenant, "retired_canonical_id": retired, "canonical_id": successor}
    return table_of(IDENTITY_REDIRECTS, columns, batch_id, len(retired))


def log_rows(
    nodes: Nodes, was: np.ndarray, cause: np.ndarray, batch_at: int, state: LakeState, batch_id: int
) -> pa.Table:
    """Rows of silver.identity_log, one per node whose owner changed. `batch_at`: microseconds since 1970 in UTC."""
    moved = cause != ""
    nodes = nodes.select(moved)
    columns: Columns = {
        "tenant": state.tenants.decode(nodes.tenant),
        "node_id": nodes.id,
        "from_canonical_id": _null_zero(was[moved]),
        "to_canonical_id": nodes.canonical,
        "cause": pa.array(cause[moved], pa.string()),
        "logged_at": np.full(len(nodes), batch_at, np.int64),
    }
    return table_of(IDENTITY_LOG, columns, batch_id, len(nodes))


def refusal_rows(refusals: Refusals, state: LakeState, limits: dict[int, int], batch_id: int) -> pa.Table:
    """Rows of silver.rejected_edges, one per refused pair. `limits`: values that a person may have, by code of
    namespace."""
    left = state.identity.nodes(refusals.left)
    columns: Columns = {
        "tenant": state.tenants.decode(left.tenant[left.at(refusals.left)]),
        "left_node_id": refusals.left,
        "right_node_id": refusals.right,
        "reason": pa.array([_refusal_reason(s, state) for s in refusals.namespace.tolist()], pa.string()),
        "limit_count": pa.array([limits.get(s) for s in refusals.namespace.tolist()], pa.int64()),
        "blocking_left_node_id": refusals.blocking_left,
        "blocking_right_node_id": refusals.blocking_right,
    }
    return table_of(REJECTED_EDGES, columns, batch_id, len(refusals))


def _refusal_reason(namespace: int, state: LakeState) -> str:
    return "decision" if namespace == BY_DECISION else f"limit:{state.namespaces.names[namespace]}"


def _by_name(rows: pa.Table) -> Columns:
    return dict(zip(rows.column_names, rows.columns, strict=True))


def _null_zero(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=values == 0)
