"""What is true of the generated world, read from the plan and never from the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.generator.anchors import Anchors
from pipelines.generator.population import Population
from pipelines.generator.rendering import CLOCK, DATES, Storyteller
from pipelines.generator.timetable import Events, Sessions
from pipelines.generator.vocabulary import members
from pipelines.generator.world import DAY, PLATFORMS, SECOND, TENANT, person_name, session_name

NO_TIME = np.iinfo(np.int64).max


@dataclass(frozen=True)
class World:
    """The whole plan: everything that the records and the truth are written from."""

    population: Population
    anchors: Anchors
    sessions: Sessions
    events: Events


def truth_lines(world: World, storyteller: Storyteller) -> Iterator[str]:
    """The truth as JSON lines: persons, then identifiers, sessions and events."""
    yield from _person_lines(world)
    yield from _identifier_lines(world)
    yield from _event_lines(world, storyteller)


def _person_lines(world: World) -> Iterator[str]:
    """One line per person, with the values that a complete profile shows."""
    population, sessions, events = world.population, world.sessions, world.events
    persons = len(population.groups)
    first_seen, first_login = np.full(persons, NO_TIME), np.full(persons, NO_TIME)
    last_seen = np.full(persons, -1)
    np.minimum.at(first_seen, events.person, events.time)
    np.maximum.at(last_seen, events.person, events.time)
    np.minimum.at(first_login, events.person[events.has_user], events.time[events.has_user])

    def count(of_sessions: np.ndarray) -> list[int]:
        return np.bincount(sessions.person[of_sessions], minlength=persons).tolist()

    authenticated = sessions.is_authenticated
    login_known = first_login[sessions.person] != NO_TIME
    before_login = ~authenticated & login_known & (sessions.start < first_login[sessions.person])
    platform_used = np.zeros((persons, len(PLATFORMS)), dtype=bool)
    platform_used[sessions.person, sessions.platform] = True
    columns = zip(
        count(authenticated),
        count(~authenticated),
        count(before_login),
        np.bincount(events.person, minlength=persons).tolist(),
        first_seen.tolist(),
        last_seen.tolist(),
        first_login.tolist(),
        platform_used.tolist(),
        strict=True,
    )
    for person, (signed_in, anonymous, before, event_count, first, last, login, used) in enumerate(columns):
        is_identified = login != NO_TIME
        yield _object(
            record="person",
            tenant=TENANT,
            person=person_name(person),
            group=population.groups[person],
            user_id=population.user_ids[person] if is_identified else None,
            is_identified=is_identified,
            platforms=sorted(name for name, is_used in zip(PLATFORMS, used, strict=True) if is_used),
            session_count=signed_in + anonymous,
            anonymous_session_count=anonymous,
            anonymous_session_count_before_first_login=before,
            authenticated_session_count=signed_in,
            # A session has one login event at most, and one without it counts as one login.
            login_count=signed_in,
            event_count=event_count,
            first_seen_at=_instant(first),
            last_seen_at=_instant(last),
            first_login_at=_instant(login) if is_identified else None,
        )


def _identifier_lines(world: World) -> Iterator[str]:
    """One line per identifier that links, as it is after normalisation, and who uses it."""
    population, sessions, events = world.population, world.sessions, world.events
    users: list[set[int]] = [set() for _ in world.anchors.identifiers]
    for anchor, person in zip(sessions.anchor.tolist(), sessions.person.tolist(), strict=True):
        users[anchor].add(person)
    for own, persons in zip(world.anchors.identifiers, users, strict=True):
        for namespace, value in own:
            yield _identifier(namespace, value, sorted(persons))
    shown = (
        ("user_id", population.user_ids, events.has_user),
        ("email", population.emails, events.has_email),
        ("phone", population.phones, events.has_phone),
    )
    for namespace, values, is_shown in shown:
        for person in np.unique(events.person[is_shown]).tolist():
            yield _identifier(namespace, values[person], [person])


def _event_lines(world: World, storyteller: Storyteller) -> Iterator[str]:
    """One line per valid event, and who did it in which session."""
    events = world.events
    head = f'{{"record":"event","tenant":"{TENANT}","event_id":"'
    rows = zip(events.person.tolist(), events.session.tolist(), strict=True)
    for number, (person, session) in enumerate(rows):
        event_id = storyteller.event_id(number)
        yield f'{head}{event_id}","person":"{person_name(person)}","session":"{session_name(session)}"}}'


def _identifier(namespace: str, value: str, persons: list[int]) -> str:
    return _object(
        record="identifier",
        tenant=TENANT,
        namespace=namespace,
        value=value,
        persons=[person_name(person) for person in persons],
        is_shared=len(persons) > 1,
    )


def _object(**values: object) -> str:
    return f"{{{members(**values)}}}"


def _instant(time: int) -> str:
    day, within = divmod(time, DAY)
    return f"{DATES[day + 1]}{CLOCK[within // SECOND]}{within % SECOND:03d}000Z"
