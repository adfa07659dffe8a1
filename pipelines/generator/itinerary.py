"""What each person plans: the devices in use, the sessions on them, and when the person is signed in.

    anchor  0 ──── session ──── session ──── session        one line per device, browser, e-mail or account;
    anchor  1 ──── session ── logout│session                sessions on one line never overlap

The truth is read from this plan, so every promise of a group is kept here and nowhere else.
"""

from __future__ import annotations

from random import Random

from pipelines.generator.population import Population
from pipelines.generator.world import (
    AI_AGENT,
    ANONYMOUS_SINGLE,
    CONNECTED,
    DESKTOP,
    MOBILE,
    SUPPORT_CHAT,
    UNCONNECTED,
    WEB,
)

BROWSER, BROWSER_WITH_DEVICE, APP, WORKSTATION, MAILBOX, ACCOUNT = range(6)
NEVER = 1 << 30

# Sessions of one person on one anchor. At 54 minutes, with 46 between two, 200 fill the period.
MOST_SESSIONS_PER_DEVICE = 80
MOST_SESSIONS_PER_HOUSEHOLD_MEMBER = 50
MOST_SESSIONS_PER_KIOSK_VISITOR = 2


class Itinerary:
    """Anchors and sessions as columns. A session that never signs in has `signed_in_from` = NEVER."""

    def __init__(self) -> None:
        self.anchor_kind: list[int] = []
        self.anchor_is_kiosk: list[bool] = []
        self.anchor: list[int] = []
        self.person: list[int] = []
        self.platform: list[int] = []
        self.length: list[int] = []
        self.signed_in_from: list[int] = []
        self.login_at: list[int] = []
        self.identify_at: list[int] = []
        self.stays_signed_in: list[bool] = []
        self.has_logout: list[bool] = []
        self.shows_email: list[bool] = []

    def add_anchor(self, kind: int, is_kiosk: bool = False) -> int:
        """Add an anchor of this kind. Returns its number."""
        self.anchor_kind.append(kind)
        self.anchor_is_kiosk.append(is_kiosk)
        return len(self.anchor_kind) - 1

    def add_anonymous(
        self, anchor: int, person: int, platform: int, length: int, email: bool = False
    ) -> None:
        """Add a session of `length` events in which nobody signs in."""
        self._add(anchor, person, platform, length, NEVER, -1, -1, False, False, email)

    def add_signed_in(
        self,
        rng: Random,
        anchor: int,
        person: int,
        length: int,
        *,
        identify: bool = False,
        kiosk: bool = False,
    ) -> None:
        """A session with a login at its start or in its middle; an identify, if any, right behind it."""
        login_at = 0 if kiosk or rng.random() < 0.5 else rng.randrange(length)
        has_logout = length - login_at >= 2 and (kiosk or rng.random() < 0.3)
        behind = login_at + 1
        identify_at = -1 if not identify else behind if behind < length - has_logout else login_at
        stays = rng.random() < 0.35
        platform = self.home_platform(anchor)
        self._add(anchor, person, platform, length, login_at, login_at, identify_at, stays, has_logout, False)

    def add_remembered(self, rng: Random, anchor: int, person: int, platform: int, length: int) -> None:
        """A session of somebody who was still signed in: the user's id without a login."""
        has_logout = platform != AI_AGENT and length >= 2 and rng.random() < 0.2
        stays = platform == AI_AGENT or rng.random() < 0.4
        self._add(anchor, person, platform, length, 0, -1, -1, stays, has_logout, False)

    def home_platform(self, anchor: int) -> int:
        """The platform that the anchor is used on."""
        return (WEB, WEB, MOBILE, DESKTOP, SUPPORT_CHAT, AI_AGENT)[self.anchor_kind[anchor]]

    def _add(
        self, anchor, person, platform, length, signed_in_from, login_at, identify_at, stays, logout, email
    ) -> None:
        self.anchor.append(anchor)
        self.person.append(person)
        self.platform.append(platform)
        self.length.append(length)
        self.signed_in_from.append(signed_in_from)
        self.login_at.append(login_at)
        self.identify_at.append(identify_at)
        self.stays_signed_in.append(stays)
        self.has_logout.append(logout)
        self.shows_email.append(email)


def plan_itinerary(rng: Random, population: Population) -> Itinerary:
    """Plan every person's devices and sessions."""
    plan = Itinerary()
    own_budgets = list(population.budgets)
    for members in population.households:
        _plan_shared_device(rng, plan, members, own_budgets, MOST_SESSIONS_PER_HOUSEHOLD_MEMBER, kiosk=False)
    for members in population.kiosks:
        _plan_shared_device(rng, plan, members, own_budgets, MOST_SESSIONS_PER_KIOSK_VISITOR, kiosk=True)
    for person, (group, budget) in enumerate(zip(population.groups, own_budgets, strict=True)):
        if group == ANONYMOUS_SINGLE:
            _plan_anonymous_device(rng, plan, person, budget)
        elif budget:
            _plan_customer(rng, plan, person, group, budget, person == population.showcase)
    return plan


def _plan_shared_device(
    rng: Random,
    plan: Itinerary,
    members: list[int],
    own_budgets: list[int],
    most_sessions: int,
    *,
    kiosk: bool,
) -> None:
    """Everybody signs in here at least once; what is anonymous in between is somebody's too."""
    anchor = plan.add_anchor(WORKSTATION if kiosk else rng.choice((BROWSER, APP, WORKSTATION)), kiosk)
    visits = []
    for person in members:
        spent = max(1, own_budgets[person] // (3 if kiosk else 2))
        own_budgets[person] -= spent
        comes_again = spent > 1 and rng.random() < 0.6
        lengths = _session_lengths(rng, spent, 1 + comes_again, most_sessions)
        visits.append((person, lengths[0], True))
        visits.extend((person, length, rng.random() < 0.3) for length in lengths[1:])
    rng.shuffle(visits)
    for person, length, signs_in in visits:
        if signs_in:
            plan.add_signed_in(rng, anchor, person, length, kiosk=kiosk)
        else:
            plan.add_anonymous(anchor, person, plan.home_platform(anchor), length)


def _plan_anonymous_device(rng: Random, plan: Itinerary, person: int, budget: int) -> None:
    anchor = plan.add_anchor(_device_kind(rng))
    for length in _session_lengths(rng, budget, 1, MOST_SESSIONS_PER_DEVICE):
        plan.add_anonymous(anchor, person, _anonymous_platform(rng, plan, anchor), length)


def _plan_customer(
    rng: Random, plan: Itinerary, person: int, group: str, budget: int, is_showcase: bool
) -> None:
    has_mailbox = has_account = False
    if group in (CONNECTED, UNCONNECTED) and budget >= 8:
        has_mailbox = is_showcase or rng.random() < 0.12
        has_account = is_showcase or rng.random() < 0.12
    budget -= _plan_mailbox(rng, plan, person, budget) if has_mailbox else 0
    budget -= _plan_account(rng, plan, person, budget) if has_account else 0

    kinds = _device_kinds(rng, group, budget, is_showcase)
    anchors = [plan.add_anchor(kind) for kind in kinds]
    sessions: list[list[int]] = [[] for _ in anchors]
    for number, length in enumerate(
        _session_lengths(rng, budget, len(anchors), MOST_SESSIONS_PER_DEVICE * len(anchors))
    ):
        sessions[number if number < len(anchors) else rng.randrange(len(anchors))].append(length)
    if group == UNCONNECTED and len(anchors) > 1:
        lone, lone_sessions = anchors.pop(), sessions.pop()
        for length in lone_sessions:
            plan.add_anonymous(lone, person, _anonymous_platform(rng, plan, lone), length)
    for number, (anchor, lengths) in enumerate(zip(anchors, sessions, strict=True)):
        must_identify = has_mailbox and number == 0
        _plan_device(rng, plan, person, anchor, lengths, must_identify)


def _plan_device(
    rng: Random, plan: Itinerary, person: int, anchor: int, lengths: list[int], must_identify: bool
) -> None:
    """Anonymous sessions, then the login that ties the device to its person, then a mixture."""
    first_login = rng.randrange(len(lengths))
    for number, length in enumerate(lengths):
        mood = rng.random()
        if number == first_login:
            plan.add_signed_in(rng, anchor, person, length, identify=must_identify or mood < 0.35)
        elif number > first_login and mood < 0.12:
            plan.add_signed_in(rng, anchor, person, length, identify=mood < 0.03)
        elif number > first_login and mood < 0.32:
            plan.add_remembered(rng, anchor, person, plan.home_platform(anchor), length)
        elif mood > 0.9 and plan.home_platform(anchor) == WEB:
            plan.add_anonymous(anchor, person, SUPPORT_CHAT, length, email=True)
        else:
            plan.add_anonymous(anchor, person, _anonymous_platform(rng, plan, anchor), length)


def _plan_mailbox(rng: Random, plan: Itinerary, person: int, budget: int) -> int:
    """Support chats that know only an e-mail address; later ones may be an assistant's."""
    anchor = plan.add_anchor(MAILBOX)
    spent = rng.randint(1, max(1, budget // 5))
    for number, length in enumerate(_session_lengths(rng, spent, 1, MOST_SESSIONS_PER_DEVICE)):
        platform = AI_AGENT if number and rng.random() < 0.3 else SUPPORT_CHAT
        plan.add_anonymous(anchor, person, platform, length, email=True)
    return spent


def _plan_account(rng: Random, plan: Itinerary, person: int, budget: int) -> int:
    """An assistant acts for the account, with no device in sight."""
    anchor = plan.add_anchor(ACCOUNT)
    spent = rng.randint(1, max(1, budget // 6))
    for length in _session_lengths(rng, spent, 1, MOST_SESSIONS_PER_DEVICE):
        plan.add_remembered(rng, anchor, person, AI_AGENT, length)
    return spent


def _device_kinds(rng: Random, group: str, budget: int, is_showcase: bool) -> list[int]:
    if is_showcase and budget >= 6:
        return [BROWSER, APP, WORKSTATION]
    if group == UNCONNECTED:
        count = rng.choices((2, 3, 4), (6, 3, 1))[0]
        count = min(count, max(2, budget // 3), budget)
    elif group == CONNECTED:
        count = min(rng.choices((1, 2, 3, 4), (34, 38, 19, 9))[0], max(1, budget // 3))
    else:
        count = min(rng.choices((1, 2), (7, 3))[0], max(1, budget // 3))
    return [_device_kind(rng) for _ in range(count)]


def _device_kind(rng: Random) -> int:
    return rng.choices((BROWSER, BROWSER_WITH_DEVICE, APP, WORKSTATION), (38, 12, 33, 17))[0]


def _anonymous_platform(rng: Random, plan: Itinerary, anchor: int) -> int:
    """Where an anonymous session runs: at times an assistant drives the device's browser or app."""
    return AI_AGENT if rng.random() < 0.05 else plan.home_platform(anchor)


def _session_lengths(rng: Random, budget: int, fewest: int, most: int) -> list[int]:
    """The budget cut into `fewest` to `most` sessions at random places."""
    wanted = max(fewest, round(budget / (2.5 + 4 * rng.random())))
    count = min(wanted, most, budget)
    cuts = sorted(rng.sample(range(1, budget), count - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, budget], strict=True)]
