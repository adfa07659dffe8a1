"""Finds the person that a user names, with her present identifiers."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from conf.policy import Policy
from pipelines.lake import person

_MEMBERS = """
SELECT m.node_id, m.namespace, i.value, m.is_shared, m.is_hub
FROM silver.identity_map_live AS m JOIN silver.identifiers AS i USING (node_id)
WHERE m.canonical_id = ? AND m.node_id > 0
"""


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
        """The identifier as `namespace:value`."""
        return f"{self.namespace}:{self.value}"


@dataclass(frozen=True)
class Person:
    """`canonical_id` and identifiers; `node_id` of the identifier that was asked for, `retired_id` if it was one."""

    tenant: str
    canonical_id: int
    members: tuple[Member, ...]
    node_id: int | None = None
    retired_id: int | None = None


def find_person(
    db: duckdb.DuckDBPyConnection, text: str, policy: Policy, tenant: str | None = None
) -> Person:
    """The person that `text` names: a canonical id, also a retired one, or `namespace:value`.

    BadId and NoSuchPerson as of `pipelines.lake.person`.
    """
    found = person.find_person(db, policy, text, tenant)
    rows = db.execute(_MEMBERS, [found.canonical_id]).fetchall()
    members = tuple(sorted((Member(*row) for row in rows), key=lambda m: m.name))
    if not members:
        raise person.NoSuchPerson(
            "this is nobody's by guess: the sessions of a shared device that no user claims"
        )
    return Person(found.tenant, found.canonical_id, members, found.node_id, found.retired_id)
