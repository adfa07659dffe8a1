"""What came out of a scenario, in the words of its file, wherever it was run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios.cases import NOBODY, Case, person

Row = dict[str, Any]


@dataclass
class Outcome:
    """Of one case: see tests.scenarios.cases for what each means."""

    people: frozenset[str]
    refused: frozenset[frozenset[str]]
    belongs: dict[int, str]
    sessions: frozenset[frozenset[int]]
    quarantined: dict[int, set[str]]
    flagged: dict[int, set[str]]
    profile_of: dict[str, Row]
    intervals: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)


def check(case: Case, outcome: Outcome) -> None:
    """The outcome is what the case expects, in all that it mentions."""
    assert outcome.people == case.people
    assert outcome.refused == case.refused
    assert {n: set(r) for n, r in outcome.quarantined.items()} == {n: {r} for n, r in case.quarantined.items()}
    for n, flag in case.flagged.items():
        assert flag in outcome.flagged[n], f"event {n} is flagged {outcome.flagged[n]}"
    for n, owner in case.belongs.items():
        found = outcome.belongs[n]
        wanted = NOBODY if owner == NOBODY else next(p for p in outcome.people if owner in named(p))
        assert found == wanted, f"event {n} belongs to {found}"
    if case.sessions is not None:
        assert outcome.sessions == case.sessions
    for owner, columns in case.profiles.items():
        profile = next(row for p, row in outcome.profile_of.items() if owner in named(p))
        assert {name: profile[name] for name in columns} == columns
    for anchor, wanted in case.intervals.items():
        found = [
            (a, b, owner if owner == NOBODY else next(o for _, _, o in wanted if o in named(owner)))
            for a, b, owner in outcome.intervals[anchor]
        ]
        assert found == wanted


def named(words: str) -> set[str]:
    return {w.removeprefix("shared:") for w in words.split()}


def outcome_of(
    *,
    identifiers: Iterable[Row],
    owners: Iterable[Row],
    refusals: Iterable[Row],
    events: Iterable[Row],
    sessions: Iterable[Row],
    quarantine: Iterable[Row],
    profiles: Iterable[Row],
    intervals: Iterable[Row],
) -> Outcome:
    """From the rows of one case's tenants in silver and gold."""
    tenants = {r["tenant"] for r in identifiers}
    name = {r["node_id"]: _name(r, len(tenants) > 1) for r in identifiers}
    members: dict[int, list[str]] = defaultdict(list)
    person_of: dict[int, int] = {}
    for r in owners:
        person_of[r["node_id"]] = r["canonical_id"]
        if r["node_id"] > 0:
            members[r["canonical_id"]].append("shared:" * r["is_shared"] + name[r["node_id"]])
    people = {c: person(" ".join(words)) for c, words in members.items()}

    def owner_of(session: Row) -> str:
        return people.get(person_of[session["owner_node_id"]], NOBODY)

    in_session: dict[int, set[int]] = defaultdict(set)
    belongs = {}
    by_session = {s["session_id"]: s for s in sessions}
    for e in events:
        key = (e["event_at"], e["event_id"])
        (session,) = [
            s
            for s in by_session.values()
            if s["anchor_node_id"] == e["anchor_node_id"]
            and (s["start_at"], s["start_event_id"]) <= key <= (s["end_at"], s["end_event_id"])
        ]
        in_session[session["session_id"]].add(int(e["event_id"]))
        belongs[int(e["event_id"])] = owner_of(session)
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for i in sorted(intervals, key=lambda i: (i["anchor_node_id"], i["interval_number"])):
        mine = [e for e in events if e["anchor_node_id"] == i["anchor_node_id"]]
        inside = [int(e["event_id"]) for e in mine if i["owned_from_at"] <= e["event_at"] <= i["owned_to_at"]]
        owner = people.get(i["canonical_id"], NOBODY)
        assert i["is_claimed"] == (owner != NOBODY)
        found[name[i["anchor_node_id"]]].append((min(inside), max(inside), owner))
    return Outcome(
        people=frozenset(people.values()),
        refused=frozenset(
            frozenset((name[r["left_node_id"]], name[r["right_node_id"]])) for r in refusals
        ),
        belongs=belongs,
        sessions=frozenset(frozenset(s) for s in in_session.values()),
        quarantined={int(q["event_id"]): set(q["reasons"]) for q in quarantine},
        flagged={int(e["event_id"]): set(e["flags"] or ()) for e in events},
        profile_of={people.get(p["canonical_id"], NOBODY): p for p in profiles},
        intervals=found,
    )


def _name(row: Row, has_tenants: bool) -> str:
    value = f"{row['namespace']}:{row['value']}"
    inner = row["tenant"].partition("/")[2]
    return f"{inner}/{value}" if has_tenants and inner else value
