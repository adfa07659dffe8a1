"""The facts that decide an anchor's anonymous sessions, updated without reading all of its sessions.

Facts are mergeable: who was first named at an anchor, and when somebody else was. Events are only added, so
what is known of all sessions and what is seen of those that a batch cuts anew give the facts after it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from conf.policy import Policy
from transforms.activity.claims import NO_USER
from transforms.activity.ownership import ANCHOR_FACTS, Persons
from transforms.activity.windows import Windows
from transforms.arrays.grouped import EARLIEST, LATEST, Flags, Longs, longs, nullable
from transforms.arrays.integers import is_in, places_in

_AT = ANCHOR_FACTS.field("first_claimant_at").type
_MANY = 2


def facts_after(
    known: pa.Table, before: pa.Table, after: pa.Table, persons: Persons
) -> tuple[pa.Table, Flags]:
    """(facts, is_sure), one row per row of `known`, which is ascending.

    known: facts of all sessions of the anchors, before the cut. before, after: those of some of their sessions, before
    it and after. Where it is not sure, all sessions have to be looked at: a session that the known facts rest on is not
    there any more as it was, or two came at one instant. Of more than two claimants it counts two.
    """
    old, was, new = _Facts(known), _Facts(before, known), _Facts(after, known)
    is_new_first = new.first_at < old.first_at
    is_one = persons.of(new.first) == persons.of(old.first)
    is_kept = ~was.has(old.first_at) | ((new.first_at == old.first_at) & (new.first == old.first))
    is_kept |= is_new_first & (is_one | (new.second_at <= old.first_at))
    is_kept &= (
        ~was.has(old.second_at)
        | (new.second_at == old.second_at)
        | (~is_one & (new.first_at == old.second_at))
    )
    early = [np.where(is_new_first, n, o) for n, o in zip(new.columns, old.columns, strict=True)]
    late = [np.where(is_new_first, o, n) for n, o in zip(new.columns, old.columns, strict=True)]
    second_at = np.minimum(early[2], np.where(is_one, late[2], late[1]))
    first, first_at = early[0], early[1]
    is_tie = (new.first_at == old.first_at) & (first_at != LATEST) & (new.first != old.first)
    count = (first != NO_USER).astype(np.int64) + (second_at != LATEST)
    columns = [
        known["anchor_node_id"],
        pa.array(np.minimum(count, _MANY)),
        nullable(first, pa.int64(), NO_USER),
        nullable(first_at, _AT, LATEST),
        nullable(second_at, _AT, LATEST),
    ]
    return pa.Table.from_arrays(columns, schema=ANCHOR_FACTS), is_kept & ~is_tie


class _Facts:
    """Facts as arrays, in the order of the anchors of `like`; of an anchor without any nobody is known."""

    def __init__(self, facts: pa.Table, like: pa.Table | None = None) -> None:
        first = longs(facts["first_claimant_node_id"], NO_USER)
        first_at, second_at = (longs(facts[c], LATEST) for c in ("first_claimant_at", "second_claimant_at"))
        if like is not None:
            anchors, mine = longs(like["anchor_node_id"]), longs(facts["anchor_node_id"])
            is_there = is_in(mine, anchors)
            rows = places_in(anchors, mine[is_there])
            first, first_at, second_at = (
                _spread(values[is_there], rows, len(anchors), missing)
                for values, missing in ((first, NO_USER), (first_at, LATEST), (second_at, LATEST))
            )
        self.first, self.first_at, self.second_at = first, first_at, second_at
        self.columns = (first, first_at, second_at)

    def has(self, at: Longs) -> Flags:
        """Whether its first or its second claimant came at that instant."""
        return (at != LATEST) & ((self.first_at == at) | (self.second_at == at))


def _spread(values: Longs, rows: Longs, count: int, missing: int) -> Longs:
    out = np.full(count, missing, np.int64)
    out[rows] = values
    return out


def judged_otherwise(before: pa.Table, after: pa.Table, policy: Policy) -> Windows:
    """Where the anonymous sessions of these anchors (the same in both, ascending) start that may have other owners now
    than before."""
    old, new = _Facts(before), _Facts(after)
    was_shared, is_shared = old.second_at != LATEST, new.second_at != LATEST
    low, high = np.full(len(old.first), LATEST), np.full(len(old.first), EARLIEST)
    rule = policy.anonymous_on_shared_device
    if rule != "device_profile":
        is_all = was_shared != is_shared
        low[is_all], high[is_all] = EARLIEST, LATEST
    if rule == "until_shared":
        both = was_shared & is_shared
        is_other = both & (old.first != new.first)
        is_moved = both & (old.second_at != new.second_at)
        high = np.where(is_other | is_moved, np.maximum(old.second_at, new.second_at), high)
        low = np.where(is_moved, np.minimum(old.second_at, new.second_at), low)
        low[is_other] = EARLIEST
    elsewhere = low <= high
    return Windows(longs(after["anchor_node_id"]), low, high).select(elsewhere)
