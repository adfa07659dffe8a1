"""Who lives in the world: each person's group, names and number of events, and who shares a device."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from pipelines.generator.world import (
    ANONYMOUS_SINGLE,
    CONNECTED,
    GROUPS,
    SHARED_HOUSEHOLD,
    SHARED_KIOSK,
    UNCONNECTED,
)

FEWEST_EVENTS = {CONNECTED: 1, ANONYMOUS_SINGLE: 1, UNCONNECTED: 2, SHARED_HOUSEHOLD: 2, SHARED_KIOSK: 2}
COMFORTABLE_EVENTS = 3
# The first connected person uses every platform, so that even a tiny world shows all of them.
SHOWCASE_EVENTS = 14
MOST_KIOSK_PERSONS = 1_000
SMALLEST_KIOSK, LARGEST_KIOSK = 20, 150

FIRST_NAMES = (
    "anna ben chiara david elif fatima georg hanna ivan julia karim lena marco nora oskar paula quentin rosa "
    "samir tara ugo vera wanda xenia yusuf zoe"
).split()
LAST_NAMES = (
    "meier rossi schmidt nowak garcia kaya jensen dubois silva novak haddad okafor tanaka lindgren murphy "
    "costa weber petrov bakker moreau"
).split()
MAIL_HOSTS = ("example.com", "example.org", "example.net")


class GeneratorError(ValueError):
    """The request cannot be met; the message says what to change."""


@dataclass(frozen=True)
class Population:
    """The persons of a world: one entry per person in each list."""

    groups: list[str]
    budgets: list[int]
    households: list[list[int]]
    kiosks: list[list[int]]
    showcase: int
    user_ids: list[str]
    emails: list[str]
    phones: list[str]


def populate(rng: Random, numbers: np.random.Generator, persons: int, valid_events: int) -> Population:
    """Make the persons, with groups, names and numbers of events that add up to `valid_events`."""
    groups = [group for group, size in group_sizes(persons).items() for _ in range(size)]
    rng.shuffle(groups)
    showcase = groups.index(CONNECTED)
    budgets = _budgets(numbers, groups, showcase, valid_events)
    return Population(
        groups=groups,
        budgets=budgets,
        households=_circles(rng, groups, SHARED_HOUSEHOLD, 2, 3),
        kiosks=_circles(rng, groups, SHARED_KIOSK, SMALLEST_KIOSK, LARGEST_KIOSK),
        showcase=showcase,
        user_ids=[f"u{_scatter(index)}" for index in range(persons)],
        emails=[_email(rng, index) for index in range(persons)],
        phones=[f"+49151{_scatter(index)}" for index in range(persons)],
    )


def group_sizes(persons: int) -> dict[str, int]:
    """How many persons each group has: a shared group of one is no group, so it has two or none."""
    least, least_shared = (1, 2) if persons >= 20 else (0, 0)
    anonymous = max(least, round(persons * 0.14))
    unconnected = max(least, round(persons * 0.08))
    kiosk = max(least_shared, min(MOST_KIOSK_PERSONS, round(persons * 0.03)))
    household = max(least_shared, round(persons * 0.08) - kiosk)
    kiosk, household = (size if size >= 2 else 0 for size in (kiosk, household))
    connected = persons - anonymous - unconnected - kiosk - household
    return dict(zip(GROUPS, (connected, anonymous, unconnected, household, kiosk), strict=True))


def _budgets(numbers: np.random.Generator, groups: list[str], showcase: int, valid_events: int) -> list[int]:
    """Every person's number of valid events: a few do much, and together they do exactly `valid_events`."""
    least = np.array([FEWEST_EVENTS[group] for group in groups], dtype=np.int64)
    if least.sum() > valid_events:
        raise GeneratorError(
            f"events: too few for {len(groups)} persons; give at least {int(least.sum() * 1.05) + 2} events, "
            "or fewer persons"
        )
    if COMFORTABLE_EVENTS * len(groups) + SHOWCASE_EVENTS <= valid_events:
        least = np.full(len(groups), COMFORTABLE_EVENTS, dtype=np.int64)
        least[showcase] = SHOWCASE_EVENTS
    weights = numbers.gamma(1.3, size=len(groups)) + 0.05
    return (least + numbers.multinomial(valid_events - int(least.sum()), weights / weights.sum())).tolist()


def _circles(rng: Random, groups: list[str], group: str, smallest: int, largest: int) -> list[list[int]]:
    """The members of a shared group, dealt into circles that share one device each."""
    members = [index for index, name in enumerate(groups) if name == group]
    rng.shuffle(members)
    circles = []
    while members:
        size = rng.randint(smallest, largest)
        if len(members) - size < smallest:
            size = len(members) if len(members) <= largest else len(members) - smallest
        circles.append(members[:size])
        members = members[size:]
    return circles


def _email(rng: Random, index: int) -> str:
    return f"{rng.choice(FIRST_NAMES)}.{rng.choice(LAST_NAMES)}{index + 1}@{rng.choice(MAIL_HOSTS)}"


def _scatter(index: int) -> int:
    """Eight digits that look drawn but are unique: the factor and the modulus have no common divisor."""
    return 10_000_000 + index * 48_271_003 % 89_999_981
