"""Cuts the sessions of the anchors that a batch touches, and gives them their owners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from conf.policy import Policy, unique_namespaces
from conf.tables import SESSIONS
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch import rows
from pipelines.stream.batch.intent import Intent
from pipelines.stream.batch.near_sessions import Read, sessions_near, sessions_to_judge
from pipelines.stream.batch.resolution import Identified
from transforms.activity.ownership import owned_changes
from transforms.activity.person_folds import SESSION_COLUMNS
from transforms.activity.session_reach import apart, closure
from transforms.activity.sessions import CutResult, cut_fetching, session_gap_us
from transforms.activity.spans import EVENT_COLUMNS
from transforms.arrays.grouped import in_schema
from transforms.arrays.integers import found, is_in, union, without
from transforms.identity.canonical import minted_ids
from transforms.identity.nodes import Nodes
from transforms.identity.resolve import Resolution

# (anchors, start, end) → the published events of those anchors in those windows, for a session that must be re-cut.
FetchEvents = Callable[[pa.Table], pa.Table]
# What a person's fold takes of her sessions.
FOLDED = ["tenant", "owner_node_id", *SESSION_COLUMNS]
_FAR_APART_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True)
class Cut:
    """The sessions that events touch, cut, and what was read of the published sessions of the events' anchors."""

    near: Read
    result: CutResult


@dataclass(frozen=True)
class Owned:
    """The owned sessions of a batch, and what follows for persons.

    `sessions`: hot rows. `unclaimed`, `unclaimed_gone`: nodes of anchors that own sessions nobody claims, those that
    are new and the ids of those that are gone. `persons`: those whose profiles have changed; `vanished`: those that are
    no more. `regrouped`: persons that have got or lost an older node. `taken`, `put`: sessions (FOLDED) before and
    after the batch; of persons whose fold is known, all that differ."""

    sessions: pa.Table
    unclaimed: Nodes
    unclaimed_gone: np.ndarray
    persons: np.ndarray
    vanished: np.ndarray
    regrouped: np.ndarray
    taken: pa.Table
    put: pa.Table


def cut_activity(
    valid: pa.Table, state: LakeState, policy: Policy, intent: Intent, fetch_events: FetchEvents
) -> Cut:
    """Cut the sessions that `valid` events touch. It reads published sessions only, so it may run concurrently with the
    identity step."""
    gap_us = session_gap_us(policy)
    near = sessions_near(valid, state, policy, gap_us)
    touched = state.sessions.take(near.positions[closure(near.session_keys, valid, gap_us)])
    schema = valid.select(EVENT_COLUMNS).schema

    def fetch(expansions: pa.Table) -> pa.Table:
        fetched = [fetch_events(windows) for windows in apart(expansions, _FAR_APART_US)]
        return pa.concat_tables([in_schema(found.select(EVENT_COLUMNS), schema) for found in fetched])

    unique = unique_namespaces(policy)
    return Cut(near, cut_fetching(valid, touched, gap_us, intent.batch_id, fetch, unique))


def own_sessions(
    valid: pa.Table,
    cut: Cut,
    identified: Identified,
    state: LakeState,
    policy: Policy,
    intent: Intent,
) -> Owned:
    """Give the sessions of `cut` their owners. Changes the state.

    Two kinds of anchors may have sessions that get another owner without a new event: those that a decision is about,
    and those where an identifier was seen that belongs to another person now or has become shared.
    """
    resolution = identified.resolution
    judged_anew = union(identified.decided_anchors, _claimed_anchors(resolution, state))
    judged = sessions_to_judge(cut.near, cut.result, judged_anew, state, policy)
    positions, before = judged.positions, judged.session_keys
    anchors = union(numpy_of(valid["anchor_node_id"]), judged_anew)
    assigned = state.identity.decisions.assignments_of(anchors)

    def whole_rows(rows: np.ndarray) -> pa.Table:
        return state.sessions.take(positions[rows])

    upserts = owned_changes(
        before, cut.result, policy, intent.batch_id, whole_rows, assigned, judged.persons, judged.facts
    )
    removed = cut.result.removed
    replaced = is_in(numpy_of(before["session_id"]), union(removed, numpy_of(upserts["session_id"])))
    taken = _taken(positions[replaced], numpy_of(before["owner_node_id"])[replaced], state)
    state.sessions.replace(positions[replaced], upserts)

    owners, new_owners = numpy_of(before["owner_node_id"]), numpy_of(upserts["owner_node_id"])
    unclaimed, gone = _unclaimed_nodes(anchors, new_owners, resolution.minted_count, state, intent)
    owner_nodes = state.identity.nodes(union(owners[replaced], new_owners))
    return Owned(
        sessions=rows.hot_rows(SESSIONS, upserts, {"session_id": removed}, intent.batch_id),
        unclaimed=unclaimed,
        unclaimed_gone=gone.id,
        persons=union(identified.touched_persons, owner_nodes.canonical),
        vanished=union(resolution.vanished, gone.canonical),
        regrouped=_regrouped(resolution),
        taken=taken,
        put=upserts.select(FOLDED),
    )


def _taken(positions: np.ndarray, owners: np.ndarray, state: LakeState) -> pa.Table:
    """FOLDED of those sessions at `positions` whose owners (aligned) are of persons whose fold is known."""
    if not len(state.person_folds):
        return state.sessions.take(positions[:0], FOLDED)
    nodes = state.identity.nodes(owners)
    known = state.person_folds.having("canonical_id", nodes.canonical)
    return state.sessions.take(positions[is_in(owners, nodes.id[is_in(nodes.canonical, known)])], FOLDED)


def _regrouped(resolution: Resolution) -> np.ndarray:
    """The persons that have got or lost a node that was there before: its sessions go with it."""
    has_moved = (resolution.was != 0) & (resolution.was != resolution.nodes.canonical)
    return union(resolution.was[has_moved], resolution.nodes.canonical[has_moved])


def _claimed_anchors(resolution: Resolution, state: LakeState) -> np.ndarray:
    """The anchors where an identifier was seen that belongs to another person now, or has become shared or unshared.

    Such an identifier owns the sessions that have it, unless it was shared or a decision says otherwise. In these two
    cases an edge connects it with the anchor.
    """
    claimants = union(resolution.rejoined, resolution.resettled)
    owned = state.sessions.rows("owner_node_id", claimants, ["anchor_node_id", "owner_node_id"])
    anchor, owner = numpy_of(owned["anchor_node_id"]), numpy_of(owned["owner_node_id"])
    seen_at = anchor[_matters(anchor, owner, resolution, state)]
    assigned = state.identity.decisions.assigned_anchors
    edges = state.identity.edges_of(claimants if len(assigned) else resolution.freed)
    near = union(edges.left, edges.right)
    if len(assigned):
        of_freed = is_in(edges.left, resolution.freed) | is_in(edges.right, resolution.freed)
        near = union(near[is_in(near, assigned)], edges.left[of_freed], edges.right[of_freed])
    return union(seen_at, near, resolution.freed)


def _matters(
    anchor: np.ndarray, claimant: np.ndarray, resolution: Resolution, state: LakeState
) -> np.ndarray:
    """For each (anchor, claimant) whether the claimant's change of person can change an owner at the anchor.

    Where the anchor's facts are known, it can only if the claimant was or is the same person as the first claimant
    there. Elsewhere all sessions are read anyway, so the answer is yes."""
    facts = state.anchor_facts.rows("anchor_node_id", anchor).sort_by("anchor_node_id")
    known, is_known = found(numpy_of(facts["anchor_node_id"]), anchor)
    moved = without(resolution.resettled, union(resolution.rejoined, resolution.flipped))
    is_known &= is_in(claimant, moved)
    if not is_known.any():
        return np.ones(len(anchor), bool)
    first = np.where(is_known, numpy_of(facts["first_claimant_node_id"])[known], 0)
    nodes = state.identity.nodes(union(first[first != 0], claimant[is_known]))
    now_first, now = (np.where(is_known, _persons(n, nodes), 0) for n in (first, claimant))
    changed = resolution.nodes.id
    place, _ = found(changed, claimant)
    was = np.where(is_known, resolution.was[place], 0)
    return ~is_known | is_in(first, resolution.resettled) | (now == now_first) | (was == now_first)


def _persons(ids: np.ndarray, nodes: Nodes) -> np.ndarray:
    place, is_there = found(nodes.id, ids)
    return np.where(is_there, nodes.canonical[place], 0)


def _unclaimed_nodes(
    anchors: np.ndarray, owners: np.ndarray, minted_count: int, state: LakeState, intent: Intent
) -> tuple[Nodes, Nodes]:
    """(new, gone) unclaimed nodes of `anchors`, after sessions got these `owners`. Each is nobody's, so it is a person
    of its own while it owns a session. New ones take the ids after those that the resolver minted in this batch."""
    there = state.identity.nodes(-anchors)
    fresh = without(owners[owners < 0], there.id)
    anchor_rows = state.identity.nodes(-fresh)
    order = anchor_rows.at(-fresh)
    order = order[np.lexsort((anchor_rows.tie[order],))]
    ids = -anchor_rows.id[order]
    canonical = minted_ids(intent.batch_id, minted_count, len(ids))
    zero, no = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    nodes = Nodes(
        id=ids,
        tenant=anchor_rows.tenant[order],
        namespace=np.full(len(ids), state.unclaimed, np.int32),
        tie=zero,
        canonical=canonical,
        component=zero,
        first_canonical=canonical,
        host=zero,
        is_shared=no,
        is_hub=no,
        since=np.full(len(ids), intent.batch_at, np.int64),
    )
    by_id = np.argsort(nodes.id)
    nodes = nodes.select(by_id)
    gone = there.select(~is_in(there.id, state.sessions.having("owner_node_id", there.id)))
    state.identity.put_nodes(nodes)
    state.identity.drop_nodes(gone.id)
    return nodes, gone
