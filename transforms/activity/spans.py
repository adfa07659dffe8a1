"""Units: what sessions are cut from. A unit is one event, or one span that a session keeps in place of its events.

    events      a   a   a   a   b   a   .   b   c        a: anonymous, b: of a user, c: of the user, with an e-mail
    session     └───────────────┬───────────────┘
    spans       └─ span 1 ─────┘└─ span 2 ──┘└ 3         every aggregate is a merge of the spans'

A span begins where a session begins, and with every event that names what its session has not been named before: a
user, or another value that could be one person's own. So what is inside a span names nothing new.
Most sessions are one span, and then its aggregates are the session's: it is not stored a second time.

Units of one anchor never overlap, except for events that fall inside a span and change nothing in it but its sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables.silver import EVENTS, SESSIONS
from transforms.activity.claims import NO_USER, Claims, claims_of
from transforms.arrays.grouped import (
    EARLIEST,
    LATEST,
    Flags,
    Longs,
    codes,
    conformed,
    distinct_lists,
    flags,
    longs,
    nullable,
    places,
    whole,
)  # fmt: skip
from transforms.arrays.integers import distinct_first

EVENT_COLUMNS = (
    "tenant", "event_id", "event_type", "event_at", "platform", "user_node_id", "anchor_node_id",
    "touch_source", "touch_medium", "touch_campaign", "touch_referrer", "claims",
)  # fmt: skip
FROM_EVENT = -1
_NO_FIRST_TOUCH, _NO_LAST_TOUCH = LATEST, -1
_INSTANT = SESSIONS.arrow.field("start_at").type
_PLATFORMS = SESSIONS.arrow.field("platforms").type
_SPAN = SESSIONS.arrow.field("spans").type.value_type
SESSION_COLUMNS = ("tenant", "session_id", "anchor_node_id", "spans", "claims", *(f.name for f in _SPAN))
_TOUCH = SESSIONS.arrow.field("first_touch").type


@dataclass(frozen=True)
class Units:
    """One row: an event or a span; after `merged`, a group of them.

    `*_place`: place in the order of (instant, event id). `*_row`: row of the pools. `first_touch`, `last_touch`:
    place × number of touches + row of the touch, so that the smallest is the first. `user`: of its first event.
    `session`: row of the existing sessions that a span is from.
    """

    anchor: Longs
    start_at: Longs
    end_at: Longs
    start_place: Longs
    end_place: Longs
    start_row: Longs
    end_row: Longs
    tenant_row: Longs
    user: Longs
    event_count: Longs
    login_count: Longs
    first_authenticated_at: Longs
    last_login_at: Longs
    is_logout: Flags
    first_touch: Longs
    last_touch: Longs
    session: Longs

    def take(self, rows: Longs | Flags) -> Units:
        """The units of these rows."""
        return Units(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def merged(self, starts: Longs, is_head: Flags) -> Units:
        """One row per group of neighbouring rows. Heads are in order; the others lie inside the head before them."""
        if len(starts) == 0:
            return self.take(starts)
        first = self.take(starts)
        last = np.maximum.reduceat(np.where(is_head, np.arange(len(is_head)), -1), starts)
        return Units(
            anchor=first.anchor,
            start_at=first.start_at,
            end_at=self.end_at[last],
            start_place=first.start_place,
            end_place=self.end_place[last],
            start_row=first.start_row,
            end_row=self.end_row[last],
            tenant_row=first.tenant_row,
            user=first.user,
            event_count=np.add.reduceat(self.event_count, starts),
            login_count=np.add.reduceat(self.login_count, starts),
            first_authenticated_at=np.minimum.reduceat(self.first_authenticated_at, starts),
            last_login_at=np.maximum.reduceat(self.last_login_at, starts),
            is_logout=self.is_logout[last],
            first_touch=np.minimum.reduceat(self.first_touch, starts),
            last_touch=np.maximum.reduceat(self.last_touch, starts),
            session=first.session,
        )


@dataclass(frozen=True)
class Pools:
    """The strings and structs that units point to, which platforms each unit was seen on, and what it claims."""

    tenants: pa.Array
    event_ids: pa.Array
    touches: pa.Array
    platforms: pa.Array
    platform_unit: Longs
    platform_code: Longs
    claims: Claims
    first_span: Longs

    def first_touches(self, of: Units) -> pa.Array:
        """The first touch of each unit, null where it has none."""
        return self._touches(of.first_touch, _NO_FIRST_TOUCH)

    def last_touches(self, of: Units) -> pa.Array:
        """The last touch of each unit, null where it has none."""
        return self._touches(of.last_touch, _NO_LAST_TOUCH)

    def _touches(self, encoded: Longs, missing: int) -> pa.Array:
        is_missing = encoded == missing
        rows = np.where(is_missing, 0, encoded % max(1, len(self.touches)))
        return self.touches.take(pa.array(rows, mask=is_missing))

    def platforms_of(self, group_of_unit: Longs, groups: int) -> pa.Array:
        """Platforms per group; a unit of group -1 is in none."""
        group = group_of_unit[self.platform_unit]
        is_in = group >= 0
        return distinct_lists(group[is_in], self.platform_code[is_in], groups, self.platforms, _PLATFORMS)


def units_of(events: pa.Table, sessions: pa.Table, unique: tuple[str, ...] = ()) -> tuple[Units, Pools]:
    """The events and then the spans of the sessions as units, not ordered yet. `unique`: see `unique_namespaces`."""
    events = conformed(events, EVENTS.arrow, EVENT_COLUMNS)
    sessions = conformed(sessions, SESSIONS.arrow, SESSION_COLUMNS)
    n = events.num_rows
    session, spans = _spans_of(sessions)
    span = dict(zip((f.name for f in _SPAN), spans.flatten(), strict=True))
    m = len(spans)

    at = longs(events["event_at"])
    event_type = whole(events["event_type"])
    user = longs(events["user_node_id"], NO_USER)
    is_login = flags(pc.equal(event_type, "login")) & (user != NO_USER)
    touched, event_touches = _event_touches(events)
    first, first_touches = _span_touches(span["first_touch"])
    last, last_touches = _span_touches(span["last_touch"])
    touches = pa.concat_arrays([event_touches, first_touches, last_touches])
    touch_at, touch_id = touches.flatten()[:2]

    start_at, end_at = longs(span["start_at"]), longs(span["end_at"])
    event_ids = pa.concat_arrays([whole(events["event_id"]), span["start_event_id"], span["end_event_id"]])
    place = places(
        np.concatenate((at, start_at, end_at, longs(touch_at))), pa.concat_arrays([event_ids, touch_id])
    )
    event_place, start_place, end_place, touch_place = np.split(place, np.cumsum((n, m, m)))
    encoded = touch_place * max(1, len(touches)) + np.arange(len(touches))
    event_touch, first_touch, last_touch = np.split(encoded, np.cumsum((len(touched), len(first))))

    def both(of_events: Longs, of_spans: Longs) -> Longs:
        return np.concatenate((of_events, of_spans))

    def touch_of_each(rows: Longs, of_span_touch: Longs, missing: int) -> Longs:
        of_units = np.full(n + m, missing, np.int64)
        of_units[touched], of_units[n + rows] = event_touch, of_span_touch
        return of_units

    units = Units(
        anchor=both(longs(events["anchor_node_id"]), longs(sessions["anchor_node_id"])[session]),
        start_at=both(at, start_at),
        end_at=both(at, end_at),
        start_place=both(event_place, start_place),
        end_place=both(event_place, end_place),
        start_row=np.arange(n + m),
        end_row=both(np.arange(n), n + m + np.arange(m)),
        tenant_row=both(np.arange(n), n + session),
        user=both(user, longs(span["user_node_id"], NO_USER)),
        event_count=both(np.ones(n, np.int64), longs(span["event_count"])),
        login_count=both(is_login.astype(np.int64), longs(span["login_event_count"])),
        first_authenticated_at=both(
            np.where(user == NO_USER, LATEST, at), longs(span["first_authenticated_at"], LATEST)
        ),
        last_login_at=both(np.where(is_login, at, EARLIEST), longs(span["last_login_event_at"], EARLIEST)),
        is_logout=np.concatenate((flags(pc.equal(event_type, "logout")), flags(span["is_ended_by_logout"]))),
        first_touch=touch_of_each(first, first_touch, _NO_FIRST_TOUCH),
        last_touch=touch_of_each(last, last_touch, _NO_LAST_TOUCH),
        session=both(np.full(n, FROM_EVENT), session),
    )
    used = span["platforms"]
    code, platforms = codes(pa.concat_arrays([whole(events["platform"]), used.flatten()]))
    unit = both(np.arange(n), n + np.repeat(np.arange(m), longs(pc.list_value_length(used))))
    first_span = n + distinct_first(session)[1]
    pools = Pools(
        tenants=pa.concat_arrays([whole(events["tenant"]), whole(sessions["tenant"])]),
        event_ids=event_ids,
        touches=touches,
        platforms=platforms,
        platform_unit=unit[code >= 0],
        platform_code=code[code >= 0],
        claims=claims_of(events["claims"], sessions["claims"], first_span, unique),
        first_span=first_span,
    )
    return units, pools


def span_counts(sessions: pa.Table) -> Longs:
    """How many spans each session has, itself included where it is the only one."""
    return np.maximum(longs(pc.list_value_length(whole(sessions["spans"]))), 1)


def _spans_of(sessions: pa.Table) -> tuple[Longs, pa.Array]:
    """(row of its session, span) of every span."""
    lists = whole(sessions["spans"])
    stored = longs(pc.list_value_length(lists))
    whole_ones = np.flatnonzero(stored == 0)
    columns = [whole(sessions[f.name]).take(pa.array(whole_ones)) for f in _SPAN]
    session = np.concatenate((np.repeat(np.arange(len(stored)), stored), whole_ones))
    spans = [lists.flatten(), pa.StructArray.from_arrays(columns, fields=list(_SPAN))]
    return session, pa.concat_arrays(spans)


def stored_spans(spans: Units, pools: Pools, platforms: pa.Array, session_starts: Longs) -> pa.Array:
    """The list of each session's spans; `session_starts`: the first span of each."""
    count = np.diff(np.append(session_starts, len(platforms)))
    rows = np.flatnonzero(np.repeat(count > 1, count))
    ends = pa.array(np.append(0, np.cumsum(np.where(count > 1, count, 0))), pa.int32())
    taken = spans.take(rows)
    columns = {
        "user_node_id": nullable(taken.user, pa.int64(), NO_USER),
        "platforms": platforms.take(pa.array(rows)),
        **measures(taken, pools),
    }
    values = pa.StructArray.from_arrays([columns[f.name] for f in _SPAN], fields=list(_SPAN))
    return pa.ListArray.from_arrays(ends, values, type=SESSIONS.arrow.field("spans").type)


def _event_touches(events: pa.Table) -> tuple[Longs, pa.Array]:
    """Rows of the events that have a campaign or a referrer, and these as touches."""
    columns = [whole(events[f"touch_{name}"]) for name in ("source", "medium", "campaign", "referrer")]
    rows = np.flatnonzero(np.logical_or.reduce([flags(column.is_valid()) for column in columns]))
    parts = [whole(events["event_at"]), whole(events["event_id"]), *columns]
    taken = [column.take(pa.array(rows)) for column in parts]
    return rows, pa.StructArray.from_arrays(taken, fields=list(_TOUCH))


def _span_touches(touches: pa.Array) -> tuple[Longs, pa.Array]:
    """Rows that have a touch, and these touches."""
    rows = np.flatnonzero(flags(touches.is_valid()))
    return rows, touches.take(pa.array(rows))


def measures(units: Units, pools: Pools) -> dict[str, pa.Array]:
    """The columns that spans and sessions have in common, apart from user and platforms."""
    return {
        "start_at": pa.array(units.start_at, _INSTANT),
        "end_at": pa.array(units.end_at, _INSTANT),
        "start_event_id": pools.event_ids.take(pa.array(units.start_row)),
        "end_event_id": pools.event_ids.take(pa.array(units.end_row)),
        "event_count": pa.array(units.event_count),
        "login_event_count": pa.array(units.login_count),
        "first_authenticated_at": nullable(units.first_authenticated_at, _INSTANT, LATEST),
        "last_login_event_at": nullable(units.last_login_at, _INSTANT, EARLIEST),
        "is_ended_by_logout": pa.array(units.is_logout),
        "first_touch": pools.first_touches(units),
        "last_touch": pools.last_touches(units),
    }
