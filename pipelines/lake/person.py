"""Looks up one person by canonical id or identifier, as of the last published batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from conf.errors import Refusal, UserMistake
from conf.policy import Policy
from transforms.ingest.values.normalize import usable

COUNTS = (
    "event_count",
    "session_count",
    "anonymous_session_count",
    "anonymous_session_count_before_first_login",
    "authenticated_session_count",
    "login_count",
    "device_count",
    "cookie_count",
)
_INSTANTS = ("first_seen_at", "last_seen_at", "first_login_at", "last_login_at")
_TOUCH = ("source", "medium", "campaign", "referrer")


class BadId(UserMistake):
    """What was asked for is not an id; the message has the way out and no identifier."""


class NoSuchPerson(Refusal, LookupError):
    """Nobody has that id; the message says what was looked for, without the value of an identifier."""


@dataclass(frozen=True)
class Found:
    """Whose id it is. `retired_id` is the canonical id asked for, if that redirects to this one; `node_id` the
    identifier."""

    tenant: str
    canonical_id: int
    retired_id: int | None = None
    node_id: int | None = None


def find_person(
    db: duckdb.DuckDBPyConnection, policy: Policy, asked: str, tenant: str | None = None
) -> Found:
    """Whom `asked` means: a canonical id, retired ones included, or `namespace:value` in any usual spelling.

    BadId when it can mean nobody or, without `tenant`, several; NoSuchPerson when nobody has it.
    """
    if re.fullmatch(r"[0-9]{1,18}", asked):
        return _by_canonical_id(db, int(asked), tenant)
    namespace, colon, value = asked.partition(":")
    if not colon or not namespace or not value:
        raise BadId("a person is asked for by canonical id, or by namespace:value such as user_id:42")
    if namespace not in policy.by_name:
        known = ", ".join(policy.by_name)
        raise BadId(f"{namespace!r} is not a namespace of the policy; known are {known}")
    normalised, flag = usable(value, namespace, policy)
    if normalised is None:
        raise NoSuchPerson(f"nobody has that {namespace}: such a value never counts ({flag})")
    return _by_identifier(db, namespace, normalised, tenant)


def person(db: duckdb.DuckDBPyConnection, found: Found, session_limit: int = 10) -> dict[str, Any]:
    """Everything of one person in sections, with instants as datetimes and the newest sessions first."""
    row = _one(db, "SELECT * FROM gold.profiles_live WHERE canonical_id = ?", found.canonical_id) or {}
    retired = db.execute(
        "SELECT retired_canonical_id FROM silver.identity_redirects_live WHERE canonical_id = ? ORDER BY 1",
        [found.canonical_id],
    ).fetchall()
    return {
        "canonical_id": found.canonical_id,
        "tenant": found.tenant,
        "redirected_from": found.retired_id,
        "is_identified": bool(row.get("is_identified")),
        **{name: row.get(name) for name in _INSTANTS},
        "counts": {name: row.get(name) or 0 for name in COUNTS},
        "platforms": row.get("platforms") or [],
        "touches": {which: _touch(row, which) for which in ("first", "last")},
        "identifiers": _all(
            db,
            "SELECT i.namespace, i.value, m.is_shared, m.since_at FROM silver.identity_map_live m"
            " JOIN silver.identifiers i USING (node_id) WHERE m.canonical_id = ? ORDER BY 1, 2",
            found.canonical_id,
        ),
        "retired_ids": [r[0] for r in retired],
        "sessions": _all(
            db,
            "SELECT session_id, start_at, end_at, is_anonymous, event_count, login_event_count, platforms,"
            " first_touch.source AS touch_source, first_touch.campaign AS touch_campaign"
            " FROM silver.sessions_live WHERE owner_node_id IN"
            " (SELECT node_id FROM silver.identity_map_live WHERE canonical_id = ?)"
            f" ORDER BY start_at DESC, session_id LIMIT {int(session_limit)}",
            found.canonical_id,
        ),
    }


def _by_canonical_id(db: duckdb.DuckDBPyConnection, number: int, tenant: str | None) -> Found:
    row = db.execute(
        "SELECT tenant FROM silver.identity_map_live WHERE canonical_id = ?"
        " UNION SELECT tenant FROM gold.profiles_live WHERE canonical_id = ?",
        [number, number],
    ).fetchone()
    if row is not None and tenant in (None, row[0]):
        return Found(row[0], number)
    row = db.execute(
        "SELECT tenant, canonical_id FROM silver.identity_redirects_live WHERE retired_canonical_id = ?",
        [number],
    ).fetchone()
    if row is not None and tenant in (None, row[0]):
        return Found(row[0], row[1], retired_id=number)
    raise NoSuchPerson(f"there is no person {number}{_in(tenant)}")


def _by_identifier(db: duckdb.DuckDBPyConnection, namespace: str, value: str, tenant: str | None) -> Found:
    rows = db.execute(
        "SELECT i.tenant, m.canonical_id, i.node_id FROM silver.identifiers i"
        " LEFT JOIN silver.identity_map_live m USING (node_id)"
        " WHERE i.namespace = ? AND i.value = ? AND i.tenant = coalesce(?, i.tenant) ORDER BY 1",
        [namespace, value, tenant],
    ).fetchall()
    if not rows:
        raise NoSuchPerson(f"nobody has that {namespace}{_in(tenant)}")
    if len(rows) > 1:
        raise BadId(choose_tenant(f"that {namespace}", [row[0] for row in rows]))
    if rows[0][1] is None:
        raise NoSuchPerson(f"that {namespace} has been seen, but identifiers of its kind belong to nobody")
    return Found(rows[0][0], rows[0][1], node_id=rows[0][2])


def choose_tenant(what: str, tenants: Sequence[str]) -> str:
    """What to say of something that several tenants have."""
    shown = ", ".join(tenants[:5]) + (" …" if len(tenants) > 5 else "")
    return f"{what} exists in {len(tenants)} tenants; choose one with --tenant: {shown}"


def _in(tenant: str | None) -> str:
    return "" if tenant is None else f" in tenant {tenant!r}"


def _touch(row: dict[str, Any], which: str) -> dict[str, Any] | None:
    touch = {name: row.get(f"{which}_touch_{name}") for name in _TOUCH}
    return touch if any(touch.values()) else None


def _one(db: duckdb.DuckDBPyConnection, query: str, *values: Any) -> dict[str, Any] | None:
    rows = _all(db, query, *values)
    return rows[0] if rows else None


def _all(db: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[dict[str, Any]]:
    answer = db.execute(query, list(values))
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
