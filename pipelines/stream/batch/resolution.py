"""The identity step of a batch: resolves its evidence against the state, updates the state, makes the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from pipelines.state.decision_rows import decisions_to_rows
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch import rows
from pipelines.stream.batch.intent import Intent
from pipelines.stream.batch.named import Named
from transforms.arrays.integers import distinct, distinct_first, is_in, places_in, union, without
from transforms.identity.cluster import limited_namespaces
from transforms.identity.components import Components
from transforms.identity.evidence import gather_evidence, kind_codes
from transforms.identity.nodes import Nodes, new_nodes, union_of
from transforms.identity.refusals import changed_refusals
from transforms.identity.resolve import Resolution, resolve
from transforms.identity.shared import without_weak_pairs
from transforms.ingest.decisions import Decision


@dataclass(frozen=True)
class Identified:
    """The outcome of the identity step: rows per table, the persons whose nodes changed, and the new tenants."""

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
    new_tenants: list[str]


def identify(
    named: Named,
    valid: pa.Table,
    decided: list[Decision],
    state: LakeState,
    policy: Policy,
    components: Components,
    intent: Intent,
) -> Identified:
    """Resolve the identifiers of `valid` events under what has been `decided` in this batch and before.

    `named`: every identifier of theirs, sorted by id. Changes `state`.
    """
    tenant_count = len(state.tenants)
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
    columns = ("node_ids", "weak_node_ids", "actor_node_ids")
    used = distinct(np.concatenate([decided_nodes, *(numpy_of(pc.list_flatten(valid[c])) for c in columns)]))
    before = state.identity.nodes(used)
    unknown = used[~before.has(used)]
    is_other = ~is_in(unknown, ids)
    known_other = numpy_of(state.other_identifiers.rows("id", unknown)["id"])
    fresh = without(unknown, known_other)
    other = without(unknown[is_other], known_other)
    new = named.select(places_in(named.id, fresh))
    ties = named.tie[places_in(named.id, other)]
    state.other_identifiers.replace(np.empty(0, np.int64), pa.table({"id": other, "tie": ties}))

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
        identifiers=rows.identifier_rows(new.rows, intent.batch_id),
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
        new_tenants=sorted(state.tenants.names[tenant_count:]),
    )


def _tenants_of(persons: np.ndarray, changed: Nodes, state: LakeState) -> np.ndarray:
    """The tenant of each of `persons`, nearly all of which have got one of the `changed` nodes."""
    others = state.identity.members_of(without(persons, changed.canonical))
    known = np.concatenate([changed.canonical, others.canonical])
    ids, first = distinct_first(known)
    return np.concatenate([changed.tenant, others.tenant])[first][places_in(ids, persons)]
