"""Resolves one batch: new evidence and the published neighbourhood in, the person of every touched node out.

    evidence ─▶ who is shared? ─▶ contract onto components ─▶ limits broken? ─▶ solve those again ─▶ name the persons
                 cut those          solve the small graph       from their edges

Only components that the batch touches are read and solved; the result is the one that solving everything gives.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np

from conf.policy import Policy
from transforms.arrays.integers import distinct, distinct_codes, groups_of_pairs, is_in, union, without
from transforms.identity.apart import Sides, opposed
from transforms.identity.canonical import ORDINAL_BITS, CanonicalIds, assign_canonical_ids
from transforms.identity.cluster import (
    NO_REFUSALS,
    Refusals,
    constrained_clusters,
    is_no_person,
    limited_namespaces,
)
from transforms.identity.components import Components, driver_components
from transforms.identity.evidence import OBSERVED_CODE, Evidence, concat_evidence, per_pair
from transforms.identity.joined import Joined, joined_values
from transforms.identity.nodes import Nodes, union_of
from transforms.identity.shared import choose_hosts, judge_shared

MERGE, SPLIT, SHARED, NEW, DECISION = "merge", "split", "shared", "new", "decision"


NO_NODES = np.empty(0, np.int64)


class IdentityLookup(Protocol):
    """What a batch may ask about everything published before it. Ids that do not exist are left out."""

    def nodes(self, ids: np.ndarray) -> Nodes:
        """The known nodes among `ids`, sorted by id."""

    def nodes_of_components(self, components: np.ndarray) -> Nodes:
        """Every node of these components."""

    def nodes_hosted_by(self, ids: np.ndarray) -> Nodes:
        """The shared nodes that these nodes host."""

    def edges_of(self, ids: np.ndarray) -> Evidence:
        """Every edge row with an end in `ids`, each once."""

    def redirects_to(self, canonical_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(retired, successor) of the redirects that point to one of `canonical_ids`."""

    def merge_requests_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(left, right) of the pairs that an event or a person asked to be one, with an end in `ids`."""

    def sides_of(self, ids: np.ndarray) -> Sides:
        """On which sides of the decisions in force that keep nodes apart `ids` are."""


@dataclass(frozen=True)
class Resolution:
    """What a batch changes. `nodes` are the rows to write and `was` the canonical ids they had (0: new), aligned;
    `cause` says why each changed owner ("" where it did not). `judged` are the nodes whose refusals were decided
    anew: refusals between them that are not in `refusals` are no longer in force. `rejoined`: nodes that stand for
    another value than before. `resettled`: nodes that could be one person's own, and are another's than before, or
    shared and were not, or were and are not; `flipped`: the latter two; `freed`: the last of these.
    """

    nodes: Nodes
    was: np.ndarray
    cause: np.ndarray
    ids: CanonicalIds
    vanished: np.ndarray
    refusals: Refusals
    judged: np.ndarray
    minted_count: int
    solved_node_count: int
    rejoined: np.ndarray
    resettled: np.ndarray
    flipped: np.ndarray
    freed: np.ndarray


def resolve(
    seen: Nodes,
    evidence: Evidence,
    lookup: IdentityLookup,
    policy: Policy,
    components: Components,
    batch_id: int,
    batch_at: int,
    decided: np.ndarray = NO_NODES,
) -> Resolution:
    """Resolve the linking nodes `seen` in a batch (rows of `new_nodes`, sorted by id) and its aggregated `evidence`.

    `batch_at` (microseconds) is the batch's time; `components` the engine that solves the contracted graph. `decided`:
    the nodes, all of them in `seen`, of manual decisions that came into force or were undone; `lookup` knows them.
    """
    known = lookup.nodes(seen.id)
    # Read ahead: all of these are asked for below, and most neighbours of the seen nodes are among them.
    lookup.nodes_of_components(distinct(known.component[known.component > 0]))
    touched = union_of(known, seen)
    requested = _requested(seen, evidence, decided, lookup, policy)
    around, pairs, altered = _cut_shared(touched, evidence, requested, decided, lookup, policy)
    stored = _read_touched(touched, around, altered, pairs, lookup)
    now = _with_flags_of(around, stored, altered)

    core = np.flatnonzero(~now.is_shared)
    newly_shared = now.is_shared & ~stored.is_shared
    cores = now.select(core)
    group = _contract(cores, stored.select(core), evidence, pairs, decided, components)
    joined = joined_values(now, seen, evidence, lookup, policy)
    sides = lookup.sides_of(now.id)
    again = is_no_person(cores, group, int(group.max(initial=-1)) + 1, joined, sides, policy)[group]
    again |= is_in(stored.component[core], stored.component[newly_shared]) & (stored.component[core] > 0)
    again |= is_in(cores.id, union(requested, decided))
    again = is_in(group, group[again])
    component, cluster, refusals = _solve_again(cores, group, again, evidence, joined, sides, lookup, policy)

    of_component, of_cluster = np.full(len(now), -1, np.int64), np.full(len(now), -1, np.int64)
    of_component[core], of_cluster[core] = component, cluster
    of_cluster = _attach_shared(now, of_cluster, joined, sides, policy)
    redirects = lookup.redirects_to(distinct(now.canonical[now.canonical > 0]))
    ids = assign_canonical_ids(of_cluster, now.canonical, now.first_canonical, now.tie, redirects, batch_id)
    after = _named(now, ids.canonical, of_component, batch_at)
    changed = _differs(stored, after)
    vanished = without(now.canonical[now.canonical > 0], after.canonical)
    could_claim = (stored.canonical > 0) & np.array([n.is_personal for n in policy.namespaces])[
        stored.namespace
    ]
    is_flipped = could_claim & (stored.is_shared != after.is_shared)
    return Resolution(
        nodes=after.select(changed),
        was=now.canonical[changed],
        cause=_cause(now.canonical, after, vanished, stored.component, decided)[changed],
        ids=ids,
        vanished=vanished,
        refusals=refusals,
        judged=union(now.id[core][again], now.id[newly_shared]),
        minted_count=int((distinct(ids.canonical) >> ORDINAL_BITS == batch_id).sum()),
        solved_node_count=int(again.sum()),
        rejoined=requested,
        resettled=after.id[is_flipped | (could_claim & (stored.canonical != after.canonical))],
        flipped=after.id[is_flipped],
        freed=after.id[is_flipped & ~after.is_shared],
    )


def _requested(
    seen: Nodes, evidence: Evidence, decided: np.ndarray, lookup: IdentityLookup, policy: Policy
) -> np.ndarray:
    """Nodes whose value is another than before: what this batch's merge requests and decisions join, or part."""
    asks = evidence.kind > OBSERVED_CODE
    ends = distinct(np.concatenate([evidence.left[asks], evidence.right[asks], decided]))
    if not len(ends):
        return ends
    asked = union_of(lookup.nodes(ends), seen.select(is_in(seen.id, ends)))
    joined = joined_values(asked, seen, evidence, lookup, policy)
    return joined.with_siblings(union(np.intersect1d(ends, joined.member), decided))


def _cut_shared(
    touched: Nodes,
    evidence: Evidence,
    requested: np.ndarray,
    decided: np.ndarray,
    lookup: IdentityLookup,
    policy: Policy,
) -> tuple[Nodes, Evidence, np.ndarray]:
    """(nodes, pairs, altered): the touched nodes and their neighbours with is_shared, is_hub and host as they are
    now; every pair that touches a judged node; the ids that were judged.

    Neighbours of `requested` nodes are judged too: what they met counts as other values than before. A hub is not asked
    for its thousands of edges again: its edges stay, so it stays a hub.
    """
    asked = union(touched.id[~touched.is_hub], decided)
    if len(requested):
        beside = concat_evidence(lookup.edges_of(requested), evidence)
        neighbours = lookup.nodes(_neighbours(requested, beside))
        asked = union(asked, neighbours.id[~neighbours.is_hub])
    pairs = per_pair(concat_evidence(lookup.edges_of(asked), evidence))
    nodes = _with_neighbours(touched, pairs, lookup)
    joined = joined_values(nodes, touched, evidence, lookup, policy)
    before = nodes.is_shared
    is_shared, is_hub = before.copy(), nodes.is_hub.copy()
    rows = nodes.at(asked)
    is_shared[rows], is_hub[rows] = judge_shared(asked, pairs, nodes, joined, policy)
    nodes = replace(nodes, is_shared=is_shared, is_hub=is_hub)

    # A shared neighbour of a node that became shared, or is no longer, may need another host.
    flipped = nodes.id[is_shared != before]
    near = _neighbours(flipped, pairs)
    near = near[nodes.is_shared[nodes.at(near)] & ~nodes.is_hub[nodes.at(near)]]
    near = without(near, asked)
    if len(near):
        pairs = per_pair(concat_evidence(lookup.edges_of(union(asked, near)), evidence))
        nodes = _with_neighbours(nodes, pairs, lookup)
    altered = union(asked, near)
    rows = nodes.at(altered)
    host = nodes.host.copy()
    host[rows] = 0
    seeking = altered[nodes.is_shared[rows]]
    host[nodes.at(seeking)] = choose_hosts(seeking, pairs, nodes, policy)
    return replace(nodes, host=host), pairs, altered


def _read_touched(
    touched: Nodes, around: Nodes, altered: np.ndarray, pairs: Evidence, lookup: IdentityLookup
) -> Nodes:
    """Every node, as stored, of the components that this batch can change, with the shared nodes they host.

    Touched are the components of the touched nodes, of the hosts that altered nodes had and have, and of the
    neighbours of nodes that are no longer shared.
    """
    there = lookup.nodes(union(touched.id, altered))
    was_shared = there.id[there.is_shared]
    freed = was_shared[~around.is_shared[around.at(was_shared)]]
    hosts = np.concatenate([there.host, around.host[around.at(altered)], _neighbours(freed, pairs)])
    hosts = hosts[around.has(hosts)]
    labels = np.concatenate([there.component, around.component[around.at(hosts)]])
    members = lookup.nodes_of_components(distinct(labels[labels > 0]))
    hosted = lookup.nodes_hosted_by(union(members.id, touched.id))
    return union_of(members, hosted, there, touched)


def _with_flags_of(around: Nodes, stored: Nodes, altered: np.ndarray) -> Nodes:
    """`stored` with the altered nodes' new is_shared, is_hub and host."""
    to, of = stored.at(altered), around.at(altered)
    columns = {}
    for name in ("is_shared", "is_hub", "host"):
        columns[name] = getattr(stored, name).copy()
        columns[name][to] = getattr(around, name)[of]
    return replace(stored, **columns)


def _contract(
    now: Nodes,
    stored: Nodes,
    evidence: Evidence,
    pairs: Evidence,
    decided: np.ndarray,
    components: Components,
) -> np.ndarray:
    """Group of each core node: present components, joined by the batch's edges and those of nodes just freed or
    decided about."""
    key = np.where(now.component > 0, now.component, -now.id)
    names, index = distinct_codes(key)
    freed = union(now.id[stored.is_shared], decided)
    more = is_in(pairs.left, freed) | is_in(pairs.right, freed)
    left = np.concatenate([evidence.left, pairs.left[more]])
    right = np.concatenate([evidence.right, pairs.right[more]])
    inside = now.has(left) & now.has(right)
    left, right = index[now.at(left[inside])], index[now.at(right[inside])]
    return components(len(names), left, right)[index] if len(names) else index


def _solve_again(
    core: Nodes,
    group: np.ndarray,
    again: np.ndarray,
    evidence: Evidence,
    joined: Joined,
    sides: Sides,
    lookup: IdentityLookup,
    policy: Policy,
) -> tuple[np.ndarray, np.ndarray, Refusals]:
    """(component, cluster) of each core node and the refusals: the groups marked `again` from their own edges."""
    component, cluster = group.copy(), group.copy()
    if not again.any():
        return component, cluster, NO_REFUSALS
    nodes = core.select(again)
    pairs = _inside(per_pair(concat_evidence(lookup.edges_of(nodes.id), evidence)), nodes)
    parts = driver_components(len(nodes), nodes.at(pairs.left), nodes.at(pairs.right))
    offset = int(group.max()) + 1
    component[again] = parts + offset
    cluster[again] = parts + offset
    broken = is_no_person(nodes, parts, int(parts.max()) + 1, joined, sides, policy)[parts]
    if not broken.any():
        return component, cluster, NO_REFUSALS
    crowd = nodes.select(broken)
    labels, refusals = constrained_clusters(crowd, _inside(pairs, crowd), joined, sides, policy)
    cluster[np.flatnonzero(again)[broken]] = labels + offset + int(parts.max()) + 1
    return component, cluster, refusals


def _attach_shared(
    now: Nodes, cluster: np.ndarray, joined: Joined, sides: Sides, policy: Policy
) -> np.ndarray:
    """Clusters with shared nodes given to their hosts' persons; those without a host, or that would break a limit or
    a decision there, stand alone. Numbered 0 … n-1."""
    cluster = cluster.copy()
    shared = np.flatnonzero(now.is_shared)
    given = shared[now.host[shared] > 0]
    cluster[given] = cluster[now.at(now.host[given])]
    alone = shared[now.host[shared] == 0]
    cluster[alone] = cluster.max(initial=-1) + 1 + np.arange(len(alone))
    limits = dict(limited_namespaces(policy))
    for code, limit in limits.items():
        mine = given[now.namespace[given] == code]
        if not len(mine):
            continue
        core = np.flatnonzero(~now.is_shared & (now.namespace == code))
        held = groups_of_pairs(cluster[core], joined.of(now.id[core]))
        core_count = np.bincount(held, minlength=int(cluster.max()) + 1)
        mine = mine[np.lexsort((now.tie[mine], cluster[mine]))]
        _, start, inverse = np.unique(cluster[mine], return_index=True, return_inverse=True)
        place = np.arange(len(mine)) - start[inverse]
        over = mine[core_count[cluster[mine]] + place >= limit]
        cluster[over] = cluster.max() + 1 + np.arange(len(over))
    stands = sides.per_node(now.id)
    for row in sorted((int(r) for r in given if int(r) in stands), key=lambda r: int(now.tie[r])):
        others = (i for i in stands if i != row and cluster[i] == cluster[row])
        if any(opposed(stands[row], stands[i]) for i in others):
            cluster[row] = cluster.max() + 1
    return distinct_codes(cluster)[1]


def _named(now: Nodes, canonical: np.ndarray, component: np.ndarray, batch_at: int) -> Nodes:
    """Rows with their owners. A component is labelled by the oldest person in it; shared nodes have none."""
    label = np.full(int(component.max(initial=-1)) + 2, np.iinfo(np.int64).max)
    np.minimum.at(label, component, canonical)
    return replace(
        now,
        canonical=canonical,
        component=np.where(component >= 0, label[component], 0),
        first_canonical=np.where(now.first_canonical > 0, now.first_canonical, canonical),
        since=np.where(canonical == now.canonical, now.since, batch_at),
    )


def _cause(
    was: np.ndarray, after: Nodes, vanished: np.ndarray, component: np.ndarray, decided: np.ndarray
) -> np.ndarray:
    cause = np.where(after.is_shared, SHARED, SPLIT).astype(object)
    cause[is_in(was, vanished)] = MERGE
    rows = is_in(after.id, decided)
    beside = (is_in(component, component[rows]) & (component > 0)) | is_in(
        after.component, after.component[rows & (after.component > 0)]
    )
    cause[rows | beside] = DECISION
    cause[was == 0] = NEW
    cause[was == after.canonical] = ""
    return cause


def _differs(a: Nodes, b: Nodes) -> np.ndarray:
    different = np.zeros(len(a), bool)
    for f in fields(Nodes):
        different |= getattr(a, f.name) != getattr(b, f.name)
    return different


def _inside(pairs: Evidence, nodes: Nodes) -> Evidence:
    """The pairs with both ends in `nodes`."""
    keep = nodes.has(pairs.left) & nodes.has(pairs.right)
    return pairs.select(keep)


def _neighbours(ids: np.ndarray, pairs: Evidence) -> np.ndarray:
    if not len(ids):
        return np.empty(0, np.int64)
    return distinct(
        np.concatenate([pairs.right[is_in(pairs.left, ids)], pairs.left[is_in(pairs.right, ids)]])
    )


def _with_neighbours(nodes: Nodes, pairs: Evidence, lookup: IdentityLookup) -> Nodes:
    ids = distinct(np.concatenate([pairs.left, pairs.right]))
    return union_of(nodes, lookup.nodes(ids[~nodes.has(ids)]))
