"""Replay: a lake's records as the one batch of an empty lake, through the stream's own steps, its rows in memory.

bronze.events ──portions──▶ Spark: parse ──▶ BatchProcessor on an empty lake ──▶ every table's rows
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.policy import Policy
from conf.settings import Settings
from conf.source_mapping import load_mapping
from conf.table_spec import DELETED, TableSpec
from conf.tables import ALL, BATCHES, BRONZE_CORRECTIONS, BRONZE_EVENTS, QUARANTINE
from pipelines.batch.process import BatchProcessor
from pipelines.components_graphframes import choose_components
from pipelines.quarantine.corrections import corrected, corrections_of
from pipelines.state.lake_state import LakeState
from pipelines.tables.lake import Lake
from pipelines.tables.snapshot import Snapshot
from pipelines.tables.writer import Txn
from transforms.control import CONTROL
from transforms.parse import RecordParser
from transforms.replayed import BROUGHT_BY, REPLAYED_SCHEMA, replayed_for_driver

RECORDS_AT_ONCE = 200_000
_RECORD = ("source", "origin", "origin_ordinal")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Rebuilt:
    """The rows of every derived table as a lake that never knew another policy has them, ids made from nothing."""

    tables: dict[TableSpec, pa.Table]
    received_count: int
    valid_count: int
    quarantined_count: int
    duplicate_count: int


class RowsInMemory:
    """A `TableWriter` that keeps what one batch writes."""

    def __init__(self) -> None:
        self._rows: dict[TableSpec, pa.Table] = {}
        self._lock = threading.Lock()

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        if spec is not BRONZE_EVENTS:
            with self._lock:
                self._rows[spec] = rows
        return 1  # an attempt holds it against the version of the empty table, which is 0

    def fold(self, spec: TableSpec, upto_batch_id: int) -> int:
        return 0

    def forget_hot(self, spec: TableSpec, upto_batch_id: int) -> int:
        return 0

    def rows(self, spec: TableSpec) -> pa.Table:
        """The table's rows, of an upserted one those that its hot part stands for."""
        if spec.write != "upsert":
            return self._rows.get(spec, spec.arrow.empty_table())
        hot = self._rows.get(spec.hot, spec.hot.arrow.empty_table())
        live = hot.filter(pc.invert(pc.fill_null(hot[DELETED], False)))
        return live.select(spec.names).cast(spec.arrow)


class _Replay(BatchProcessor):
    """One batch of records that came in many: they count in the order in which they came."""

    def in_order(self, received: pa.Table) -> pa.Table:
        by = [(name, "ascending") for name in (BROUGHT_BY, *_RECORD, "record_position")]
        return received.combine_chunks().sort_by(by).combine_chunks()


def replay(
    spark: SparkSession,
    snapshot: Snapshot,
    policy: Policy,
    key: bytes,
    settings: Settings,
    progress: Progress,
) -> Rebuilt:
    """Every derived table computed from the snapshot's bronze under `policy`. Nothing of the lake is written."""
    mappings = {name: load_mapping(name) for name in _mappings(snapshot)}
    parser = RecordParser(mappings, policy, key, settings.max_record_bytes)
    corrections = corrections_of(snapshot)
    received = read_again(spark, snapshot, corrections, parser, progress)
    progress(f"resolving and folding {received.num_rows:,} records")
    components = choose_components(settings.engine, spark, settings.graphframes_from_edges)
    memory = RowsInMemory()
    with tempfile.TemporaryDirectory(prefix="stitchlake-rebuild-") as scratch:
        empty = Lake(Path(scratch) / "lake")
        empty.create_missing(ALL)
        processor = _Replay(
            empty,
            memory,
            parser,
            policy,
            components,
            settings,
            "rebuild",
            "",
            open_state=partial(LakeState.load, policy=policy),
        )
        processor.process(lambda: received, 0)
    tables = {
        spec: memory.rows(spec) for spec in ALL if spec not in (BRONZE_EVENTS, BRONZE_CORRECTIONS, BATCHES)
    }
    tables[QUARANTINE] = _with_payloads(tables[QUARANTINE], snapshot, corrections)
    counts = memory.rows(BATCHES).to_pylist() or [{}]
    names = ("received_count", "valid_count", "quarantined_count", "duplicate_count")
    return Rebuilt(tables, **{name: counts[0].get(name, 0) for name in names})


def read_again(
    spark: SparkSession, snapshot: Snapshot, corrections: pa.Table, parser: RecordParser, progress: Progress
) -> pa.Table:
    """The snapshot's records, corrected ones as corrected, as the parser reads them now, in REPLAYED_SCHEMA."""
    portions = list(_portions(snapshot))
    total = sum(count for _, _, count in portions)
    bronze = (
        spark.read.format("delta")
        .option("versionAsOf", snapshot.version(BRONZE_EVENTS))
        .load(str(snapshot.lake.table_path(BRONZE_EVENTS)))
    )
    bronze = corrected(bronze, corrections)
    parts, done = [REPLAYED_SCHEMA.empty_table()], 0
    for first, last, count in portions:
        rows = bronze.where(F.col("batch_id").between(first, last))
        parts.append(replayed_for_driver(rows, parser))
        done += count
        progress(f"read {done:,} of {total:,} records again")
    return pa.concat_tables(parts)


def _mappings(snapshot: Snapshot) -> list[str]:
    """The mappings that the snapshot's records are read by."""
    kinds = snapshot.dataset(BRONZE_EVENTS).to_table(columns=["mapping", "feed"])
    kinds = kinds.group_by(["mapping", "feed"]).aggregate([])
    return sorted(set(kinds.filter(pc.not_equal(kinds["feed"], CONTROL))["mapping"].to_pylist()))


def _portions(snapshot: Snapshot) -> Iterator[tuple[int, int, int]]:
    """(first batch, last batch, records): runs of whole batches of about RECORDS_AT_ONCE records."""
    batches = snapshot.arrow(BATCHES, ["batch_id", "received_count"]).sort_by("batch_id")
    first, last, count = None, 0, 0
    for batch_id, received in zip(*(c.to_pylist() for c in batches.columns), strict=True):
        if not received:
            continue
        if first is not None and count + received > RECORDS_AT_ONCE:
            yield first, last, count
            first, count = None, 0
        first = batch_id if first is None else first
        last, count = batch_id, count + received
    if first is not None:
        yield first, last, count


def _with_payloads(quarantine: pa.Table, snapshot: Snapshot, corrections: pa.Table) -> pa.Table:
    """Conflicting records were acceptable as such, so their bytes are still to be had from bronze."""
    lacking = np.flatnonzero(quarantine["payload"].is_null().to_numpy())
    if not len(lacking):
        return quarantine
    wanted = quarantine.take(pa.array(lacking)).select(list(_RECORD))
    found = snapshot.dataset(BRONZE_EVENTS).to_table(
        columns=[*_RECORD, "payload"],
        filter=pc.field("origin").isin(wanted["origin"].unique())
        & pc.field("origin_ordinal").isin(wanted["origin_ordinal"].unique()),
    )
    bytes_of = dict(zip(_places(found), found["payload"].to_pylist(), strict=True))
    bytes_of |= zip(_places(corrections), corrections["payload"].to_pylist(), strict=True)
    payloads = quarantine["payload"].to_pylist()
    for at, place_of in zip(lacking.tolist(), _places(wanted), strict=True):
        payloads[at] = bytes_of.get(place_of)
    place = quarantine.schema.get_field_index("payload")
    field = quarantine.schema.field(place)
    return quarantine.set_column(place, field, pa.array(payloads, field.type))


def _places(records: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(records[name].to_pylist() for name in _RECORD), strict=True))
