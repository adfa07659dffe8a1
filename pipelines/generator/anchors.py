"""The identifiers and the surroundings of every anchor, as members of a JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from pipelines.generator.itinerary import APP, BROWSER, BROWSER_WITH_DEVICE, WORKSTATION
from pipelines.generator.vocabulary import LOCALES, NETWORKS, USER_AGENTS, members


@dataclass(frozen=True)
class Anchors:
    """Per anchor: its own (namespace, value) pairs, and these and its context as ready-made members.

    A mailbox and an account have no identifiers of their own: their events carry their person's.
    """

    identifiers: list[list[tuple[str, str]]]
    identifier_members: list[str]
    context_members: list[str]

    def is_device(self, anchor: int) -> bool:
        """Whether the anchor has identifiers of a device of its own."""
        return bool(self.identifiers[anchor])


def equip(rng: Random, numbers: np.random.Generator, kinds: list[int]) -> Anchors:
    """Give every anchor its identifiers and surroundings. `kinds`: the kind of each anchor, one per anchor."""
    raw = numbers.bytes(32 * len(kinds)).hex()
    identifiers: list[list[tuple[str, str]]] = []
    contexts = []
    for number, kind in enumerate(kinds):
        digits = raw[64 * number : 64 * number + 64]
        own = []
        if kind in (APP, WORKSTATION, BROWSER_WITH_DEVICE):
            own.append(("device_id", uuid_of(digits)))
        if kind in (BROWSER, BROWSER_WITH_DEVICE):
            own.append(("cookie_id", "ck." + digits[32:56]))
        identifiers.append(own)
        ip = f"{rng.choice(NETWORKS)}.{rng.randrange(1, 255)}"
        browser = rng.choice(USER_AGENTS[kind])
        contexts.append(members(ip=ip, locale=rng.choice(LOCALES), user_agent=browser))
    return Anchors(identifiers, [members(**dict(own)) for own in identifiers], contexts)


def uuid_of(digits: str) -> str:
    """32 hexadecimal digits as a UUID of version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"
