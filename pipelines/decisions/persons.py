"""Who is meant: a person by canonical id or by one of her identifiers, with her identifiers as they are today."""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from conf.policy import Policy
from transforms.normalize import Normalizer

_MEMBERS = """
SELECT m.node_id, m.namespace, i.value, m.is_shared, m.is_hub, m.host_node_id, m.canonical_id
FROM silver.identity_map_live AS m LEFT JOIN silver.identifiers AS i USING (node_id)
WHERE m.canonical_id = ? AND m.tenant = ? AND m.node_id > 0
"""
_BY_VALUE = """
SELECT m.canonical_id, m.node_id FROM silver.identifiers AS i JOIN silver.identity_map_live AS m USING (node_id)
WHERE i.tenant = ? AND i.namespace = ? AND i.value = ?
"""
_REDIRECT = (
    "SELECT canonical_id FROM silver.identity_redirects_live WHERE retired_canonical_id = ? AND tenant = ?"
)
_IS_LIVE = "SELECT count(*) FROM silver.identity_map_live WHERE canonical_id = ? AND tenant = ?"


class NobodyFound(LookupError):
    """No person has that canonical id or identifier; the message does not repeat it."""


@dataclass(frozen=True)
class Member:
    """One identifier of a person."""

    node_id: int
    namespace: str
    value: str
    is_shared: bool
    is_hub: bool

    @property
    def name(self) -> str:
        return f"{self.namespace}:{self.value}"


@dataclass(frozen=True)
class Person:
    """`canonical_id` and identifiers; `node_id` of the identifier that was asked for, `retired_id` if it was one."""

    tenant: str
    canonical_id: int
    members: tuple[Member, ...]
    node_id: int | None = None
    retired_id: int | None = None


def find_person(db: duckdb.DuckDBPyConnection, text: str, policy: Policy, tenant: str = "default") -> Person:
    """The person that `text` names: a canonical id, also a retired one, or `namespace:value`."""
    if re.fullmatch(r"\d+", text):
        return _by_id(db, int(text), tenant)
    namespace, colon, value = text.partition(":")
    if not colon or namespace not in policy.by_name:
        raise NobodyFound(
            "a person is named by a canonical id or by namespace:value, with one of the namespaces "
            + ", ".join(n.name for n in policy.namespaces if n.is_linking)
        )
    normalised, _ = Normalizer(policy).usable(value, namespace)
    found = db.execute(_BY_VALUE, [tenant, namespace, normalised or value]).fetchall()
    if not found:
        raise NobodyFound(f"tenant {tenant} has no such {namespace}, or it links nobody")
    canonical_id, node_id = found[0]
    return Person(tenant, canonical_id, members_of(db, canonical_id, tenant), node_id=node_id)


def members_of(db: duckdb.DuckDBPyConnection, canonical_id: int, tenant: str) -> tuple[Member, ...]:
    """The identifiers of a person, in the order of their names."""
    rows = db.execute(_MEMBERS, [canonical_id, tenant]).fetchall()
    return tuple(
        sorted(
            (Member(n, s, v or "", shared, hub) for n, s, v, shared, hub, _, _ in rows), key=lambda m: m.name
        )
    )


def _by_id(db: duckdb.DuckDBPyConnection, canonical_id: int, tenant: str) -> Person:
    (count,) = db.execute(_IS_LIVE, [canonical_id, tenant]).fetchall()[0]
    if count:
        return Person(tenant, canonical_id, members_of(db, canonical_id, tenant))
    found = db.execute(_REDIRECT, [canonical_id, tenant]).fetchall()
    if not found:
        raise NobodyFound(f"tenant {tenant} has no person of that canonical id")
    live = found[0][0]
    return Person(tenant, live, members_of(db, live, tenant), retired_id=canonical_id)
