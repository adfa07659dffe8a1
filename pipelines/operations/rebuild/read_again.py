"""The records of some batches, read again: from bronze by the mappings as they are now, or as they were published.

On Spark's executors where there is a session and enough to do, else in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.tables import BRONZE_EVENTS, EVENTS, IDENTIFIERS, QUARANTINE
from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.snapshot import Snapshot
from pipelines.operations.quarantine.corrections import RECORD, corrected, corrected_rows, corrections_of
from pipelines.operations.rebuild.dates import Dates, among, records_of
from pipelines.operations.upkeep.archive import require_all_records
from transforms.ingest.as_published import events_as_parsed, nodes_named, refused_as_parsed
from transforms.ingest.control import CONTROL
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import CARRIED
from transforms.ingest.replayed import FRAMED, REPLAYED_SCHEMA, replayed_for_driver, replaying

RECORDS_AT_ONCE = 200_000
SPARK_READS_FROM = 20_000  # fewer are read before the executors have begun
_PLACED = ("batch_id", "received_at")


@dataclass(frozen=True)
class Portion:
    """The batches after `after` up to and including `upto`, with `received_count` events in them."""

    after: int
    upto: int
    received_count: int

    def brought(self) -> pc.Expression:
        """The condition that chooses the records of these batches."""
        return (pc.field("batch_id") > self.after) & (pc.field("batch_id") <= self.upto)


def portions(snapshot: Snapshot, after: int) -> list[Portion]:
    """Everything that was published after the batch `after`, in runs of whole batches of about RECORDS_AT_ONCE."""
    rows = BatchRows(snapshot.lake)
    batches = rows.between(["batch_id", "received_count"], after + 1, snapshot.batch_id)
    found: list[Portion] = []
    for batch_id, received in zip(*(c.to_pylist() for c in batches.columns), strict=True):
        last = found[-1] if found else None
        if last is None or (received and last.received_count + received > RECORDS_AT_ONCE):
            found.append(Portion(last.upto if last else after, batch_id, received or 0))
        else:
            found[-1] = Portion(last.after, batch_id, last.received_count + (received or 0))
    return found


def mappings_of(snapshot: Snapshot, after: int) -> list[str]:
    """The mappings that the records of the batches after `after` are read by."""
    kinds = snapshot.dataset(BRONZE_EVENTS).to_table(
        columns=["mapping", "feed"], filter=pc.field("batch_id") > after
    )
    kinds = kinds.group_by(["mapping", "feed"]).aggregate([])
    return sorted(set(kinds.filter(pc.not_equal(kinds["feed"], CONTROL))["mapping"].to_pylist()))


class Reader:
    """Reads the records of one snapshot again, those of the batches after `after`. `dates`: only those of the range;
    the others are taken as they were published."""

    def __init__(
        self,
        snapshot: Snapshot,
        after: int,
        parser: RecordParser,
        dates: Dates | None,
        spark: SparkSession | None,
    ) -> None:
        self._snapshot, self._parser, self._spark = snapshot, parser, spark
        if dates is None and not after:
            require_all_records(snapshot)
        self._corrections = corrections_of(snapshot)
        self._chosen = None if dates is None else records_of(snapshot, dates, after)
        self._mapping_of = _mapping_names(snapshot, after) if dates is not None else {}

    def read(self, portion: Portion) -> pa.Table:
        """The portion's records in REPLAYED_SCHEMA, in no order."""
        if self._chosen is None:
            return self._parsed(portion)
        parts = [self._parsed(portion), *self._as_published(portion, self._chosen)]
        return pa.concat_tables(parts)

    def _parsed(self, portion: Portion) -> pa.Table:
        is_much = portion.received_count >= SPARK_READS_FROM
        if self._spark is not None and is_much and self._chosen is None:
            bronze = (
                self._spark.read.format("delta")
                .option("versionAsOf", self._snapshot.version(BRONZE_EVENTS))
                .load(str(self._snapshot.lake.table_path(BRONZE_EVENTS)))
            )
            bronze = corrected(bronze, self._corrections)
            rows = bronze.where((F.col("batch_id") > portion.after) & (F.col("batch_id") <= portion.upto))
            return replayed_for_driver(rows, self._parser)
        read = replaying(self._parser)
        found = pa.Table.from_batches(read(self._records(portion)), schema=REPLAYED_SCHEMA)
        return found

    def _records(self, portion: Portion) -> Iterator[pa.RecordBatch]:
        """The records of bronze that are to be read again, each once."""
        columns = [*(name for name in FRAMED if name not in CARRIED), *_PLACED]
        seen: set[tuple[str, str, int]] = set()
        may_repeat = any(mapping.explode is not None for mapping in self._parser.mappings.values())
        bronze = self._snapshot.dataset(BRONZE_EVENTS)
        for batch in bronze.to_batches(columns=columns, filter=portion.brought(), batch_size=20_000):
            rows = pa.Table.from_batches([batch])
            if self._chosen is not None and rows.num_rows:
                rows = rows.filter(pa.array(among(rows, self._chosen)))
            rows = corrected_rows(rows, self._corrections)
            if may_repeat:  # such a record may lie in bronze once per event
                rows = _first_of_each(rows, seen)
            yield from rows.combine_chunks().to_batches()

    def _as_published(self, portion: Portion, chosen: pa.Table) -> Iterator[pa.Table]:
        snapshot = self._snapshot
        events = snapshot.dataset(EVENTS).to_table(filter=portion.brought())
        events = events.filter(pa.array(~among(events, chosen)))
        if events.num_rows:
            named = pc.field("node_id").isin(pa.array(nodes_named(events)))
            columns = ["node_id", "namespace", "value", "tie_hash"]
            identifiers = snapshot.dataset(IDENTIFIERS).to_table(columns=columns, filter=named)
            yield events_as_parsed(events, identifiers, self._read_by)
        refused = snapshot.dataset(QUARANTINE).to_table(filter=portion.brought())
        refused = refused.filter(pa.array(~among(refused, chosen)))
        if refused.num_rows:
            yield refused_as_parsed(refused)

    def _read_by(self, source: str) -> str:
        """The mapping of a source. Its name begins with it, where bronze does not say."""
        return self._mapping_of.get(source) or source.partition(":")[0]


def _mapping_names(snapshot: Snapshot, after: int) -> dict[str, str]:
    """Source → the mapping that its records are read by."""
    bronze = snapshot.dataset(BRONZE_EVENTS)
    pairs = bronze.to_table(columns=["source", "mapping"], filter=pc.field("batch_id") > after)
    pairs = pairs.group_by(["source", "mapping"]).aggregate([])
    return dict(zip(pairs["source"].to_pylist(), pairs["mapping"].to_pylist(), strict=True))


def _first_of_each(rows: pa.Table, seen: set[tuple[str, str, int]]) -> pa.Table:
    places = list(zip(*(rows[name].to_pylist() for name in RECORD), strict=True))
    is_first = np.zeros(len(places), bool)
    for at, place in enumerate(places):
        if place not in seen:
            seen.add(place)
            is_first[at] = True
    return rows.filter(pa.array(is_first))
