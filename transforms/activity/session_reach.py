"""Reach: which existing sessions a batch's events can change, so that no others have to be read.

Cutting runs forward in time, and what it carries on from one unit to the next is the last event and the session's
user. So a new event can change
- a session that it falls into;
- the session before it, if it lies within the gap: it may be continued;
- the session after it, or after one that it falls into, within the gap: it may be joined, or lose its beginning.

And, where users alone distinguish people, no further. A session S that no new event falls into ends as it
always did: the same last event, and if it has a user, the same user. If it has none, it may gain one from what is
joined to it, but what follows S was separated from it by a gap or a logout (a user never cuts an anonymous session),
which still separate.

    [A────────A]  [a──a──B]  [A──A]       new logout in the first session: its end becomes anonymous and runs on
        ^logout                           into the second, which ends with B as ever; the third stays untouched

A session with claims may end otherwise than it did: joined to user 1, the e-mail a of S is user 1's, and what user 1
did next with e-mail b is no longer somebody else's. So from such a session on those are taken that no gap separates
from it, up to the first one without claims.

    [a]  [1+b]  [2]        new event of user 1 before a: all but the last are one session

Of each run of neighbours all between the first and the last such session are taken, because a session that is left
out separates those around it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from conf.tables.silver import EVENTS, SESSIONS
from transforms.arrays.grouped import Longs, changes, conformed, flags, longs, places, previous, whole

REACH_COLUMNS = ("anchor_node_id", "start_at", "start_event_id", "end_at", "end_event_id", "claims")


def closure(sessions: pa.Table, events: pa.Table, gap_us: int) -> Longs:
    """Row numbers, ascending, of those of `sessions` (all of the events' anchors) that `events` may change."""
    session_keys = conformed(sessions, SESSIONS.arrow, REACH_COLUMNS)
    new = conformed(events, EVENTS.arrow, ("anchor_node_id", "event_at", "event_id"))
    n, m = new.num_rows, session_keys.num_rows
    if n == 0 or m == 0:
        return np.zeros(0, np.int64)
    event_at = longs(new["event_at"])
    start_at = np.concatenate((event_at, longs(session_keys["start_at"])))
    end_at = np.concatenate((event_at, longs(session_keys["end_at"])))
    anchor = np.concatenate((longs(new["anchor_node_id"]), longs(session_keys["anchor_node_id"])))
    ids = [whole(new["event_id"]), whole(session_keys["start_event_id"]), whole(session_keys["end_event_id"])]
    place = places(np.concatenate((start_at, end_at[n:])), pa.concat_arrays(ids))
    end_place = np.concatenate((place[:n], place[n + m :]))

    order = np.lexsort((np.arange(n + m) < n, place[: n + m], anchor))
    is_session = order >= n
    last = previous(is_session)
    holder = order[last]
    is_inside = (
        ~is_session & (last >= 0) & (anchor[holder] == anchor[order]) & (place[order] <= end_place[holder])
    )
    is_touched = order < n
    is_touched[last[is_inside]] = True

    keep = ~is_inside
    order, is_session, is_touched = order[keep], is_session[keep], is_touched[keep]
    separated = changes(anchor[order])
    separated[1:] |= start_at[order][1:] - end_at[order][:-1] > gap_us
    wanted = is_touched.copy()
    wanted[1:] |= is_touched[:-1] & ~separated[1:]
    wanted[:-1] |= ~is_session[1:] & ~separated[1:]  # before a touched session nothing changes
    if session_keys["claims"].null_count < m:
        has_claims = np.concatenate((np.zeros(n, np.bool_), flags(whole(session_keys["claims"]).is_valid())))[
            order
        ]
        is_reached = ~separated
        is_reached[1:] &= has_claims[:-1]
        wanted |= previous(wanted) >= previous(~is_reached)

    run = np.cumsum(separated) - 1
    starts = np.flatnonzero(separated)
    row = np.arange(len(order))
    first = np.minimum.reduceat(np.where(wanted, row, len(row)), starts)[run]
    final = np.maximum.reduceat(np.where(wanted, row, -1), starts)[run]
    return np.sort(order[is_session & (first <= row) & (row <= final)] - n)


def apart(windows: pa.Table, pause_us: int, parts: int = 16) -> list[pa.Table]:
    """The windows in at most `parts` tables with a pause of more than `pause_us` between any two of them.

    For a store that reads from the earliest start to the latest end of what it is asked for: an event of 1990 and one
    of 2099 must not make it read what lies between.
    """
    start_at, end_at = longs(windows["start_at"]), longs(windows["end_at"])
    order = np.argsort(start_at, kind="stable")
    pause = start_at[order][1:] - np.maximum.accumulate(end_at[order])[:-1]
    widest = np.argsort(-pause, kind="stable")[: parts - 1]
    cuts = np.sort(widest[pause[widest] > pause_us]) + 1
    return [windows.take(pa.array(rows)) for rows in np.split(order, cuts) if len(rows)]
