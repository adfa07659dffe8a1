"""Owners: the node, and so the person, that each session belongs to.

A session that names somebody belongs to its *claimant*: its user, or where it has none the best strong identifier named
in it that is not shared. One that names nobody belongs to its anchor while the anchor has had one claimant at most over
all its sessions, and so to whoever owns the anchor. At an anchor with two claimants or more, the policy decides
(`anonymous_on_shared_device`):
- until_shared: the first one's if it starts before the second one is first named; nobody's afterwards.
- session_bounded: nobody's. Only what is in a session says whose it is, whenever the anchor came to be shared.
- last_login: the claimant of the last session with one before it; the first one's if there was none.
- device_profile: the anchor's, shared or not.
Nobody's sessions go to the anchor's unclaimed node, minus the anchor's, and to no person by guess.

    claimant      A           A           B
    names nobody  a     a     a     a     a     a        until_shared: A  A  A  A  -anchor  -anchor
                                        └ starts after B is first named

Two claimants are one here where they are one person: a user and her e-mail, or two e-mails of hers; and where an
`alias` event or a manual merge has declared them to be one. So a merge may make an anchor one person's again.
Claimants of an anchor are in the order of their first sessions, so of the first events that name them; two at the same
instant in the order of their event ids. Never in the order of node ids, which are keyed and differ between lakes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.tables.silver import SESSIONS
from transforms.activity.claims import NO_USER
from transforms.activity.sessions import CutResult, after_cut, is_kept
from transforms.arrays.grouped import (
    LATEST,
    Flags,
    Longs,
    changes,
    conformed,
    in_schema,
    longs,
    nullable,
    places,
    previous,
    whole,
)
from transforms.arrays.integers import distinct, distinct_first, found, is_in, places_in
from transforms.identity.components import driver_components
from transforms.identity.joined import Joined
from transforms.identity.nodes import Nodes

# What is asked of a session to say whose it is.
OWNER_COLUMNS = (
    "session_id", "anchor_node_id", "start_at", "start_event_id", "user_node_id", "owner_node_id",
    "first_authenticated_at", "claims",
)  # fmt: skip
_AT = pa.timestamp("us", tz="UTC")
# One row is one anchor: how many claimants it has had, the first one, and when it and the second one were first named.
ANCHOR_FACTS = pa.schema(
    [
        ("anchor_node_id", pa.int64()),
        ("claimant_count", pa.int64()),
        ("first_claimant_node_id", pa.int64()),
        ("first_claimant_at", _AT),
        ("second_claimant_at", _AT),
    ]
)


def unclaimed(anchor_node_id: Longs) -> Longs:
    """The node of an anchor's sessions that are nobody's."""
    return -anchor_node_id


def needs_all_sessions(policy: Policy) -> bool:
    """Whether owners can only be decided with all sessions of the anchor, because the facts are not enough."""
    return policy.anonymous_on_shared_device == "last_login"


@dataclass(frozen=True)
class Persons:
    """Of nodes, ascending: one node that stands for all of the same person, and whether it is shared. A node that is
    not among them is a person of its own, and not shared."""

    node: Longs
    person: Longs
    is_shared: Flags

    def of(self, nodes: Longs) -> Longs:
        """The person of each node; a node that is not known is its own."""
        place, is_known = found(self.node, nodes)
        return np.where(is_known, self.person[place], nodes) if len(self.node) else nodes

    def are_shared(self, nodes: Longs) -> Flags:
        """Whether each node is shared."""
        place, is_known = found(self.node, nodes)
        return is_known & self.is_shared[place] if len(self.node) else is_known


NOBODY_KNOWN = Persons(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))


def persons_of(nodes: Nodes, joined: Joined) -> Persons:
    """Who the nodes are; those that stand for one value (`joined`) are one person here, whatever keeps them apart.
    `nodes` has the labels of the joined ones too."""
    _, first, person = np.unique(nodes.canonical, return_index=True, return_inverse=True)
    if len(joined.member):
        value = joined.of(nodes.id)
        other = np.flatnonzero(value != nodes.id)
        person = driver_components(len(first), person[other], person[nodes.at(value[other])])[person]
        _, first, person = np.unique(person, return_index=True, return_inverse=True)
    return Persons(nodes.id, nodes.id[first][person], nodes.is_shared)


def named_nodes(sessions: pa.Table) -> Longs:
    """The users and claims of sessions, ascending."""
    claims = whole(conformed(sessions, SESSIONS.arrow, ("claims",))["claims"]).flatten()
    users = longs(sessions["user_node_id"].drop_null())
    return distinct(np.concatenate((users, longs(claims.field("node_id")))))


def claimants(sessions: pa.Table, policy: Policy, persons: Persons = NOBODY_KNOWN) -> Longs:
    """The claimant of each session: the node that its own events name, NO_USER for none."""
    claimant = longs(sessions["user_node_id"], NO_USER).copy()
    lists = whole(conformed(sessions, SESSIONS.arrow, ("claims",))["claims"])
    if lists.null_count == len(lists):
        return claimant
    row = np.repeat(np.arange(len(lists)), longs(pc.fill_null(pc.list_value_length(lists), 0)))
    claims = lists.flatten()
    node = longs(claims.field("node_id"))
    good = np.flatnonzero((claimant[row] == NO_USER) & ~persons.are_shared(node))
    spaces = claims.field("namespace").take(pa.array(good)).dictionary_encode()
    rank = {namespace.name: at for at, namespace in enumerate(policy.namespaces)}
    ranks = np.array([rank.get(name, len(rank)) for name in spaces.dictionary.to_pylist()], np.int64)
    by = np.lexsort((ranks[longs(spaces.indices)], row[good]))
    of_session, first = distinct_first(row[good][by])
    claimant[of_session] = node[good][by][first]
    return claimant


def anchor_facts(sessions: pa.Table, claimant: Longs, persons: Persons = NOBODY_KNOWN) -> pa.Table:
    """One row is one anchor, ascending; `sessions` holds all of its sessions, and `claimant` says whose each is."""
    anchors = distinct(longs(sessions["anchor_node_id"]))
    named = np.flatnonzero(claimant != NO_USER)
    used = sessions.take(pa.array(named))
    authenticated_at = longs(used["first_authenticated_at"], LATEST)
    at = np.where(authenticated_at == LATEST, longs(used["start_at"]), authenticated_at)
    order = _in_order(used)
    anchor, node, at = longs(used["anchor_node_id"])[order], claimant[named][order], at[order]

    row = places_in(anchors, anchor)
    starts = np.flatnonzero(changes(anchor))
    first_node = np.full(len(anchors), NO_USER, np.int64)
    first_node[row[starts]] = node[starts]
    first_at = np.full(len(anchors), LATEST, np.int64)
    first_at[row[starts]] = at[starts]
    person = persons.of(node)
    other = np.flatnonzero(person != persons.of(first_node)[row])
    second_at = np.full(len(anchors), LATEST, np.int64)
    second = other[changes(anchor[other])] if len(other) else other
    second_at[row[second]] = at[second]

    by_person = np.lexsort((person, row))
    of_one_person = row[by_person][changes(row[by_person], person[by_person])]
    columns = [
        pa.array(anchors),
        pa.array(np.bincount(of_one_person, minlength=len(anchors)).astype(np.int64)),
        nullable(first_node, pa.int64(), NO_USER),
        nullable(first_at, _AT, LATEST),
        nullable(second_at, _AT, LATEST),
    ]
    return pa.Table.from_arrays(columns, schema=ANCHOR_FACTS)


def facts_with(known: pa.Table, others: pa.Table) -> pa.Table:
    """The facts `known`, and those of other anchors."""
    is_other = ~is_in(longs(others["anchor_node_id"]), longs(known["anchor_node_id"]))
    return pa.concat_tables([known, others.filter(pa.array(is_other))])


def _judging(facts: pa.Table) -> tuple[Longs, Longs, Longs]:
    """Anchors ascending, and what decides about each: the first claimant and the second one's instant where it is
    shared."""
    facts = facts.sort_by("anchor_node_id")
    is_shared = longs(facts["claimant_count"]) > 1
    first = longs(facts["first_claimant_node_id"], NO_USER)
    second = longs(facts["second_claimant_at"], LATEST)
    return (
        longs(facts["anchor_node_id"]),
        np.where(is_shared, first, NO_USER),
        np.where(is_shared, second, LATEST),
    )


def assign_owners(sessions: pa.Table, policy: Policy, persons: Persons = NOBODY_KNOWN) -> pa.Table:
    """The same rows with their owner_node_id; `sessions` holds all sessions of the anchors to be judged."""
    claimant = claimants(sessions, policy, persons)
    facts = anchor_facts(sessions, claimant, persons)
    if needs_all_sessions(policy):
        return _with_owners(sessions, _last_login_owners(sessions, claimant, facts))
    return owners_from_facts(sessions, claimant, facts, policy)


def owners_from_facts(sessions: pa.Table, claimant: Longs, facts: pa.Table, policy: Policy) -> pa.Table:
    """The same rows with their owner_node_id, from the facts of (at least) their anchors."""
    if needs_all_sessions(policy):
        raise ValueError(
            "anonymous_on_shared_device: last_login cannot be judged from facts; call assign_owners with all sessions "
            "of the anchors"
        )
    if sessions.num_rows == 0:
        return sessions
    anchor = longs(sessions["anchor_node_id"])
    known, first, second_at = _judging(facts)
    row = np.minimum(places_in(known, anchor), len(known) - 1)
    if len(known) == 0 or (known[row] != anchor).any():
        raise ValueError(
            "sessions of anchors without facts; take the facts from all sessions of all their anchors"
        )
    is_shared = first[row] != NO_USER
    rule = policy.anonymous_on_shared_device
    if rule == "until_shared":
        is_before = longs(sessions["start_at"]) < second_at[row]
        shared = np.where(is_before, first[row], unclaimed(anchor))
    elif rule == "session_bounded":
        shared = unclaimed(anchor)
    else:
        shared = anchor
    return _with_owners(
        sessions, np.where(claimant != NO_USER, claimant, np.where(is_shared, shared, anchor))
    )


def _last_login_owners(sessions: pa.Table, claimant: Longs, facts: pa.Table) -> Longs:
    order = _in_order(sessions)
    anchor = longs(sessions["anchor_node_id"])
    _, first, _ = _judging(facts)
    row = places_in(longs(facts["anchor_node_id"]), anchor)
    in_order, here = claimant[order], anchor[order]
    last = previous(in_order != NO_USER)
    is_here = (last >= 0) & (here[last] == here)
    latest = np.empty(len(order), np.int64)
    latest[order] = np.where(is_here, in_order[last], first[row][order])
    return np.where(claimant != NO_USER, claimant, np.where(first[row] != NO_USER, latest, anchor))


def owned_changes(
    session_keys: pa.Table,
    result: CutResult,
    policy: Policy,
    batch_id: int,
    whole_rows: Callable[[Longs], pa.Table],
    assigned: pa.Table | None = None,
    persons: Persons = NOBODY_KNOWN,
    known: pa.Table | None = None,
) -> pa.Table:
    """One row is one session to write: cut anew or changed, and those whose owner alone is another than before.

    `session_keys`: OWNER_COLUMNS of all sessions of the anchors of the batch, before the cut; of the anchors in `known`
    (their ANCHOR_FACTS after it) only those that may have changed. `whole_rows`: those of them with these
    numbers (ascending), with all columns. `assigned`: see `as_decided`. `persons`: of the nodes that the sessions name.
    """
    session_keys = session_keys.select(OWNER_COLUMNS)
    owned = after_cut(session_keys, result)
    if known is None or not known.num_rows:
        owned = assign_owners(owned, policy, persons)
    else:
        claimant = claimants(owned, policy, persons)
        facts = facts_with(known, anchor_facts(owned, claimant, persons))
        owned = owners_from_facts(owned, claimant, facts, policy)
    if assigned is not None and assigned.num_rows:
        owned = as_decided(owned, assigned)
    kept = np.flatnonzero(is_kept(session_keys, result))
    owners, of_upserts = np.split(longs(owned["owner_node_id"]), [len(kept)])
    is_other = longs(session_keys["owner_node_id"])[kept] != owners
    others = conformed(whole_rows(kept[is_other]), SESSIONS.arrow, SESSIONS.names)
    written = pa.concat_tables([in_schema(others, SESSIONS.arrow), result.upserts])
    written = _with_owners(written, np.concatenate((owners[is_other], of_upserts)))
    place = SESSIONS.names.index("updated_batch_id")
    batch = pa.array(np.full(written.num_rows, batch_id, np.int64))
    return written.set_column(place, SESSIONS.arrow.field(place), batch)


def as_decided(sessions: pa.Table, assigned: pa.Table) -> pa.Table:
    """The same rows, with the owners that somebody has decided: of a session of `anchor_node_id` that starts between
    `start_at` and `end_at` (microseconds, both included) it is `owner_node_id`. A later row of `assigned` counts more.
    """
    anchor, start = longs(sessions["anchor_node_id"]), longs(sessions["start_at"])
    owners = longs(sessions["owner_node_id"]).copy()
    columns = ("anchor_node_id", "start_at", "end_at", "owner_node_id")
    for at, first, last, owner in zip(*(assigned[c].to_pylist() for c in columns), strict=True):
        owners[(anchor == at) & (start >= first) & (start <= last)] = owner
    return _with_owners(sessions, owners)


def _in_order(sessions: pa.Table) -> Longs:
    """Rows by anchor and start."""
    session_keys = conformed(sessions, SESSIONS.arrow, ("anchor_node_id", "start_at", "start_event_id"))
    place = places(longs(session_keys["start_at"]), whole(session_keys["start_event_id"]))
    return np.lexsort((place, longs(session_keys["anchor_node_id"])))


def _with_owners(sessions: pa.Table, owners: Longs) -> pa.Table:
    i = sessions.schema.get_field_index("owner_node_id")
    return sessions.set_column(i, sessions.schema.field(i), pa.array(owners))
