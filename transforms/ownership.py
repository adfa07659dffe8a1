"""Owners: whose node a session is counted to.

A session with a user belongs to that user. One without belongs to its anchor while the anchor has at most one user
over all its sessions, and so to whoever owns the anchor. At an anchor with two users or more, the policy decides
(`anonymous_on_shared_device`):
- until_shared: the first user's if it starts before the second user's first authenticated event; nobody's afterwards.
- session_bounded: nobody's. Only what is in a session says whose it is, whenever the anchor came to be shared.
- last_login: the user of the last session with a user before it; the first user's if there was none.
- device_profile: the anchor's, shared or not.
Nobody's sessions go to the anchor's unclaimed node, minus the anchor's, and to no person by guess.

    user          A           A           B
    anonymous  a     a     a     a     a     a        until_shared: A  A  A  A  -anchor  -anchor
                                      └ starts after B's first authenticated event

Users that an `alias` event or a manual merge has declared to be one (`joined`) are one user here too.
Users of an anchor are in the order of their first sessions, so of their first authenticated events; two at the same
instant in the order of their event ids. Never in the order of node ids, which are keyed and differ between lakes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.tables.silver import SESSIONS
from transforms.grouped import (
    LATEST,
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
from transforms.identity.joined import NOTHING_JOINED, Joined
from transforms.integers import distinct, is_in, places_in
from transforms.sessions import CutResult, after_cut, is_kept
from transforms.spans import NO_USER

# What is asked of a session to say whose it is.
OWNER_COLUMNS = (
    "session_id", "anchor_node_id", "start_at", "start_event_id", "user_node_id", "owner_node_id",
    "first_authenticated_at",
)  # fmt: skip
_AT = pa.timestamp("us", tz="UTC")
# One row is one anchor: how many users it has had, the first one, and when he and the second one were first
# authenticated.
ANCHOR_FACTS = pa.schema(
    [
        ("anchor_node_id", pa.int64()),
        ("user_count", pa.int64()),
        ("first_user_node_id", pa.int64()),
        ("first_user_at", _AT),
        ("second_user_at", _AT),
    ]
)


def unclaimed(anchor_node_id: Longs) -> Longs:
    """The node of an anchor's sessions that are nobody's."""
    return -anchor_node_id


def needs_all_sessions(policy: Policy) -> bool:
    """Whether owners can only be judged with all sessions of the anchor at hand, because facts do not say enough."""
    return policy.anonymous_on_shared_device == "last_login"


def anchor_facts(sessions: pa.Table, joined: Joined = NOTHING_JOINED) -> pa.Table:
    """One row is one anchor, ascending; `sessions` holds all of its sessions."""
    anchors = distinct(longs(sessions["anchor_node_id"]))
    used = sessions.filter(pc.is_valid(sessions["user_node_id"]))
    anchor, user = longs(used["anchor_node_id"]), longs(used["user_node_id"])
    at, order = longs(used["first_authenticated_at"]), _in_order(used)
    anchor, user, at = anchor[order], user[order], at[order]

    row = places_in(anchors, anchor)
    starts = np.flatnonzero(changes(anchor))
    first_user = np.full(len(anchors), NO_USER, np.int64)
    first_user[row[starts]] = user[starts]
    first_at = np.full(len(anchors), LATEST, np.int64)
    first_at[row[starts]] = at[starts]
    label = joined.of(user)
    other = np.flatnonzero(label != joined.of(first_user)[row])
    second_at = np.full(len(anchors), LATEST, np.int64)
    second = other[changes(anchor[other])] if len(other) else other
    second_at[row[second]] = at[second]

    by_user = np.lexsort((label, row))
    of_one_user = row[by_user][changes(row[by_user], label[by_user])]
    columns = [
        pa.array(anchors),
        pa.array(np.bincount(of_one_user, minlength=len(anchors)).astype(np.int64)),
        nullable(first_user, pa.int64(), NO_USER),
        nullable(first_at, _AT, LATEST),
        nullable(second_at, _AT, LATEST),
    ]
    return pa.Table.from_arrays(columns, schema=ANCHOR_FACTS)


def facts_with(known: pa.Table, others: pa.Table) -> pa.Table:
    """The facts `known`, and those of other anchors."""
    is_other = ~is_in(longs(others["anchor_node_id"]), longs(known["anchor_node_id"]))
    return pa.concat_tables([known, others.filter(pa.array(is_other))])


def _judging(facts: pa.Table) -> tuple[Longs, Longs, Longs]:
    """Anchors ascending, and what decides about each: the first user and the second's instant where it is shared."""
    facts = facts.sort_by("anchor_node_id")
    is_shared = longs(facts["user_count"]) > 1
    first, second = longs(facts["first_user_node_id"], NO_USER), longs(facts["second_user_at"], LATEST)
    return (
        longs(facts["anchor_node_id"]),
        np.where(is_shared, first, NO_USER),
        np.where(is_shared, second, LATEST),
    )


def assign_owners(sessions: pa.Table, policy: Policy, joined: Joined = NOTHING_JOINED) -> pa.Table:
    """The same rows with their owner_node_id; `sessions` holds all sessions of the anchors to be judged."""
    facts = anchor_facts(sessions, joined)
    if needs_all_sessions(policy):
        return _with_owners(sessions, _last_login_owners(sessions, facts))
    return owners_from_facts(sessions, facts, policy)


def owners_from_facts(sessions: pa.Table, facts: pa.Table, policy: Policy) -> pa.Table:
    """The same rows with their owner_node_id, from the facts of (at least) their anchors."""
    if needs_all_sessions(policy):
        raise ValueError(
            "anonymous_on_shared_device: last_login cannot be judged from facts; call assign_owners with all sessions "
            "of the anchors"
        )
    if sessions.num_rows == 0:
        return sessions
    anchor, user = longs(sessions["anchor_node_id"]), longs(sessions["user_node_id"], NO_USER)
    known, first_user, second_at = _judging(facts)
    row = np.minimum(places_in(known, anchor), len(known) - 1)
    if len(known) == 0 or (known[row] != anchor).any():
        raise ValueError(
            "sessions of anchors without facts; take the facts from all sessions of all their anchors"
        )
    is_shared = first_user[row] != NO_USER
    rule = policy.anonymous_on_shared_device
    if rule == "until_shared":
        is_before = longs(sessions["start_at"]) < second_at[row]
        shared = np.where(is_before, first_user[row], unclaimed(anchor))
    elif rule == "session_bounded":
        shared = unclaimed(anchor)
    else:
        shared = anchor
    return _with_owners(sessions, np.where(user != NO_USER, user, np.where(is_shared, shared, anchor)))


def _last_login_owners(sessions: pa.Table, facts: pa.Table) -> Longs:
    order = _in_order(sessions)
    anchor = longs(sessions["anchor_node_id"])
    user = longs(sessions["user_node_id"], NO_USER)
    _, first_user, _ = _judging(facts)
    row = places_in(longs(facts["anchor_node_id"]), anchor)
    in_order, here = user[order], anchor[order]
    last = previous(in_order != NO_USER)
    is_here = (last >= 0) & (here[last] == here)
    latest = np.empty(len(order), np.int64)
    latest[order] = np.where(is_here, in_order[last], first_user[row][order])
    return np.where(user != NO_USER, user, np.where(first_user[row] != NO_USER, latest, anchor))


def owned_changes(
    heads: pa.Table,
    result: CutResult,
    policy: Policy,
    batch_id: int,
    whole_rows: Callable[[Longs], pa.Table],
    assigned: pa.Table | None = None,
    joined: Joined = NOTHING_JOINED,
    known: pa.Table | None = None,
) -> pa.Table:
    """One row is one session to write: cut anew or changed, and those whose owner alone is another than before.

    `heads`: OWNER_COLUMNS of all sessions of the anchors of the batch, before the cut; of the anchors in `known` (their
    ANCHOR_FACTS after it) only those that may have changed. `whole_rows`: those of them with these numbers (ascending),
    with all columns. `assigned`: see `as_decided`.
    """
    heads = heads.select(OWNER_COLUMNS)
    owned = after_cut(heads, result)
    if known is None or not known.num_rows:
        owned = assign_owners(owned, policy, joined)
    else:
        owned = owners_from_facts(owned, facts_with(known, anchor_facts(owned, joined)), policy)
    if assigned is not None and assigned.num_rows:
        owned = as_decided(owned, assigned)
    kept = np.flatnonzero(is_kept(heads, result))
    owners, of_upserts = np.split(longs(owned["owner_node_id"]), [len(kept)])
    is_other = longs(heads["owner_node_id"])[kept] != owners
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
    heads = conformed(sessions, SESSIONS.arrow, ("anchor_node_id", "start_at", "start_event_id"))
    place = places(longs(heads["start_at"]), whole(heads["start_event_id"]))
    return np.lexsort((place, longs(heads["anchor_node_id"])))


def _with_owners(sessions: pa.Table, owners: Longs) -> pa.Table:
    i = sessions.schema.get_field_index("owner_node_id")
    return sessions.set_column(i, sessions.schema.field(i), pa.array(owners))
