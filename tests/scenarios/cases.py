"""Scenarios: named cases in YAML, each a few lines of events and what has to come out of them.

    - name: what happens, as a sentence
      like: the product's documentation that it is from, if any
      policy: default            # a shipped policy, or one of policies.yaml; default if left out
      events:                    # numbered from 1; one hour apart where no time is given
        - 09:00 login user_id:ann device_id:pc @mobile
        - {at: "2/09:30", type: page_view, identifiers: {user_id: null}}     # day 2; what a line cannot say
      batches: [[1], [2, 3, 1]]  # how they arrive, some of them twice; all at once if left out
      people:                    # every person: identifiers, one person a line; `shared:` in front of shared ones
        - user_id:ann shared:device_id:pc
      refused: [[device_id:a, device_id:b]]      # pairs that clustering refuses
      belongs: {1: user_id:ann, 3: nobody}       # whose the event is counted to
      sessions: [[1, 2], [3]]                    # which events are one session
      quarantined: {2: no_identifier}
      flagged: {1: blocked_identifier}
      profiles: {user_id:ann: {login_count: 1}}
      intervals: {device_id:pc: [[1, 2, user_id:ann], [3, 3, nobody]]}       # first and last event, owner

An event's line: a time, an event type, identifiers `namespace:value`, `actor.namespace:value`, `@platform`,
`tenant=name`. Values with spaces stand in quotes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import yaml

from conf.policy import POLICY_FOLDER, Policy, policy_from_dict

FOLDER = Path(__file__).parent
DAY = datetime(2026, 3, 2, tzinfo=UTC)
NOBODY = "nobody"
_TIME = re.compile(r"(?:(\d+)/)?(\d\d):(\d\d)(?::(\d\d))?")
_KEYS = {
    "name", "like", "policy", "events", "batches", "people", "refused", "belongs", "sessions", "quarantined",
    "flagged", "profiles", "intervals",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One scenario, ready to run: native records, and what is expected of them."""

    name: str
    policy: str
    records: tuple[dict[str, Any], ...]
    batches: tuple[tuple[int, ...], ...]
    people: frozenset[str]
    refused: frozenset[frozenset[str]] | None
    belongs: dict[int, str] = field(default_factory=dict)
    sessions: frozenset[frozenset[int]] | None = None
    quarantined: dict[int, str] = field(default_factory=dict)
    flagged: dict[int, str] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    intervals: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)


def person(words: str) -> str:
    """One spelling per person: its identifiers, sorted."""
    return " ".join(sorted(shlex.split(words)))


@cache
def all_cases() -> tuple[Case, ...]:
    files = sorted(FOLDER.glob("*.yaml"))
    raw = [(f, c) for f in files if f.name != "policies.yaml" for c in yaml.safe_load(f.read_text("utf-8"))]
    cases = tuple(_case(f, c) for f, c in raw)
    names = [c.name for c in cases]
    assert len(set(names)) == len(names), "two scenarios have the same name"
    return cases


@cache
def cases_of(policy: str) -> tuple[Case, ...]:
    return tuple(c for c in all_cases() if c.policy == policy)


def arrivals(cases: Iterable[Case]) -> list[list[dict[str, Any]]]:
    """The records of several cases, batch by batch."""
    parts = [[[case.records[n - 1] for n in batch] for batch in case.batches] for case in cases]
    return [list(chain.from_iterable(batch)) for batch in zip_longest(*parts, fillvalue=())]


@cache
def policy_of(name: str) -> Policy:
    """A shipped policy, or a variant of one from policies.yaml."""
    shipped = POLICY_FOLDER / f"{name}.yaml"
    if shipped.exists():
        return policy_from_dict(yaml.safe_load(shipped.read_text("utf-8")), name)
    change = yaml.safe_load((FOLDER / "policies.yaml").read_text("utf-8"))[name]
    shipped = POLICY_FOLDER / f"{change.pop('base', 'default')}.yaml"
    base = yaml.safe_load(shipped.read_text("utf-8"))
    spaces = base["namespaces"] | change.pop("namespaces", {})
    return policy_from_dict(base | change | {"namespaces": spaces}, name)


def record(n: int, event: str | dict[str, Any], tenant: str) -> dict[str, Any]:
    """A native record; the event's number is its id."""
    at, kind, platform = None, "page_view", None
    identifiers: dict[str, Any] = {}
    actor: dict[str, Any] = {}
    if isinstance(event, dict):
        assert set(event) <= {"at", "type", "identifiers", "actor", "platform", "context"}, sorted(event)
        at, kind = event.get("at"), event.get("type", kind)
        identifiers, actor = event.get("identifiers", {}), event.get("actor", {})
        platform = event.get("platform")
    else:
        for word in shlex.split(event):
            if _TIME.fullmatch(word):
                at = word
            elif word.startswith("@"):
                platform = word[1:]
            elif word.startswith("tenant="):
                tenant = f"{tenant}/{word[7:]}"
            elif ":" in word:
                name, value = word.split(":", 1)
                bag = actor if name.startswith("actor.") else identifiers
                bag.setdefault(name.removeprefix("actor."), []).append(value)
            else:
                kind = word
    made = {
        "event_id": f"{n:03}",
        "tenant": tenant,
        "event_type": kind,
        "timestamp": (instant(at) if at else DAY + timedelta(hours=n)).isoformat(),
        "platform": platform,
        "identifiers": identifiers,
        "actor": actor,
    }
    if isinstance(event, dict) and "context" in event:
        made["context"] = event["context"]
    return made


def instant(at: str) -> datetime:
    day, hour, minute, second = _TIME.fullmatch(at).groups(default="0")  # type: ignore[union-attr]
    return DAY + timedelta(
        days=max(int(day) - 1, 0), hours=int(hour), minutes=int(minute), seconds=int(second)
    )


def _case(file: Path, raw: dict[str, Any]) -> Case:
    name = raw["name"]
    assert "/" not in name, f"{file.name}: {name}: a name with / would be two tenants"
    assert set(raw) <= _KEYS, f"{file.name}: {name}: unknown {sorted(set(raw) - _KEYS)}"
    numbers = range(1, len(raw["events"]) + 1)
    batches = raw.get("batches", [list(numbers)])
    assert {n for b in batches for n in b} == set(numbers), f"{name}: batches are not all of the events"
    refused, sessions = raw.get("refused", []), raw.get("sessions")
    return Case(
        name=name,
        policy=raw.get("policy", "default"),
        records=tuple(record(n, e, name) for n, e in zip(numbers, raw["events"], strict=True)),
        batches=tuple(tuple(b) for b in batches),
        people=frozenset(person(p) for p in raw["people"]),
        refused=frozenset(frozenset(pair) for pair in refused),
        belongs=raw.get("belongs", {}),
        sessions=None if sessions is None else frozenset(frozenset(s) for s in sessions),
        quarantined=raw.get("quarantined", {}),
        flagged=raw.get("flagged", {}),
        profiles=raw.get("profiles", {}),
        intervals={anchor: [tuple(i) for i in found] for anchor, found in raw.get("intervals", {}).items()},
    )
