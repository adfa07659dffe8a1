"""What came out of a scenario, in the words of its file, wherever it was run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from conf.tables import PROFILES
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
    assert {n: set(r) for n, r in outcome.quarantined.items()} == {
        n: {r} for n, r in case.quarantined.items()
    }
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


def outcomes_of(
    *,
    identifiers: list[Row],
    owners: list[Row],
    refusals: list[Row],
    events: list[Row],
    sessions: list[Row],
    quarantine: list[Row],
    profiles: list[Row],
    intervals: list[Row],
) -> dict[str, Outcome]:
    """By case, from the rows of silver and gold: a case is a tenant, and tenants know nothing of each other."""
    case_of = {r["node_id"]: _case_name(r["tenant"]) for r in identifiers}
    parts: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for table, rows in (
        ("identifiers", identifiers), ("events", events), ("sessions", sessions), ("quarantine", quarantine),
        ("profiles", profiles), ("intervals", intervals),
    ):  # fmt: skip
        for row in rows:
            parts[_case_name(row["tenant"])][table].append(row)
    for row in owners:
        parts[case_of[abs(row["node_id"])]]["owners"].append(row)
    for row in refusals:
        parts[case_of[row["left_node_id"]]]["refusals"].append(row)
    return {case: _outcome(tables) for case, tables in parts.items()}


def _outcome(tables: dict[str, list[Row]]) -> Outcome:
    tenants = {r["tenant"] for r in tables["identifiers"]}
    name = {r["node_id"]: _name(r, len(tenants) > 1) for r in tables["identifiers"]}
    members: dict[int, list[str]] = defaultdict(list)
    person_of: dict[int, int] = {}
    for r in tables["owners"]:
        person_of[r["node_id"]] = r["canonical_id"]
        if r["node_id"] > 0:
            members[r["canonical_id"]].append("shared:" * r["is_shared"] + name[r["node_id"]])
    people = {c: person(" ".join(words)) for c, words in members.items()}

    in_session: dict[int, set[int]] = defaultdict(set)
    belongs = {}
    for e in tables["events"]:
        key = (e["event_at"], e["event_id"])
        (session,) = [
            s
            for s in tables["sessions"]
            if s["anchor_node_id"] == e["anchor_node_id"]
            and (s["start_at"], s["start_event_id"]) <= key <= (s["end_at"], s["end_event_id"])
        ]
        in_session[session["session_id"]].add(int(e["event_id"]))
        belongs[int(e["event_id"])] = people.get(person_of[session["owner_node_id"]], NOBODY)
    return Outcome(
        people=frozenset(people.values()),
        refused=frozenset(
            frozenset((name[r["left_node_id"]], name[r["right_node_id"]])) for r in tables["refusals"]
        ),
        belongs=belongs,
        sessions=frozenset(frozenset(s) for s in in_session.values()),
        quarantined={int(q["event_id"]): set(q["reasons"]) for q in tables["quarantine"]},
        flagged={int(e["event_id"]): set(e["flags"] or ()) for e in tables["events"]},
        profile_of={
            people[p["canonical_id"]]: {k: p[k] for k in PROFILES.with_role("content")}
            for p in tables["profiles"]
            if p["canonical_id"] in people
        },
        intervals=_intervals(tables, name, people),
    )


def _intervals(
    tables: dict[str, list[Row]], name: dict[int, str], people: dict[int, str]
) -> dict[str, list[tuple[int, int, str]]]:
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for i in sorted(tables["intervals"], key=lambda i: i["interval_number"]):
        inside = [
            int(e["event_id"])
            for e in tables["events"]
            if e["anchor_node_id"] == i["anchor_node_id"]
            and i["owned_from_at"] <= e["event_at"] <= i["owned_to_at"]
        ]
        owner = people.get(i["canonical_id"], NOBODY)
        assert i["is_claimed"] == (owner != NOBODY)
        found[name[i["anchor_node_id"]]].append((min(inside), max(inside), owner))
    return found


def _case_name(tenant: str) -> str:
    return tenant.partition("/")[0]


def _name(row: Row, has_tenants: bool) -> str:
    value = f"{row['namespace']}:{row['value']}"
    inner = row["tenant"].partition("/")[2]
    return f"{inner}/{value}" if has_tenants and inner else value
