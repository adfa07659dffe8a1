"""The row of ops.batches that publishes a batch: what the batch was, what it cost, the version of every table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import BATCHES
from pipelines.lake.batch_rows import UPKEEP
from pipelines.runtime.fingerprint import code_fingerprint
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import Owned
from pipelines.stream.batch.resolution import Identified
from quality.punctuality import punctuality
from transforms.ingest.deduplication import DeduplicationOutcome

ALL_TENANTS = "*"
PORTION = "portion"  # the kind of a batch after which more of the same batch of the stream comes
# The kinds of batches that leave the rows of every derived table as they were.
SAME_ROWS_KINDS = frozenset({"compaction", UPKEEP})


@dataclass(frozen=True)
class Publication:
    """One row of ops.batches to be: each field is the column of its name. `started_at` in microseconds.

    Counts are 0 for what has no records: a compaction, a rebuild, an upkeep. Those of a replay are what it changes of
    the counts of earlier batches.
    """

    stream: str
    kind: str
    batch_id: int
    started_at: int
    table_versions: Mapping[str, int]
    step_seconds: Mapping[str, float]
    policy_fingerprint: str
    key_fingerprint: str
    offsets: str  # the offsets of record as of this batch, as JSON
    offset_entry: str | None = None  # hash of the checkpoint's offset entry by which it was read
    mapping_fingerprints: Mapping[str, str] = field(default_factory=dict)
    identifier_rules: Mapping[str, str] = field(default_factory=dict)
    stream_batch_id: int | None = (
        None  # None for a portion after which others come, and for what no stream has read
    )
    record_count: int = 0
    received_count: int = 0
    valid_count: int = 0
    quarantined_count: int = 0
    duplicate_count: int = 0
    inputs: str | None = None  # what was read, as JSON
    new_tenants: Sequence[str] | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)


def publication_row(publication: Publication) -> pa.Table:
    """The row of ops.batches, published now by this program. A column that has no field here is null."""
    values = {f.name: getattr(publication, f.name) for f in fields(publication)} | {
        "tenant": ALL_TENANTS,
        "code_fingerprint": code_fingerprint(),
        "published_at": time.time_ns() // 1000,
    }
    columns: rows.Columns = {
        name: pa.array([sorted(v.items()) if isinstance(v, Mapping) else v], BATCHES.arrow.field(name).type)
        for name, v in values.items()
    }
    return rows.table_of(BATCHES, columns, publication.batch_id, 1)


def metrics_of(
    received: pa.Table, outcome: DeduplicationOutcome, identified: Identified, owned: Owned, started_at: int
) -> dict[str, int]:
    """The counts of a batch that have no column of their own. `started_at` in microseconds."""
    causes = pc.value_counts(pa.array(identified.resolution.cause, pa.string())).to_pylist()
    instants = received.select(["event_at", "received_at"])
    return {
        **_counted("flag", received["flags"]),
        **_counted("reason", received["reasons"]),
        **{f"nodes_{row['values']}": row["counts"] for row in causes if row["values"]},
        "solved_node_count": identified.resolution.solved_node_count,
        "touched_person_count": len(owned.persons),
        "changed_session_count": owned.sessions.num_rows,
        "conflicting_duplicate_count": int(outcome.conflicting.sum()),
        **punctuality(instants.filter(pa.array(outcome.valid)), started_at),
    }


def inputs_of(received: pa.Table) -> str:
    """The ranges of records that were read of every origin, as JSON."""
    groups = (
        rows.records_of(received.select(["source", "origin", "origin_ordinal", "record_position"]))
        .group_by(["source", "origin"])
        .aggregate([("origin_ordinal", "min"), ("origin_ordinal", "max"), ("origin_ordinal", "count")])
    )
    return json.dumps(
        [
            {
                "source": group["source"],
                "origin": group["origin"],
                "first": group["origin_ordinal_min"],
                "last": group["origin_ordinal_max"],
                "records": group["origin_ordinal_count"],
            }
            for group in groups.to_pylist()
        ]
    )


def _counted(prefix: str, lists: pa.ChunkedArray) -> dict[str, int]:
    found = pc.value_counts(pc.list_flatten(lists)).to_pylist()
    return {f"{prefix}_{row['values']}": row["counts"] for row in found}
