"""Records that have to be quarantined: each is a believable event with one thing broken.

They carry event ids and sessions of their own and have no part in the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pipelines.generator.rendering import Facts
from pipelines.generator.world import JUNK_COOKIE_ID, JUNK_USER_IDS

Render = Callable[[Facts], str]

NOT_OBJECTS = ("[]", "[1,2,3]", "42", "3.14", '"page_view"', "true", "null")
UNUSABLE_TIMES = (
    '"0001-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59Z"',
    '"yesterday"',
    '"not-a-timestamp"',
    '""',
    "null",
)


def _broken_syntax(rng: Random, facts: Facts, render: Render) -> bytes:
    line = render(facts)
    name = _present(line)
    damage = rng.choice(((f"{name}:", name), (f",{name}", f",,{name}"), ("{", "")))
    return line.replace(*damage, 1).encode()


def _truncated(rng: Random, facts: Facts, render: Render) -> bytes:
    line = render(facts)
    return line[: rng.randrange(1, len(line))].encode()


def _not_an_object(rng: Random, facts: Facts, render: Render) -> bytes:
    return rng.choice(NOT_OBJECTS).encode()


def _invalid_utf8(rng: Random, facts: Facts, render: Render) -> bytes:
    line = render(facts)
    name = _present(line)
    return line.encode().replace(f"{name}:".encode(), b'"\xff\xfe\xc3":1,' + f"{name}:".encode(), 1)


def _present(line: str) -> str:
    """A name that stands inside of the record, whatever its format."""
    return next(name for name in ('"platform"', '"timestamp"') if name in line)


def _missing_time(rng: Random, facts: Facts, render: Render) -> bytes:
    return render(facts._replace(timestamp=None)).encode()


def _unusable_time(rng: Random, facts: Facts, render: Render) -> bytes:
    return render(facts._replace(timestamp=rng.choice(UNUSABLE_TIMES))).encode()


def _no_identifiers(rng: Random, facts: Facts, render: Render) -> bytes:
    return render(facts._replace(identifiers="", session=None)).encode()


def _only_blocked_identifiers(rng: Random, facts: Facts, render: Render) -> bytes:
    user, cookie = f'"user_id":"{rng.choice(JUNK_USER_IDS)}"', f'"cookie_id":"{JUNK_COOKIE_ID}"'
    identifiers = rng.choice((user, cookie, f"{user},{cookie}"))
    return render(facts._replace(identifiers=identifiers, session=None)).encode()


DEFECTS: dict[str, Callable[[Random, Facts, Render], bytes]] = {
    "broken_syntax": _broken_syntax,
    "truncated": _truncated,
    "not_an_object": _not_an_object,
    "invalid_utf8": _invalid_utf8,
    "missing_time": _missing_time,
    "unusable_time": _unusable_time,
    "no_identifiers": _no_identifiers,
    "only_blocked_identifiers": _only_blocked_identifiers,
}


def spoil(rng: Random, number: int, facts: Facts, event_id: str, render: Render) -> bytes:
    """The `number`-th bad record: the kinds of defect take turns, so that a few records show most of them."""
    defect = list(DEFECTS.values())[number % len(DEFECTS)]
    return defect(rng, facts._replace(event_id=event_id), render)
