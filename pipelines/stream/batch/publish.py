"""The row that publishes: what a batch was, what it cost, and the version of every table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
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
SAME_ROWS_KINDS = frozenset(
    {"compaction", UPKEEP}
)  # of batches after which every derived table has the rows it had


@dataclass(frozen=True)
class Publication:
    """One row of ops.batches to be. `started_at` in microseconds; counts are 0 for a compaction and a rebuild, and
    what changes of those of earlier batches for a replay."""

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


def compaction_row(publication: Publication) -> pa.Table:
    """A row without records: hot parts were folded in, and the tables have other versions."""
    return _row(publication, {}, {})


def empty_row(publication: Publication, stream_batch_id: int) -> pa.Table:
    """A row of a stream's batch in which there was no record."""
    return _row(publication, {"stream_batch_id": np.array([stream_batch_id]), "inputs": pa.array(["[]"])}, {})


def upkeep_row(publication: Publication, metrics: Mapping[str, int]) -> pa.Table:
    """A row without records: the same rows in other files, and how far back batches can still be read."""
    return _row(publication, {}, metrics)


def rebuild_row(
    publication: Publication, metrics: Mapping[str, int], inputs: Mapping[str, object]
) -> pa.Table:
    """A row without records: everything derived was computed again from those that are there."""
    return _row(publication, {"inputs": pa.array([json.dumps(inputs)])}, metrics)


def migration_row(publication: Publication) -> pa.Table:
    """A row without records: rows that were there are in a newer format, in other versions of their tables."""
    return _row(publication, {}, {})


def batch_row(
    publication: Publication,
    stream_batch_id: int | None,
    received: pa.Table,
    outcome: DeduplicationOutcome,
    identified: Identified,
    owned: Owned,
) -> pa.Table:
    """`stream_batch_id`: None for a portion after which others come."""
    columns: rows.Columns = {
        "stream_batch_id": pa.array([stream_batch_id], pa.int64()),
        "record_count": np.array([rows.records_of(received.select(["record_position"])).num_rows]),
        "received_count": np.array([received.num_rows]),
        "valid_count": np.array([outcome.valid.sum()]),
        "quarantined_count": np.array([outcome.quarantined.sum()]),
        "duplicate_count": np.array([outcome.duplicate.sum()]),
        "inputs": pa.array([_inputs(received)]),
        "new_tenants": pa.array([identified.new_tenants], pa.list_(pa.string())),
    }
    return _row(publication, columns, _metrics(publication, received, outcome, identified, owned))


def replay_row(
    publication: Publication,
    stream_batch_id: int | None,
    received: pa.Table,
    outcome: DeduplicationOutcome,
    identified: Identified,
    owned: Owned,
    replaced_count: int,
    corrected_count: int,
) -> pa.Table:
    """`received` events of records that have been in quarantine, in place of `replaced_count` events there.

    The counts are what changes, so that those of all batches add up to what is there: a record that has become
    acceptable is one quarantined less and one valid more, and nothing is received again. Records are corrections.
    """
    columns: rows.Columns = {
        "stream_batch_id": pa.array([stream_batch_id], pa.int64()),
        "record_count": np.array([corrected_count]),
        "received_count": np.array([received.num_rows - replaced_count]),
        "valid_count": np.array([outcome.valid.sum()]),
        "quarantined_count": np.array([outcome.quarantined.sum() - replaced_count]),
        "duplicate_count": np.array([outcome.duplicate.sum()]),
        "inputs": pa.array([_inputs(received)]),
        "new_tenants": pa.array([identified.new_tenants], pa.list_(pa.string())),
    }
    return _row(publication, columns, _metrics(publication, received, outcome, identified, owned))


def _metrics(
    publication: Publication,
    received: pa.Table,
    outcome: DeduplicationOutcome,
    identified: Identified,
    owned: Owned,
) -> dict[str, int]:
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
        **punctuality(instants.filter(pa.array(outcome.valid)), publication.started_at),
    }


def with_metrics(row: pa.Table, metrics: Mapping[str, int]) -> pa.Table:
    """The row with further counts."""
    if not metrics:
        return row
    at = row.schema.get_field_index("metrics")
    merged = _map(dict(row["metrics"][0].as_py() or ()) | dict(metrics), pa.int64())
    return row.set_column(at, row.schema.field(at), merged.cast(row.schema.field(at).type))


def _row(publication: Publication, columns: rows.Columns, metrics: Mapping[str, int]) -> pa.Table:
    row: rows.Columns = {
        "tenant": pa.array([ALL_TENANTS]),
        "stream": pa.array([publication.stream]),
        "kind": pa.array([publication.kind]),
        **{
            f"{count}_count": np.array([0])
            for count in ("record", "received", "valid", "quarantined", "duplicate")
        },
        **columns,
        "metrics": _map(metrics, pa.int64()),
        "step_seconds": _map(publication.step_seconds, pa.float64()),
        "table_versions": _map(publication.table_versions, pa.int64()),
        "offsets": pa.array([publication.offsets]),
        "offset_entry": pa.array([publication.offset_entry], pa.string()),
        "policy_fingerprint": pa.array([publication.policy_fingerprint]),
        "mapping_fingerprints": _map(publication.mapping_fingerprints, pa.string()),
        "identifier_rules": _map(publication.identifier_rules, pa.string()),
        "code_fingerprint": pa.array([code_fingerprint()]),
        "key_fingerprint": pa.array([publication.key_fingerprint]),
        "started_at": np.array([publication.started_at]),
        "published_at": np.array([time.time_ns() // 1000]),
    }
    return rows.table_of(BATCHES, row, publication.batch_id, 1)


def _counted(prefix: str, lists: pa.ChunkedArray) -> dict[str, int]:
    found = pc.value_counts(pc.list_flatten(lists)).to_pylist()
    return {f"{prefix}_{row['values']}": row["counts"] for row in found}


def _map(values: Mapping[str, object], value_type: pa.DataType) -> pa.Array:
    return pa.array([sorted(values.items())], pa.map_(pa.string(), value_type))


def _inputs(received: pa.Table) -> str:
    groups = (
        rows.records_of(received.select(["source", "origin", "origin_ordinal", "record_position"]))
        .group_by(["source", "origin"])
        .aggregate([("origin_ordinal", "min"), ("origin_ordinal", "max"), ("origin_ordinal", "count")])
    )
    names = ("source", "origin", "first", "last", "records")
    columns = ("source", "origin", "origin_ordinal_min", "origin_ordinal_max", "origin_ordinal_count")
    lists = [groups[c].to_pylist() for c in columns]
    return json.dumps([dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)])
