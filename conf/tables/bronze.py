"""Bronze: what arrived, byte for byte."""

from conf.table_spec import ColumnSpec, TableSpec
from conf.tables import columns as c

BRONZE_EVENTS = TableSpec(
    "bronze",
    "events",
    "one received record of any identity-bearing feed or of the control inbox, its bytes untouched",
    (
        c.TENANT,  # of an envelope: its first event's
        c.SOURCE,
        ColumnSpec("mapping", "string", "the source mapping that reads the record", "provenance"),
        ColumnSpec(
            "feed", "string", "`events`, or `control` for manual decisions", accepted=("events", "control")
        ),
        c.ORIGIN,
        c.ORIGIN_ORDINAL,
        ColumnSpec(
            "payload_format",
            "string",
            "how the payload is to be read: `json`, `csv`, `unreadable`, or `tombstone` where there is none",
            accepted=("json", "csv", "unreadable", "tombstone"),
        ),
        ColumnSpec(
            "payload",
            "binary",
            "the record's bytes; a CSV record is preceded by its file's header line; null for a tombstone",
            personal=True,
            identifies=True,
        ),
        ColumnSpec(
            "record_key",
            "binary",
            "the key that the broker had for the record",
            "provenance",
            personal=True,
            identifies=True,
        ),
        ColumnSpec(
            "headers",
            "array<struct<key:string,value:binary>>",
            "the headers that the broker had for the record, in their order",
            "provenance",
            personal=True,
            identifies=True,
        ),
        c.RECEIVED_AT,
        c.BATCH_ID,
    ),
    ("source", "origin", "origin_ordinal"),
    "append",
)

BRONZE_CORRECTIONS = TableSpec(
    "bronze",
    "corrections",
    "one payload that somebody has given in place of a refused record's; the record's own bytes stay in bronze.events. "
    "The latest one of a record counts",
    (
        c.TENANT,
        c.SOURCE,
        c.ORIGIN,
        c.ORIGIN_ORDINAL,
        ColumnSpec(
            "payload",
            "binary",
            "the corrected record, to be read as the record was",
            personal=True,
            identifies=True,
        ),
        ColumnSpec("author", "string", "who corrected it", "provenance", personal=True),
        ColumnSpec("corrected_at", "timestamp", "when it was corrected", "provenance"),
        c.BATCH_ID,
    ),
    ("source", "origin", "origin_ordinal", "batch_id"),
    "append",
    made_from=("bronze.events",),
)
