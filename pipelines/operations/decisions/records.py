"""Makes a record of the control feed from a user's decision, or says why it cannot be applied."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import duckdb
import numpy as np

from conf.errors import Refusal
from conf.policy import Policy
from pipelines.operations.decisions.persons import Member, Person
from transforms.identity.components import driver_components
from transforms.ingest.values.normalize import Normalizer

_EDGES = """
SELECT DISTINCT left_node_id, right_node_id FROM silver.identity_edges_live
WHERE left_node_id IN (SELECT node_id FROM silver.identity_map_live WHERE canonical_id = ?)
  AND right_node_id IN (SELECT node_id FROM silver.identity_map_live WHERE canonical_id = ?)
"""
_JOINED = """
SELECT join_pair.left_node_id, join_pair.right_node_id
FROM (SELECT unnest(joins) AS join_pair FROM silver.identity_decisions_live WHERE is_in_force)
UNION SELECT left_node_id, right_node_id FROM silver.identity_edges_live WHERE kind = 'alias'
"""


class Refused(Refusal, ValueError):
    """The decision makes no sense, or needs `--force`; the message says why."""


def head(kind: str, tenant: str, reason: str, author: str | None = None) -> dict[str, object]:
    """What every decision says: when, who and why."""
    return {
        "tenant": tenant,
        "decision": kind,
        "decided_at": datetime.now(UTC).isoformat(),
        "author": author or getpass.getuser(),
        "reason": reason,
    }


def merge(
    db: duckdb.DuckDBPyConnection, a: Person, b: Person, policy: Policy, force: bool
) -> dict[str, object]:
    """Joins that make `a` and `b` one. Refused when they are one already, of two tenants, or too many values of a
    namespace without `force`."""
    _require_one_tenant(a, b)
    if a.canonical_id == b.canonical_id:
        raise Refused("they are one person already")
    joins: list[tuple[Member, Member]] = []
    value = _values(db, (*a.members, *b.members))
    for namespace in policy.namespaces:
        limit = namespace.value_limit
        if limit is None or not namespace.is_linking:
            continue
        mine, theirs = (_distinct(p, namespace.name, value) for p in (a, b))
        over = len({value[m.node_id] for m in (*mine, *theirs)}) - limit
        if over <= 0:
            continue
        if not force:
            raise Refused(
                f"one person would have {over + limit} values of {namespace.name} and may have {limit}; "
                "--force says that they are one value"
            )
        joins += list(zip(mine, theirs, strict=False))[:over] or []
        rest = over - min(over, len(mine), len(theirs))
        joins += list(pairwise(mine if len(mine) > len(theirs) else theirs))[:rest]
    if not joins:
        joins = [(_best(a, policy), _best(b, policy))]
    return {"joins": [[_reference(x), _reference(y)] for x, y in joins]}


def keep_apart(a: Person, b: Person, policy: Policy) -> dict[str, object]:
    """Sides that keep `a` and `b` from ever being one."""
    _require_one_tenant(a, b)
    if a.canonical_id == b.canonical_id:
        raise Refused("they are one person now; use `split` to part them")
    return {"sides": [[_reference(_best(a, policy))], [_reference(_best(b, policy))]]}


def split(
    db: duckdb.DuckDBPyConnection, person: Person, names: Sequence[str], policy: Policy
) -> dict[str, object]:
    """Sides that part the identifiers `names` from the rest of `person`, and joins that hold each part together."""
    wanted = _named(person, names, policy)
    leaving = [m for m in person.members if m in wanted]
    staying = [m for m in person.members if m not in wanted and not m.is_shared]
    if not staying:
        raise Refused("these are all her identifiers; leave at least one with her")
    joins = [pair for part in (leaving, staying) for pair in _bonds(db, person, part)]
    return {
        "sides": [[_reference(m) for m in staying], [_reference(m) for m in leaving]],
        "joins": [[_reference(x), _reference(y)] for x, y in joins],
    }


class Session(NamedTuple):
    """A session to be given to somebody: its anchor's identifier, and the span of time in which it starts."""

    tenant: str
    namespace: str
    value: str
    start_at: datetime
    end_at: datetime


def session(db: duckdb.DuckDBPyConnection, session_id: int, tenant: str | None) -> Session:
    """The session of that id, of any tenant or of this one."""
    row = db.execute(
        """SELECT s.tenant, i.namespace, i.value, s.start_at, s.end_at
           FROM silver.sessions_live AS s JOIN silver.identifiers AS i ON i.node_id = s.anchor_node_id
           WHERE s.session_id = ? AND s.tenant = coalesce(?, s.tenant)""",
        [session_id, tenant],
    ).fetchone()
    if row is None:
        raise Refused("there is no session of that id" + (f" in tenant {tenant!r}" if tenant else ""))
    return Session(*row)


def assign(session: Session, to: Person | None, policy: Policy) -> dict[str, object]:
    """Gives one session to another person of its tenant, or with None to nobody."""
    if to is not None and to.tenant != session.tenant:
        raise Refused("the session and the person are of two tenants, and nothing ever links across tenants")
    owner = None if to is None else _reference(_best(to, policy))
    anchor = {"namespace": session.namespace, "value": session.value}
    return {
        "session": {
            "anchor": anchor,
            "start_at": session.start_at,
            "end_at": session.end_at,
            "owner": owner,
        }
    }


def _require_one_tenant(a: Person, b: Person) -> None:
    if a.tenant != b.tenant:
        raise Refused("they are of two tenants, and nothing ever links across tenants")


def _named(person: Person, names: Sequence[str], policy: Policy) -> set[Member]:
    reader = Normalizer(policy)
    found = set()
    for name in names:
        namespace, _, value = name.partition(":")
        normalised = reader.usable(value, namespace)[0] if namespace in policy.by_name else None
        member = next((m for m in person.members if (m.namespace, m.value) == (namespace, normalised)), None)
        if member is None:
            raise Refused(f"she has no such {namespace or 'identifier'}; name identifiers as namespace:value")
        found.add(member)
    return found


def _bonds(
    db: duckdb.DuckDBPyConnection, person: Person, part: Sequence[Member]
) -> list[tuple[Member, Member]]:
    """Pairs that hold `part` together where the evidence inside it does not."""
    ids = np.array(sorted(m.node_id for m in part), np.int64)
    rows = db.execute(_EDGES, [person.canonical_id, person.canonical_id]).fetchnumpy()
    left, right = (np.asarray(rows[c], np.int64) for c in ("left_node_id", "right_node_id"))
    inside = np.isin(left, ids) & np.isin(right, ids)
    at = [np.searchsorted(ids, ends[inside]) for ends in (left, right)]
    labels = driver_components(len(ids), at[0], at[1])
    firsts = [
        next(m for m in part if labels[np.searchsorted(ids, m.node_id)] == c) for c in np.unique(labels)
    ]
    return list(pairwise(firsts))


def _best(person: Person, policy: Policy) -> Member:
    """The identifier that speaks for a person: of the best namespace, and nobody else's if there is one."""
    return min(person.members, key=lambda m: (m.is_shared, policy.by_name[m.namespace].priority, m.value))


def _distinct(person: Person, namespace: str, value: dict[int, int]) -> list[Member]:
    """One member per value of a namespace."""
    return list({value[m.node_id]: m for m in reversed(person.members) if m.namespace == namespace}.values())[
        ::-1
    ]


def _values(db: duckdb.DuckDBPyConnection, members: Sequence[Member]) -> dict[int, int]:
    """Node → the value that it stands for: what an alias or a merge has joined in one namespace is one."""
    space = {m.node_id: m.namespace for m in members}
    ids = np.array(sorted(space), np.int64)
    pairs = [
        (a, b)
        for a, b in db.execute(_JOINED).fetchall()
        if a in space and b in space and space[a] == space[b]
    ]
    left, right = (np.searchsorted(ids, [p[i] for p in pairs]).astype(np.int64) for i in (0, 1))
    return dict(zip(ids.tolist(), driver_components(len(ids), left, right).tolist(), strict=True))


def _reference(member: Member) -> dict[str, str]:
    return {"namespace": member.namespace, "value": member.value}
