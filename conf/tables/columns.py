"""Columns that several tables share, declared once."""

from conf.table_spec import ColumnSpec

TENANT = ColumnSpec(
    "tenant", "string", "whose data this is; nothing ever links across tenants", nullable=False
)
BATCH_ID = ColumnSpec("batch_id", "long", "the lake's batch that wrote the row", "provenance", nullable=False)
UPDATED_BATCH_ID = ColumnSpec(
    "updated_batch_id",
    "long",
    "the lake's batch that last changed the row; follow it to see changes",
    "provenance",
    nullable=False,
)
SOURCE = ColumnSpec(
    "source", "string", "the source that delivered the record: mapping and place", "provenance"
)
ORIGIN = ColumnSpec("origin", "string", "file inside the source's folder, or topic-partition", "provenance")
ORIGIN_ORDINAL = ColumnSpec(
    "origin_ordinal", "long", "place in its origin: record number in the file, or offset", "provenance"
)
RECORD_POSITION = ColumnSpec(
    "record_position",
    "long",
    "place of the event in its record: 0, or in an envelope of several events 0, 1, 2, …",
    "provenance",
)
RECEIVED_AT = ColumnSpec(
    "received_at",
    "timestamp",
    "when the record reached us: its own claim, else the transport's time",
    "provenance",
)
NODE_ID = ColumnSpec(
    "node_id", "long", "keyed hash of tenant, namespace and normalised value", nullable=False
)
CANONICAL_ID = ColumnSpec(
    "canonical_id", "long", "the stable id of a person; smaller is older", "provenance", nullable=False
)
