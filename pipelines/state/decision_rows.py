"""Decisions as rows of silver.identity_decisions, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from conf.tables import IDENTITY_DECISIONS
from pipelines.state.keyed_rows import numpy_of
from transforms.ingest.decisions import Decision
from transforms.ingest.values.hashing import decision_key

_INSTANTS = ("start_at", "end_at", "decided_at")


def decisions_to_rows(decisions: Iterable[tuple[Decision, bool]], batch_id: int) -> pa.Table:
    """One row per (decision, whether it counts)."""
    rows = [
        {
            "tenant": d.tenant,
            "decision_id": d.decision_id,
            "decision": d.kind,
            "is_in_force": counts,
            "joins": [{"left_node_id": a, "right_node_id": b} for a, b in d.joins],
            "sides": [{"node_id": n, "side": side} for n, side in d.sides],
            "anchor_node_id": d.anchor or None,
            "start_at": d.start_at if d.anchor else None,
            "end_at": d.end_at if d.anchor else None,
            "owner_node_id": d.owner or None,
            "undoes": d.undoes,
            "author": d.author,
            "stated_reason": d.reason,
            "decided_at": d.decided_at,
            "event_key": decision_key(*d.key)[0],
            "content_digest": d.content_digest,
            "batch_id": d.sequence[0],
            "batch_ordinal": d.sequence[1],
            "updated_batch_id": batch_id,
        }
        for d, counts in decisions
    ]
    return pa.Table.from_pylist(rows, schema=IDENTITY_DECISIONS.arrow)


def rows_to_decisions(rows: pa.Table) -> Iterator[Decision]:
    """The decisions in `rows` of silver.identity_decisions."""
    for name in _INSTANTS:
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pa.array(numpy_of(rows[name])))
    for r in rows.to_pylist():
        yield Decision(
            tenant=r["tenant"],
            decision_id=r["decision_id"],
            kind=r["decision"],
            sequence=(r["batch_id"], r["batch_ordinal"]),
            decided_at=r["decided_at"],
            joins=tuple((j["left_node_id"], j["right_node_id"]) for j in r["joins"] or ()),
            sides=tuple((s["node_id"], s["side"]) for s in r["sides"] or ()),
            anchor=r["anchor_node_id"] or 0,
            start_at=r["start_at"],
            end_at=r["end_at"],
            owner=r["owner_node_id"] or 0,
            undoes=r["undoes"],
            author=r["author"],
            reason=r["stated_reason"],
            content_digest=r["content_digest"],
        )
