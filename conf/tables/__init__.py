"""Every table of the lake, one module per schema.

`ALL` are the tables of the stream, in the order in which a batch writes them: published together.
`OUTSIDE_BATCHES` are written by other jobs, while the stream runs, and are no part of a published batch.
"""

from conf.table_spec import TableSpec
from conf.tables.bronze import BRONZE_CORRECTIONS, BRONZE_EVENTS
from conf.tables.gold import PROFILES
from conf.tables.identity import (
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    REJECTED_EDGES,
)
from conf.tables.ops import BATCHES, FILES, MIGRATIONS, QUALITY_RESULTS
from conf.tables.silver import EVENTS, QUARANTINE, SESSIONS

# The write order of a batch: bronze first, the publish row last.
WRITE_ORDER: tuple[TableSpec, ...] = (
    BRONZE_EVENTS,
    BRONZE_CORRECTIONS,
    FILES,
    QUARANTINE,
    EVENTS,
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_REDIRECTS,
    REJECTED_EDGES,
    IDENTITY_MAP,
    IDENTITY_LOG,
    SESSIONS,
    PROFILES,
    BATCHES,
)
ALL = WRITE_ORDER
OUTSIDE_BATCHES: tuple[TableSpec, ...] = (QUALITY_RESULTS, MIGRATIONS)
BY_NAME: dict[str, TableSpec] = {t.full_name: t for t in ALL}
# What the rows of a lake mean. A new nullable column needs no new format; whatever changes rows that are there does,
# and a migration in pipelines/lake/migrations.py that brings them over.
FORMAT = 4
UPSERTED: tuple[TableSpec, ...] = tuple(t for t in ALL if t.write == "upsert")

__all__ = [
    "ALL",
    "BATCHES",
    "BRONZE_CORRECTIONS",
    "BRONZE_EVENTS",
    "BY_NAME",
    "EVENTS",
    "FILES",
    "FORMAT",
    "IDENTIFIERS",
    "IDENTITY_DECISIONS",
    "IDENTITY_EDGES",
    "IDENTITY_LOG",
    "IDENTITY_MAP",
    "IDENTITY_REDIRECTS",
    "MIGRATIONS",
    "OUTSIDE_BATCHES",
    "PROFILES",
    "QUALITY_RESULTS",
    "QUARANTINE",
    "REJECTED_EDGES",
    "SESSIONS",
    "UPSERTED",
    "WRITE_ORDER",
]
