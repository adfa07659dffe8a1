"""How a plain, good event looks in each shipped format that the corpus poisons, and where its parts are."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """Where a format keeps what an event needs: dotted paths. `tenant` is None where it has no place for one.

    `is_utc`: a time without an offset is UTC by definition there, and not flagged.
    """

    mapping: str
    event_id: str
    at: str
    device: str
    user: str
    tenant: str | None
    event_type: str
    platform: str
    is_utc: bool
    base: Record

    def record(self, number: object, **changes: object) -> Record:
        """A good event of its own, with parts (`at`, `user`, …) or further fields changed; `...` takes one out."""
        record = copy.deepcopy(self.base)
        parts = {"event_id": f"e-{number}", "at": "2026-03-01T12:00:00Z", "device": f"d-{number}"} | changes
        for part, value in parts.items():
            path = getattr(self, part, None) if part != "base" else None
            put(record, path if isinstance(path, str) else part, value)
        return record


def put(record: Record, path: str, value: object) -> None:
    """Set what is at a dotted path; `...` takes it out."""
    *outer, last = path.split(".")
    for name in outer:
        record = record.setdefault(name, {})
    if value is ...:
        record.pop(last, None)
    else:
        record[last] = value


SHAPES = {
    s.mapping: s
    for s in (
        Shape(
            "native", "event_id", "timestamp", "identifiers.device_id", "identifiers.user_id", "tenant",
            "event_type", "platform", False,
            {"event_type": "page_view", "platform": "web", "properties": {"price": 1.5, "tags": ["ä", "b"]}},
        ),
        Shape(
            "flat", "event_id", "timestamp", "device_id", "user_id", "customer_id",
            "event_type", "platform", False,
            {"event_type": "page_view", "platform": "web", "price": 1.5, "city": "Köln"},
        ),
        Shape(
            "segment", "messageId", "timestamp", "context.device.id", "userId", None, "type", "channel", True,
            {"type": "track", "event": "Viewed", "channel": "browser", "properties": {"price": 1.5, "tags": ["ä"]}},
        ),
        Shape(
            "snowplow", "event_id", "derived_tstamp", "domain_userid", "user_id", None, "event_name", "platform",
            True, {"event_name": "page_view", "platform": "web", "br_lang": "de", "page_title": "Köln", "x": [1.5]},
        ),
        Shape(
            "shopstream", "event_id", "timestamp", "session_id", "user_id", None, "event_type", "device_type", True,
            {"event_type": "pageview", "device_type": "mobile", "country": "Österreich", "properties": {"price": 1.5}},
        ),
    )
}  # fmt: skip
