"""When everything happens: sessions laid out on their anchors, and one row of columns per planned event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.generator.itinerary import ACCOUNT, APP, NEVER, WORKSTATION, Itinerary
from pipelines.generator.population import GeneratorError
from pipelines.generator.world import (
    BURST_LENGTH,
    BURST_START,
    DAY,
    HOUR,
    LONGEST_GAP_WITHIN_A_SESSION,
    MINUTE,
    PERIOD,
    PERIOD_DAYS,
    SECOND,
    SHORTEST_GAP_BETWEEN_SESSIONS,
)

BROWSE, LOGIN, LOGOUT, IDENTIFY = range(4)
ISO, ISO_OFFSET, EPOCH_MS, EPOCH_S = range(4)
NO_JUNK, JUNK_USER, JUNK_COOKIE = range(3)

# Activity by hour of day, in UTC: quiet nights, busy evenings.
HOURLY_ACTIVITY = (1, 1, 1, 1, 1, 2, 3, 5, 6, 6, 6, 6, 7, 6, 6, 6, 7, 8, 9, 10, 10, 8, 5, 2)
BURST_SHARE_OF_LONE_SESSIONS = 0.03
WHOLE_SECONDS_SHARE = 0.08


@dataclass(frozen=True)
class Sessions:
    """One entry per planned session, in the order of anchors and, within one, of time."""

    anchor: np.ndarray
    person: np.ndarray
    platform: np.ndarray
    length: np.ndarray
    is_authenticated: np.ndarray
    login_at: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Events:
    """One entry per planned event; times are milliseconds from the start of the period."""

    session: np.ndarray
    anchor: np.ndarray
    person: np.ndarray
    platform: np.ndarray
    is_first: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    has_user: np.ndarray
    has_email: np.ndarray
    has_phone: np.ndarray
    email_is_untidy: np.ndarray
    junk: np.ndarray
    time_form: np.ndarray
    dice: np.ndarray

    def __len__(self) -> int:
        return len(self.time)


def lay_out(numbers: np.random.Generator, plan: Itinerary) -> tuple[Sessions, Events]:
    """Place the planned sessions in time. Returns one row per session and one row per event."""
    order = np.argsort(np.array(plan.anchor), kind="stable")

    def column(values: list) -> np.ndarray:
        return np.array(values)[order]

    anchor, length = column(plan.anchor), column(plan.length)
    signed_in_from, login_at = column(plan.signed_in_from), column(plan.login_at)
    has_logout, identify_at = column(plan.has_logout), column(plan.identify_at)
    person, platform = column(plan.person), column(plan.platform)
    at_kiosk = np.array(plan.anchor_is_kiosk)[anchor]
    whole_seconds = (numbers.random(len(anchor)) < WHOLE_SECONDS_SHARE) & (length <= 200)

    session = np.repeat(np.arange(len(anchor)), length)
    opening = np.cumsum(length) - length
    position = np.arange(len(session)) - opening[session]
    within = _times_within_sessions(numbers, length, opening, session, at_kiosk, whole_seconds)
    duration = within[opening + length - 1]
    start = _session_starts(numbers, anchor, person, duration, signed_in_from, has_logout, whole_seconds)

    is_login = position == login_at[session]
    is_identify = position == identify_at[session]
    is_last = position == length[session] - 1
    is_logout = has_logout[session] & is_last
    entered = position == signed_in_from[session]
    staying = column(plan.stays_signed_in)[session] & (position >= signed_in_from[session])
    kind_of_anchor = np.array(plan.anchor_kind)[anchor][session]
    has_user = is_login | is_identify | is_logout | entered | staying | (kind_of_anchor == ACCOUNT)
    kind = np.select([is_login, is_logout, is_identify], [LOGIN, LOGOUT, IDENTIFY], BROWSE)
    has_email = column(plan.shows_email)[session] | is_identify
    count = len(session)
    time = start[session] + within

    junk_draw = numbers.random(count)
    junk = np.where(junk_draw < 0.015, JUNK_USER, NO_JUNK)
    has_device_alone = np.isin(kind_of_anchor, (APP, WORKSTATION))
    junk = np.where((junk_draw >= 0.015) & (junk_draw < 0.035) & has_device_alone, JUNK_COOKIE, junk)
    form_draw = numbers.random(count)
    time_form = np.select([form_draw < 0.84, form_draw < 0.93], [ISO, ISO_OFFSET], EPOCH_MS)
    time_form = np.where((time % SECOND == 0) & (form_draw > 0.6), EPOCH_S, time_form)

    sessions = Sessions(anchor, person, platform, length, signed_in_from != NEVER, login_at, start)
    events = Events(
        session=session,
        anchor=anchor[session],
        person=person[session],
        platform=platform[session],
        is_first=position == 0,
        time=time,
        kind=kind,
        has_user=has_user,
        has_email=has_email,
        has_phone=is_identify & (person[session] % 5 < 2),
        email_is_untidy=has_email & (numbers.random(count) < 0.08),
        junk=np.where(has_user & (junk == JUNK_USER), NO_JUNK, junk),
        time_form=time_form,
        dice=numbers.integers(0, 1 << 31, size=count),
    )
    return sessions, events


def _times_within_sessions(numbers, length, opening, session, at_kiosk, whole_seconds) -> np.ndarray:
    """Milliseconds since the session's start; long sessions are dense, so that they stay below an hour."""
    longest = np.where(at_kiosk, 5 * MINUTE, 30 * MINUTE)
    pace = np.minimum(np.exp(numbers.normal(3.6, 1.0, size=len(length))) * SECOND, longest / length)
    gap = (pace[session] * numbers.uniform(0.2, 1.8, size=len(session))).astype(np.int64)
    gap = np.where(whole_seconds[session], np.maximum(1, gap // SECOND) * SECOND, np.maximum(1, gap))
    gap = np.minimum(gap, LONGEST_GAP_WITHIN_A_SESSION)
    gap[opening] = 0
    elapsed = np.cumsum(gap)
    return elapsed - elapsed[opening][session]


def _session_starts(
    numbers, anchor, person, duration, signed_in_from, has_logout, whole_seconds
) -> np.ndarray:
    """Starts that leave the owed pause after each session and spread what is left of the period at random.

    |--pause from the free time--[session][owed]--free time--[session][owed][session]-- ...
    """
    count = len(anchor)
    opens_anchor = np.r_[True, anchor[1:] != anchor[:-1]]
    next_on_anchor = np.r_[~opens_anchor[1:], False]
    next_is_another_user = np.r_[(person[1:] != person[:-1]) & (signed_in_from[1:] == 0), False]
    switch = next_on_anchor & next_is_another_user & (signed_in_from != NEVER) & (numbers.random(count) < 0.3)
    may_follow_soon = has_logout | switch
    soon = numbers.integers(5 * SECOND, 4 * MINUTE, size=count)
    owed = duration + np.where(may_follow_soon, soon, SHORTEST_GAP_BETWEEN_SESSIONS)

    first = np.flatnonzero(opens_anchor)
    rank = np.cumsum(opens_anchor) - 1
    owed_before = np.cumsum(owed) - owed
    owed_before -= owed_before[first][rank]
    free = PERIOD - np.add.reduceat(owed, first)
    if free.min() < 0:
        raise GeneratorError("events: too many for so few persons; give more persons, or fewer events")

    place = numbers.random(count)
    place = place[np.lexsort((place, rank))]
    glued = np.r_[False, may_follow_soon[:-1]] & ~opens_anchor & (numbers.random(count) < 0.6)
    place = place[np.maximum.accumulate(np.where(glued, 0, np.arange(count)))]
    start = (free[rank] * _by_hour_of_day(place)).astype(np.int64) + owed_before

    is_lone = opens_anchor & ~next_on_anchor
    in_burst = is_lone & (numbers.random(count) < BURST_SHARE_OF_LONE_SESSIONS)
    start = np.where(in_burst, BURST_START + numbers.integers(0, BURST_LENGTH, size=count), start)
    return np.where(whole_seconds, start // SECOND * SECOND, start)


def _by_hour_of_day(place: np.ndarray) -> np.ndarray:
    """Bends evenly spread places (0 to 1, order kept) so that they crowd into the busy hours."""
    activity = np.cumsum(np.tile(np.array(HOURLY_ACTIVITY, dtype=float), PERIOD_DAYS))
    hours = np.arange(PERIOD_DAYS * DAY // HOUR + 1)
    return np.interp(place, np.r_[0.0, activity / activity[-1]], hours / hours[-1])
