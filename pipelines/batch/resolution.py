"""The identity step of a batch: its evidence resolved against the state, the state brought up to date, its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from pipelines.batch import rows
from pipelines.batch.intent import Intent
from pipelines.state.decision_rows import decisions_to_rows
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from transforms.identity.cluster import limited_namespaces
from transforms.identity.components import Components
from transforms.identity.decisions import Decision
from transforms.identity.evidence import gather_evidence, kind_codes
from transforms.identity.nodes import Nodes, new_nodes, union_of
from transforms.identity.refusals import changed_refusals
from transforms.identity.resolve import Resolution, resolve
from transforms.identity.shared import without_weak_pairs
from transforms.integers import distinct, distinct_first, is_in, places_in, union, without


class HashCollision(RuntimeError):
    """Two identifiers share a node id. Nothing of the batch is published."""


@dataclass(frozen=True)
class Identified:
    """The step's outcome: rows per table, and the persons whose nodes changed."""

    identifiers: pa.Table
    edges: pa.Table
    map_upserts: pa.Table
    redirects: pa.Table
    reopened: np.ndarray
    log: pa.Table
    refused: pa.Table
    lifted_left: np.ndarray
    lifted_right: np.ndarray
    resolution: Resolution
    touched_persons: np.ndarray
    decisions: pa.Table
    decided_anchors: np.ndarray


def identify(
    received: pa.Table,
    valid: pa.Table,
    decided: list[Decision],
    state: LakeState,
    policy: Policy,
    components: Components,
    intent: Intent,
) -> Identified:
    """Resolve the identifiers of `valid` events under what has been `decided` in this batch and before.

    `received` names the identifiers. Changes `state.identity`.
    """
    named = _named_identifiers(received)
    change = state.identity.decisions.put(decided)
    decided_nodes = np.array(sorted({n for d in decided for n in (*d.nodes, d.anchor) if n}), np.int64)
    ids = union(numpy_of(pc.list_flatten(valid["node_ids"])), decided_nodes)
    at = places_in(named.id, ids)
    seen = new_nodes(
        ids,
        state.tenants.encode(named.tenant.take(pa.array(at))),
        state.namespaces.encode(named.namespace.take(pa.array(at))),
        named.tie[at],
    )
    _refuse_collisions(seen, state)
    columns = ("node_ids", "weak_node_ids", "actor_node_ids")
    used = distinct(np.concatenate([decided_nodes, *(numpy_of(pc.list_flatten(valid[c])) for c in columns)]))
    before = state.identity.nodes(used)
    unknown = used[~before.has(used)]
    is_other = ~is_in(unknown, ids)
    known_other = numpy_of(state.other_identifiers.rows("id", unknown)["id"])
    fresh = without(unknown, known_other)
    other = without(unknown[is_other], known_other)
    identifier_rows = rows.identifier_rows(
        named.rows.take(pa.array(places_in(named.id, fresh))), intent.batch_id
    )
    state.other_identifiers.replace(np.empty(0, np.int64), pa.table({"id": other}))

    evidence = gather_evidence(
        valid["node_ids"].combine_chunks() if valid.num_rows else pa.array([], pa.list_(pa.int64())),
        state.mappings.encode(valid["mapping"]),
        kind_codes(valid["event_type"]),
        numpy_of(valid["event_at"]),
    )
    evidence = without_weak_pairs(evidence, seen, policy)
    # Nodes of an undone decision are touched too, though nothing in this batch names them.
    seen = union_of(seen, state.identity.nodes(change.nodes))
    resolution = resolve(
        seen,
        evidence,
        state.identity,
        policy,
        components,
        intent.batch_id,
        intent.batch_at,
        change.nodes,
    )
    edges = state.identity.with_prior(evidence)
    refused, lifted = changed_refusals(
        resolution.refusals, state.identity.refusals_of(resolution.judged), resolution.judged
    )
    state.identity.apply(resolution, edges, refused, lifted)

    nodes, canonical = resolution.nodes, resolution.ids
    touched = np.concatenate([nodes.canonical, resolution.was[~is_in(resolution.was, resolution.vanished)]])
    return Identified(
        identifiers=identifier_rows,
        edges=rows.edge_rows(edges, state, intent.batch_id),
        map_upserts=rows.map_rows(nodes, state, intent.batch_id),
        redirects=rows.redirect_rows(
            canonical.retired,
            canonical.successor,
            state.tenants.decode(_tenants_of(canonical.successor, nodes, state)),
            intent.batch_id,
        ),
        reopened=canonical.reopened,
        log=rows.log_rows(nodes, resolution.was, resolution.cause, intent.batch_at, state, intent.batch_id),
        refused=rows.refusal_rows(refused, state, dict(limited_namespaces(policy)), intent.batch_id),
        lifted_left=lifted.left,
        lifted_right=lifted.right,
        resolution=resolution,
        touched_persons=distinct(touched[touched > 0]),
        decisions=decisions_to_rows(change.rows, intent.batch_id),
        decided_anchors=change.anchors,
    )


def _tenants_of(persons: np.ndarray, changed: Nodes, state: LakeState) -> np.ndarray:
    """The tenant of each of `persons`, nearly all of which have got one of the `changed` nodes."""
    others = state.identity.members_of(without(persons, changed.canonical))
    known = np.concatenate([changed.canonical, others.canonical])
    ids, first = distinct_first(known)
    return np.concatenate([changed.tenant, others.tenant])[first][places_in(ids, persons)]


@dataclass(frozen=True)
class _Named:
    """Every identifier named in a batch, once, sorted by id."""

    rows: pa.Table
    id: np.ndarray
    tenant: pa.ChunkedArray
    namespace: pa.ChunkedArray
    tie: np.ndarray


def _named_identifiers(received: pa.Table) -> _Named:
    lists = received["identifiers"].combine_chunks()
    flat = pc.list_flatten(lists)
    parents = pc.list_parent_indices(lists)
    columns = {name: pc.struct_field(flat, name) for name in ("node_id", "namespace", "value", "tie_hash")}
    table = pa.table({"tenant": received["tenant"].combine_chunks().take(parents), **columns})
    ids = numpy_of(table["node_id"])
    unique, first = distinct_first(ids)
    ties = numpy_of(table["tie_hash"])
    if not np.array_equal(ties, ties[first][places_in(unique, ids)]):
        raise HashCollision("two identifiers of one batch have the same node id; nothing of it is published")
    table = table.take(pa.array(first))
    return _Named(table, unique, table["tenant"], table["namespace"], ties[first])


def _refuse_collisions(seen: Nodes, state: LakeState) -> None:
    known = state.identity.nodes(seen.id)
    rows_of = seen.at(known.id)
    if not np.array_equal(known.tie, seen.tie[rows_of]):
        raise HashCollision(
            "an identifier of this batch has the node id of another one; nothing of it is published"
        )
