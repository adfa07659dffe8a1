"""Why two identifiers are one person or are not, and what one person is made of: read from the published tables."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb

from conf.policy import Policy
from pipelines.operations.decisions.persons import Person, find_person
from transforms.identity.path import shortest_path

# Evidence with an end in one of some persons' nodes, merges that somebody decided among it; both ends by name.
_EDGES = """
WITH mine AS (
  SELECT node_id FROM silver.identity_map_live WHERE list_contains(?, canonical_id) AND node_id > 0
),
decided AS (
  SELECT d.decision_id, unnest(d.joins) AS pair, d.decided_at
  FROM silver.identity_decisions_live AS d WHERE d.is_in_force
),
edges AS (
  SELECT left_node_id, right_node_id, source, kind, evidence_count, first_seen_at, last_seen_at,
         CAST(NULL AS VARCHAR) AS decision_id
  FROM silver.identity_edges_live
  UNION ALL
  SELECT pair.left_node_id, pair.right_node_id, 'control', 'merge', 1, decided_at, decided_at, decision_id FROM decided
)
SELECT e.*, l.namespace || ':' || l.value AS left_name, r.namespace || ':' || r.value AS right_name,
       lm.canonical_id AS left_person, rm.canonical_id AS right_person,
       lm.is_shared AS left_shared, rm.is_shared AS right_shared, lm.is_hub OR rm.is_hub AS has_hub
FROM edges AS e
JOIN silver.identifiers AS l ON l.node_id = e.left_node_id
JOIN silver.identifiers AS r ON r.node_id = e.right_node_id
JOIN silver.identity_map_live AS lm ON lm.node_id = e.left_node_id
JOIN silver.identity_map_live AS rm ON rm.node_id = e.right_node_id
WHERE e.left_node_id IN (SELECT node_id FROM mine) OR e.right_node_id IN (SELECT node_id FROM mine)
ORDER BY e.first_seen_at, left_name, right_name, e.source, e.kind
"""
_REFUSALS = """
SELECT x.left_node_id, x.right_node_id, x.reason, x.limit_count,
       l.namespace || ':' || l.value AS left_name, r.namespace || ':' || r.value AS right_name,
       bl.namespace || ':' || bl.value AS blocking_left, br.namespace || ':' || br.value AS blocking_right,
       lm.canonical_id AS left_person, rm.canonical_id AS right_person
FROM silver.rejected_edges_live AS x
JOIN silver.identifiers AS l ON l.node_id = x.left_node_id
JOIN silver.identifiers AS r ON r.node_id = x.right_node_id
JOIN silver.identifiers AS bl ON bl.node_id = x.blocking_left_node_id
JOIN silver.identifiers AS br ON br.node_id = x.blocking_right_node_id
JOIN silver.identity_map_live AS lm ON lm.node_id = x.left_node_id
JOIN silver.identity_map_live AS rm ON rm.node_id = x.right_node_id
WHERE list_contains(?, lm.canonical_id) OR list_contains(?, rm.canonical_id)
ORDER BY left_name, right_name
"""
_APART = """
SELECT d.decision_id, d.decision, d.decided_at, d.author, d.stated_reason
FROM silver.identity_decisions_live AS d
WHERE d.is_in_force AND d.decision IN ('split', 'keep_apart')
  AND EXISTS (SELECT 1 FROM unnest(d.sides) AS t(s) JOIN silver.identity_map_live AS m ON m.node_id = s.node_id
              WHERE m.canonical_id = ?)
  AND EXISTS (SELECT 1 FROM unnest(d.sides) AS t(s) JOIN silver.identity_map_live AS m ON m.node_id = s.node_id
              WHERE m.canonical_id = ?)
"""
_DECISIONS = """
SELECT DISTINCT d.decision_id, d.decision, d.is_in_force, d.decided_at, d.author, d.stated_reason
FROM silver.identity_decisions_live AS d, silver.identity_map_live AS m
WHERE m.canonical_id = ?
  AND (list_contains(list_transform(d.sides, lambda s: s.node_id), m.node_id)
       OR list_contains(list_transform(d.joins, lambda j: j.left_node_id), m.node_id)
       OR list_contains(list_transform(d.joins, lambda j: j.right_node_id), m.node_id)
       OR d.owner_node_id = m.node_id)
ORDER BY d.decided_at
"""
_HISTORY = """
SELECT g.batch_id, g.logged_at, g.cause, i.namespace || ':' || i.value AS name, g.from_canonical_id, g.to_canonical_id
FROM silver.identity_log AS g
JOIN silver.identifiers AS i USING (node_id)
WHERE g.node_id IN (SELECT node_id FROM silver.identity_map_live WHERE canonical_id = ?)
ORDER BY g.batch_id, name
"""
_RETIRED = """
SELECT retired_canonical_id FROM silver.identity_redirects_live WHERE canonical_id = ? ORDER BY 1
"""


def explain_person(
    db: duckdb.DuckDBPyConnection, text: str, policy: Policy, tenant: str | None
) -> dict[str, Any]:
    """One person: identifiers, evidence, refusals, decisions and history."""
    person = find_person(db, text, policy, tenant)
    wanted = [person.canonical_id]
    return {
        "canonical_id": person.canonical_id,
        "asked_for_retired_id": person.retired_id,
        "retired_ids": [r for (r,) in db.execute(_RETIRED, wanted).fetchall()],
        "identifiers": [
            {"name": m.name, "is_shared": m.is_shared, "is_hub": m.is_hub} for m in person.members
        ],
        "evidence": [_edge(e) for e in _rows(db, _EDGES, [wanted])],
        "refusals": [_refusal(r) for r in _rows(db, _REFUSALS, [wanted, wanted])],
        "decisions": _rows(db, _DECISIONS, wanted),
        "history": _rows(db, _HISTORY, wanted),
    }


def explain_pair(
    db: duckdb.DuckDBPyConnection, left: str, right: str, policy: Policy, tenant: str | None
) -> dict[str, Any]:
    """Why `left` and `right` are one person: the path of evidence. Or why not: what stands between them."""
    a, b = (find_person(db, text, policy, tenant) for text in (left, right))
    wanted = sorted({a.canonical_id, b.canonical_id})
    edges = _rows(db, _EDGES, [wanted])
    ends = [_node(p) for p in (a, b)]
    is_one = a.canonical_id == b.canonical_id
    usable = [e for e in edges if not is_one or e["left_person"] == e["right_person"] == a.canonical_id]
    nodes = shortest_path(
        ((e["left_node_id"], e["right_node_id"], e["evidence_count"]) for e in usable), *ends
    )
    path = [_step(usable, *pair) for pair in itertools.pairwise(nodes)] if nodes else []
    found: dict[str, Any] = {
        "is_one_person": is_one,
        "canonical_ids": wanted,
        "is_connected": nodes is not None,
        "path": path,
    }
    if not is_one:
        refusals = _rows(db, _REFUSALS, [wanted, wanted])
        refused = {(r["left_node_id"], r["right_node_id"]) for r in refusals}
        between = {a.canonical_id, b.canonical_id}
        on_path = set(itertools.pairwise(nodes)) if nodes else set()
        found["refusals"] = [
            _refusal(r)
            for r in refusals
            if {r["left_person"], r["right_person"]} == between
            or (r["left_node_id"], r["right_node_id"]) in on_path
            or (r["right_node_id"], r["left_node_id"]) in on_path
        ]
        found["decisions"] = _rows(db, _APART, [a.canonical_id, b.canonical_id])
        for step in path:
            step["is_refused"] = tuple(step.pop("nodes")) in refused
    for step in path:
        step.pop("nodes", None)
    return found


def _node(person: Person) -> int:
    """The identifier that was asked for; of a canonical id the first that is nobody else's."""
    if person.node_id is not None:
        return person.node_id
    return min(person.members, key=lambda m: (m.is_shared, m.name)).node_id


def _step(edges: list[dict[str, Any]], a: int, b: int) -> dict[str, Any]:
    """All evidence of one step of a path, from `a` to `b`."""
    mine = [e for e in edges if {e["left_node_id"], e["right_node_id"]} == {a, b}]
    first = mine[0]
    is_forward = first["left_node_id"] == a
    names = (first["left_name"], first["right_name"])
    shared = (first["left_shared"], first["right_shared"])
    return {
        "from": names[not is_forward],
        "to": names[is_forward],
        "nodes": [first["left_node_id"], first["right_node_id"]],
        "from_is_shared": shared[not is_forward],
        "to_is_shared": shared[is_forward],
        "evidence_count": sum(e["evidence_count"] for e in mine),
        "first_seen_at": min(e["first_seen_at"] for e in mine),
        "last_seen_at": max(e["last_seen_at"] for e in mine),
        "kinds": sorted({e["kind"] for e in mine}),
        "sources": sorted({e["source"] for e in mine}),
        "decision_ids": sorted({e["decision_id"] for e in mine if e["decision_id"]}),
    }


def _edge(e: dict[str, Any]) -> dict[str, Any]:
    shown = ("source", "kind", "evidence_count", "first_seen_at", "last_seen_at", "decision_id")
    return {
        "left": e["left_name"],
        "right": e["right_name"],
        **{k: e[k] for k in shown},
        "leads_to_other_person": e["left_person"] != e["right_person"],
    }


def _refusal(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "left": r["left_name"],
        "right": r["right_name"],
        "reason": r["reason"],
        "limit": r["limit_count"],
        "blocking": [r["blocking_left"], r["blocking_right"]],
    }


def _rows(db: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> list[dict[str, Any]]:
    found = db.execute(query, values)
    names = [c[0] for c in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
