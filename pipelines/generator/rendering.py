"""One planned event as one line of JSON, in any source format.

A line is a function of the plan alone, so an event rendered twice is the same line: a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from pipelines.generator.anchors import Anchors, uuid_of
from pipelines.generator.population import Population
from pipelines.generator.timetable import (
    BROWSE,
    EPOCH_MS,
    EPOCH_S,
    ISO,
    JUNK_COOKIE,
    JUNK_USER,
    NO_JUNK,
    Events,
)
from pipelines.generator.vocabulary import AGENTS, CAMPAIGNS, REFERRERS, VARIANTS, Action, members
from pipelines.generator.world import (
    AI_AGENT,
    DAY,
    HOUR,
    JUNK_COOKIE_ID,
    JUNK_USER_IDS,
    MINUTE,
    MOBILE,
    PERIOD_DAYS,
    PERIOD_START,
    PERIOD_START_MS,
    PLATFORMS,
    SECOND,
    TENANT,
)

DATES = [(PERIOD_START + timedelta(days=day)).strftime("%Y-%m-%dT") for day in range(-1, PERIOD_DAYS + 2)]
CLOCK = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}." for s in range(86_400)]
OFFSETS = (("+01:00", HOUR), ("-05:00", -5 * HOUR), ("+05:30", 5 * HOUR + 30 * MINUTE), ("+00:00", 0))


class Facts(NamedTuple):
    """The parts of a line before a source format puts them together; each is the inside of a JSON object."""

    event_id: str
    action: Action
    timestamp: str | None
    platform: str
    identifiers: str
    context: str
    campaign: int | None
    referrer: str
    agent: str
    session: int | None


def render_native(facts: Facts) -> str:
    """One event as a JSON line in the native format."""
    context = facts.context
    if facts.campaign is not None:
        context += f",{NATIVE_CAMPAIGNS[facts.campaign]}"
    if facts.referrer:
        context += f',"page":{{"referrer":"{facts.referrer}"}}'
    timestamp = "" if facts.timestamp is None else f'"timestamp":{facts.timestamp},'
    actor = f'"actor":{{"agent_id":"{facts.agent}"}},' if facts.agent else ""
    return (
        f'{{"event_id":"{facts.event_id}",{facts.action.heading},{timestamp}"platform":"{facts.platform}",'
        f'"identifiers":{{{facts.identifiers}}},{actor}'
        f'"properties":{{{facts.action.properties}}},"context":{{{context}}}}}'
    )


def render_flat(facts: Facts) -> str:
    """One event as a JSON line with identifiers in columns of their own."""
    campaign = "" if facts.campaign is None else f",{FLAT_CAMPAIGNS[facts.campaign]}"
    referrer = f',"referrer":"{facts.referrer}"' if facts.referrer else ""
    timestamp = "" if facts.timestamp is None else f'"timestamp":{facts.timestamp},'
    agent = f',"actor_agent_id":"{facts.agent}"' if facts.agent else ""
    identifiers = f"{facts.identifiers}," if facts.identifiers else ""
    session = "" if facts.session is None else f'"session_id":"cs-{facts.session:08x}",'
    return (
        f'{{"event_id":"{facts.event_id}",{facts.action.heading},{timestamp}"platform":"{facts.platform}",'
        f'"customer_id":"{TENANT}",{identifiers}{session}'
        f"{facts.action.properties},{facts.context}{campaign}{referrer}{agent}}}"
    )


NATIVE_CAMPAIGNS = [members(campaign={"source": s, "medium": m, "name": n}) for s, m, n in CAMPAIGNS]
FLAT_CAMPAIGNS = [members(utm_source=s, utm_medium=m, utm_campaign=n) for s, m, n in CAMPAIGNS]


class Storyteller:
    """Tells the facts of planned events, by their number in the plan."""

    def __init__(
        self,
        population: Population,
        anchors: Anchors,
        events: Events,
        event_ids: bytes,
        browsing: list[list[Action]],
        signing: dict[int, Action],
    ) -> None:
        self._events = events
        self._event_ids = event_ids
        self._browsing = browsing
        self._signing = signing
        self._anchor_ids = anchors.identifier_members
        self._contexts = anchors.context_members
        self._users = [members(user_id=value) for value in population.user_ids]
        self._emails = [members(email=value) for value in population.emails]
        self._untidy_emails = [members(email=_untidy(value)) for value in population.emails]
        self._phones = [members(phone=value) for value in population.phones]

    def event_id(self, number: int) -> str:
        """The id of the event with this number, a UUID."""
        return uuid_of(self._event_ids[16 * number : 16 * number + 16].hex())

    def tell(self, numbers: np.ndarray) -> Iterator[Facts]:
        """The facts of these events, in their order."""
        e = self._events
        columns = (
            e.session, e.anchor, e.person, e.platform, e.is_first, e.time, e.kind, e.has_user, e.has_email,
            e.has_phone, e.email_is_untidy, e.junk, e.time_form, e.dice,
        )  # fmt: skip
        rows = zip(numbers.tolist(), *(column[numbers].tolist() for column in columns), strict=True)
        anchor_ids, users, emails, phones = self._anchor_ids, self._users, self._emails, self._phones
        for (
            number, session, anchor, person, platform, is_first, time, kind, has_user, has_email,
            has_phone, is_untidy, junk, time_form, dice,
        ) in rows:  # fmt: skip
            parts = [anchor_ids[anchor]] if anchor_ids[anchor] else []
            if has_user:
                parts.append(users[person])
            if has_email:
                parts.append(self._untidy_emails[person] if is_untidy else emails[person])
            if has_phone:
                parts.append(phones[person])
            if junk != NO_JUNK:
                parts.append(_junk(junk, dice))
            campaign, referrer = None, ""
            if is_first and platform <= MOBILE:
                campaign = dice // 7 % 10 if dice // 7 % 10 < len(CAMPAIGNS) else None
                referrer = REFERRERS[dice // 70 % len(REFERRERS)] if platform != MOBILE else ""
            yield Facts(
                event_id=self.event_id(number),
                action=self._browsing[platform][dice % VARIANTS] if kind == BROWSE else self._signing[kind],
                timestamp=render_time(time, time_form, dice),
                platform=PLATFORMS[platform],
                identifiers=",".join(parts),
                context=self._contexts[anchor],
                campaign=campaign,
                referrer=referrer,
                agent=AGENTS[dice // 1000 % len(AGENTS)] if platform == AI_AGENT else "",
                session=session,
            )


def render_time(time: int, form: int, dice: int) -> str:
    """An instant in one of the spellings that trackers use, as a JSON value."""
    if form == EPOCH_S:
        return str((PERIOD_START_MS + time) // SECOND)
    if form == EPOCH_MS:
        return str(PERIOD_START_MS + time)
    zone, offset = ("Z", 0) if form == ISO else OFFSETS[dice // 300 % len(OFFSETS)]
    day, within = divmod(time + offset, DAY)
    return f'"{DATES[day + 1]}{CLOCK[within // SECOND]}{within % SECOND:03d}{zone}"'


def _junk(junk: int, dice: int) -> str:
    if junk == JUNK_USER:
        return f'"user_id":"{JUNK_USER_IDS[dice // 11 % len(JUNK_USER_IDS)]}"'
    assert junk == JUNK_COOKIE
    return f'"cookie_id":"{JUNK_COOKIE_ID}"'


def _untidy(email: str) -> str:
    """As people type it: capitals, and a space at the end."""
    local, host = email.split("@")
    return f"{local.title()}@{host.capitalize()} "
