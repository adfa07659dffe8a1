"""The control feed: records of what people have decided about identities, read into decisions about nodes.

{"decision_id": "…", "tenant": "…", "decision": "merge", "decided_at": "…", "author": "…", "reason": "…",
 "joins": [[A, B], …]                                  merge; and what holds the parts of a split together
 "sides": [[A, …], [B, …]]                             split, keep_apart
 "session": {"anchor": A, "start_at": "…", "end_at": "…", "owner": B or null}      assign
 "undoes": "decision_id"}                              undo
A, B: {"namespace": "…", "value": "…"}
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from transforms.ingest.decisions import KINDS, Decision
from transforms.ingest.mapping.payload import Refused
from transforms.ingest.subject import IdentifierReader, Node
from transforms.ingest.values.instants import instant

CONTROL = "control"
UNUSABLE_DECISION = "unusable_decision"
_MAX_TEXT = 2000


class ReadDecision(NamedTuple):
    """A decision as read: `content` is JSON with nodes in place of identifiers, `nodes` those that it names."""

    tenant: str
    decision_id: str
    content: bytes
    nodes: list[Node]


def read_decision(record: Any, identifiers: IdentifierReader) -> ReadDecision:
    """One record of the control feed. Refused when it is none, or names an identifier that cannot link."""
    if type(record) is not dict or record.get("decision") not in KINDS:
        raise Refused(UNUSABLE_DECISION)
    tenant, decision_id = record.get("tenant", "default"), record.get("decision_id")
    decided_at = instant(record.get("decided_at"))[0] if record.get("decided_at") is not None else None
    if not _is_text(tenant) or not _is_text(decision_id) or decided_at is None:
        raise Refused(UNUSABLE_DECISION)
    tenant, decision_id = str(tenant), str(decision_id)
    named: dict[tuple[int, int], Node] = {}

    def node(reference: Any) -> int:
        if type(reference) is not dict:
            raise Refused(UNUSABLE_DECISION)
        found = identifiers.linking_node(tenant, reference.get("namespace"), reference.get("value"))
        if found is None:
            raise Refused(UNUSABLE_DECISION)
        named[found.node_id, found.tie_hash] = found
        return found.node_id

    kind = record["decision"]
    content: dict[str, Any] = {
        "decision": kind,
        "decided_at": decided_at,
        "author": _text(record.get("author")),
        "reason": _text(record.get("reason")),
    }
    if kind in ("merge", "split", "keep_apart"):
        pairs = [(node(a), node(b)) for a, b in _lists(record.get("joins") or [], 2)]
        content["joins"] = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
    if kind in ("split", "keep_apart"):
        zero, one = _lists([record.get("sides")], 2)[0]
        sides = {(node(r), 0) for r in _list(zero)} | {(node(r), 1) for r in _list(one)}
        if len({n for n, _ in sides}) < len(sides) or {s for _, s in sides} != {0, 1}:
            raise Refused(UNUSABLE_DECISION)
        content["sides"] = sorted(sides)
    if kind == "merge" and not content["joins"]:
        raise Refused(UNUSABLE_DECISION)
    if kind == "assign":
        content |= _session(record.get("session"), node)
    if kind == "undo":
        if not _is_text(record.get("undoes")) or record["undoes"] == decision_id:
            raise Refused(UNUSABLE_DECISION)
        content["undoes"] = record["undoes"]
    return ReadDecision(
        tenant, decision_id, orjson.dumps(content, option=orjson.OPT_SORT_KEYS), sorted(named.values())
    )


def decision_of(
    tenant: str,
    decision_id: str,
    content: str,
    content_digest: int,
    sequence: tuple[int, int],
) -> Decision:
    """The decision that a parsed row of the control feed holds."""
    found = orjson.loads(content)
    return Decision(
        tenant=tenant,
        decision_id=decision_id,
        kind=found["decision"],
        sequence=sequence,
        decided_at=found["decided_at"],
        joins=tuple((a, b) for a, b in found.get("joins", ())),
        sides=tuple((n, side) for n, side in found.get("sides", ())),
        anchor=found.get("anchor", 0),
        start_at=found.get("start_at", 0),
        end_at=found.get("end_at", 0),
        owner=found.get("owner", 0),
        undoes=found.get("undoes"),
        author=found["author"],
        reason=found["reason"],
        content_digest=content_digest,
    )


def nodes_decided(content: str) -> list[int]:
    """The nodes that a parsed row of the control feed names, each once."""
    found = orjson.loads(content)
    pairs, sides = found.get("joins", ()), found.get("sides", ())
    session = [found.get("anchor", 0), found.get("owner", 0)]
    return sorted({*(n for pair in pairs for n in pair), *(n for n, _ in sides), *session} - {0})


def _session(session: Any, node: Any) -> dict[str, int]:
    if type(session) is not dict:
        raise Refused(UNUSABLE_DECISION)
    ends = [instant(session[name])[0] if session.get(name) else None for name in ("start_at", "end_at")]
    if None in ends:
        raise Refused(UNUSABLE_DECISION)
    owner = session.get("owner")
    return {
        "anchor": node(session.get("anchor")),
        "start_at": ends[0],
        "end_at": ends[1],
        "owner": 0 if owner is None else node(owner),
    }


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Refused(UNUSABLE_DECISION)
    return value


def _lists(values: Any, size: int) -> list[list[Any]]:
    lists = [_list(v) for v in _list(values)]
    if any(len(v) != size for v in lists):
        raise Refused(UNUSABLE_DECISION)
    return lists


def _is_text(value: Any) -> bool:
    return type(value) is str and 0 < len(value.strip()) <= _MAX_TEXT


def _text(value: Any) -> str | None:
    return value[:_MAX_TEXT] if type(value) is str and value else None
