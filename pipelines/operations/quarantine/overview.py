"""What is in quarantine, as counts and event by event, ready for JSON."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from conf.bad_input import explained
from pipelines.operations.quarantine.selection import BYTES


def summary(events: pa.Table) -> dict[str, Any]:
    """Of `selected` events: how many, and per reason, source and mapping from which batches and when received. An event
    that was refused for two reasons counts under both."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    columns = ["reasons", "source", "mapping", "batch_id", "received_at", BYTES]
    for row in events.select(columns).to_pylist():
        for reason in row["reasons"]:
            groups[reason, row["source"], row["mapping"]].append(row)
    found = [
        {
            "reason": reason,
            "source": source,
            "mapping": mapping,
            "event_count": len(rows),
            "byte_count": sum(r[BYTES] for r in rows),
            "first_batch_id": min(r["batch_id"] for r in rows),
            "last_batch_id": max(r["batch_id"] for r in rows),
            "first_received_at": _text(min(_received(rows), default=None)),
            "last_received_at": _text(max(_received(rows), default=None)),
            "means": explained(reason)[0],
            "way_out": explained(reason)[1],
        }
        for (reason, source, mapping), rows in groups.items()
    ]
    found.sort(key=lambda g: (-g["event_count"], g["reason"], g["source"], g["mapping"]))
    return {"event_count": events.num_rows, "groups": found}


def described(rows: pa.Table) -> list[dict[str, Any]]:
    """Whole rows of the quarantine; each can be corrected and given back to a replay as it is."""
    return [_described(row) for row in rows.to_pylist()]


def _described(row: dict[str, Any]) -> dict[str, Any]:
    payload = row.pop("payload")
    row["received_at"] = _text(row["received_at"])
    if payload is None:
        return row | {"payload": None}
    try:
        return row | {"payload": payload.decode()}
    except UnicodeDecodeError:
        return row | {"payload_base64": base64.b64encode(payload).decode()}


def _received(rows: Iterable[dict[str, Any]]) -> Iterable[datetime]:
    return (r["received_at"] for r in rows if r["received_at"] is not None)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
