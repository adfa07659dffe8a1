"""What parsing makes of records: one row per record, refused or not, in the types of the tables it goes to."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from conf.table_spec import arrow_type
from conf.tables import BRONZE_EVENTS, EVENTS

_TYPES = {c.name: c.type for c in (*BRONZE_EVENTS.columns, *EVENTS.columns)}
_REUSED_FIRST = ("tenant", "source", "mapping", "feed", "origin", "origin_ordinal", "payload_format", "payload", "received_at")
_REUSED_THEN = (
    "event_id", "event_key", "content_digest", "event_type", "event_name", "event_at", "event_date", "platform",
    "is_authenticated", "user_node_id", "anchor_node_id", "node_ids", "weak_node_ids", "actor_node_ids",
    "touch_source", "touch_medium", "touch_campaign", "touch_referrer", "flags", "properties", "context",
)  # fmt: skip
IDENTIFIER = "struct<node_id:long,namespace:string,value:string,tie_hash:long>"

# `reasons` empty: acceptable. Otherwise the columns of the event are null and its lists empty.
# `identifiers`: the nodes of acceptable rows, each at its first occurrence in the batch of rows only.
PARSED_SCHEMA: pa.Schema = pa.schema(
    [
        *(pa.field(name, arrow_type(_TYPES[name])) for name in _REUSED_FIRST),
        pa.field("reasons", arrow_type("array<string>")),
        *(pa.field(name, arrow_type(_TYPES[name])) for name in _REUSED_THEN),
        pa.field("identifiers", arrow_type(f"array<{IDENTIFIER}>")),
    ]
)


class Records(NamedTuple):
    """Framed records, column by column. `transport_at`: when the transport had each, microseconds since 1970 in UTC."""

    source: list[str]
    mapping: list[str]
    feed: list[str]
    origin: list[str]
    origin_ordinal: list[int]
    payload_format: list[str]
    payload: list[bytes]
    transport_at: list[int | None]
