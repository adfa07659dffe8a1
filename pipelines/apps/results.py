"""What a lake found, as lines of JSON: identifiers and their persons, events and theirs, refused pairs."""

from __future__ import annotations

from pathlib import Path

import duckdb
import orjson

from conf.policy import Policy
from pipelines.lake.lake import Lake
from pipelines.lake.views import register_duckdb

# A thrown-away lake mints ids that mean nothing afterwards: a person is named after its first member, a session
# after its first event, so that outputs of several runs compare.
# Weak identifiers are nobody's name, even where the policy attaches them.
_MEMBERS = """
SELECT i.tenant, i.namespace, i.value, m.canonical_id
FROM silver.identity_map_live m JOIN silver.identifiers i USING (node_id)
WHERE NOT list_contains($weak, i.namespace)
"""
_NAMES = f"""
SELECT tenant, canonical_id, min(namespace || ':' || value) AS name FROM ({_MEMBERS}) GROUP BY tenant, canonical_id
"""
_EVENTS = """
SELECT e.tenant, e.event_id, e.canonical_id, e.session_id, s.start_event_id, s.owner_node_id, s.anchor_node_id
FROM gold.events e JOIN silver.sessions_live s USING (session_id)
"""
# Pairs that clustering refused, and pairs of a shared identifier with somebody who does not own it.
_REFUSED = """
SELECT l.tenant, l.namespace || ':' || l.value AS a, r.namespace || ':' || r.value AS b, x.reason
FROM (
  SELECT left_node_id, right_node_id, reason FROM silver.rejected_edges_live
  UNION
  SELECT e.left_node_id, e.right_node_id,
         CASE WHEN (a.is_hub OR b.is_hub) THEN 'hub' ELSE 'shared_identifier' END
  FROM silver.identity_edges_live e
  JOIN silver.identity_map_live a ON a.node_id = e.left_node_id
  JOIN silver.identity_map_live b ON b.node_id = e.right_node_id
  WHERE a.canonical_id <> b.canonical_id AND (a.is_shared OR b.is_shared)
) x
JOIN silver.identifiers l ON l.node_id = x.left_node_id
JOIN silver.identifiers r ON r.node_id = x.right_node_id
"""


def connect(lake: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with every table and view of the lake."""
    connection = duckdb.connect()
    register_duckdb(connection, Lake(lake))
    return connection


def write_owners(lake: Path, policy: Policy, output: Path, names_are_members: bool) -> dict[str, int]:
    """One sorted line per identifier of a linking namespace: {"tenant","namespace","value","canonical_id"}."""
    with connect(lake) as db:
        rows = db.execute(
            f"SELECT m.*, n.name FROM ({_MEMBERS}) m JOIN ({_NAMES}) n USING (tenant, canonical_id)",
            {"weak": _weak(policy)},
        ).fetchall()
    lines = [
        {"tenant": t, "namespace": n, "value": v, "canonical_id": name if names_are_members else str(c)}
        for t, n, v, c, name in rows
    ]
    _write(output, lines)
    return {"identifiers": len(rows), "persons": len({(r[0], r[3]) for r in rows})}


def write_events(lake: Path, policy: Policy, output: Path, names_are_members: bool) -> None:
    """One sorted line per valid event: {"tenant","event_id","canonical_id","session_id"}."""
    with connect(lake) as db:
        # A session that nobody claims belongs to no identifier: it is named after its anchor.
        rows = db.execute(
            f"""
            SELECT e.tenant, e.event_id, e.canonical_id, e.session_id, e.start_event_id,
                   coalesce(n.name, 'unclaimed:' || a.namespace || ':' || a.value)
            FROM ({_EVENTS}) e
            LEFT JOIN ({_NAMES}) n USING (tenant, canonical_id)
            LEFT JOIN silver.identifiers a ON a.node_id = e.anchor_node_id
            """,
            {"weak": _weak(policy)},
        ).fetchall()
    _write(
        output,
        [
            {
                "tenant": t,
                "event_id": e,
                "canonical_id": name if names_are_members else str(c),
                "session_id": start if names_are_members else str(s),
            }
            for t, e, c, s, start, name in rows
        ],
    )


def write_refusals(lake: Path, output: Path) -> None:
    """One sorted line per refused pair: {"tenant","left","right","reason"}; the smaller name is left."""
    with connect(lake) as db:
        rows = db.execute(_REFUSED).fetchall()
    _write(output, [{"tenant": t, "left": min(a, b), "right": max(a, b), "reason": r} for t, a, b, r in rows])


def _weak(policy: Policy) -> list[str]:
    return [n.name for n in policy.namespaces if n.strength == "weak"]


def _write(output: Path, rows: list[dict[str, object]]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = sorted(orjson.dumps(row) for row in rows)
    output.write_bytes(b"".join(line + b"\n" for line in lines))
