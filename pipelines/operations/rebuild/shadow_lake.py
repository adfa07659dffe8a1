"""The shadow lake: the derived tables of a lake, made again in a lake of their own while a stream may write.

    bronze.events 1 … S ──portions──▶ the stream's own steps ──▶ <lake>/_stitchlake/side/<id>/{silver,gold,ops}
    later       S+1 … N ──────────▶  the same ──────────────▶  up to N

There is no second implementation of any rule: a portion is a batch of an ordinary lake, whose number is that of the
last of the lake's batches in it. So its ops.batches says how far it has come, and a portion that was interrupted is
taken again by the next attempt. Of bronze it has the places of records and not their bytes.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.policy import Policy
from conf.settings import Settings
from conf.source_mapping import load_mapping
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, BRONZE_EVENTS, QUARANTINE
from pipelines.lake.lake import Lake
from pipelines.lake.lock import LakeLocked, lake_lock
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.discard import discard_unpublished
from pipelines.lake.writing.engines import make_writer
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.quarantine.corrections import RECORD, corrected_rows, corrections_of
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.rebuild.read_again import Reader, mappings_of, portions
from pipelines.runtime.contained import contained
from pipelines.runtime.fingerprint import code_fingerprint
from pipelines.runtime.graph_engine import choose_components
from pipelines.state.open_state import state_opener
from pipelines.stream.batch.intent import INTENT, pending_intent
from pipelines.stream.batch.kind import STREAM
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.publish import PORTION, SAME_ROWS_KINDS
from pipelines.stream.batch.setup import StreamSetup
from transforms.identity.components import Components, driver_components
from transforms.ingest.parse import RecordParser
from transforms.ingest.replayed import BROUGHT_BY

SIDE = "_stitchlake/side"
# What a shadow lake can follow. Anything else changes what was published before.
FOLLOWED = frozenset({"batch", PORTION, "empty"}) | SAME_ROWS_KINDS
_DECLARED = "side.json"
_COUNTS = ("received", "valid", "quarantined", "duplicate")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Declared:
    """By which rules a shadow lake is made; on disk, because another process may have to go on with it.

    `since`, `until`: ISO dates. `begun_at_batch_id`: the published batch of the lake that it began with."""

    id: str
    policy_fingerprint: str
    code_fingerprint: str
    mapping_fingerprints: dict[str, str]
    max_record_bytes: int
    max_tenants: int
    since: str | None
    until: str | None
    is_range: bool
    begun_at_batch_id: int

    @property
    def dates(self) -> Dates | None:
        """The range of dates that is read again; None for all records."""
        since, until = (date.fromisoformat(d) if d else None for d in (self.since, self.until))
        return Dates(since, until) if self.is_range else None


@dataclass(frozen=True)
class Rules:
    """With what records are read and resolved. Without `spark`, everything happens in this process."""

    policy: Policy
    key: bytes
    settings: Settings
    spark: SparkSession | None = None


def _as_published(received: pa.Table) -> pa.Table:
    by = [(name, "ascending") for name in (BROUGHT_BY, *RECORD, "record_position")]
    return received.combine_chunks().sort_by(by).combine_chunks()


# A batch of records that came in many: they count in the order in which they came.
AGAIN: Final = replace(STREAM, order=_as_published)


class ShadowLake:
    """One shadow lake. `catch_up` brings it to a published batch of its lake, `table` says what it derives."""

    def __init__(self, of: Lake, folder: Path) -> None:
        self.of, self.folder, self.lake = of, folder, Lake(folder / "lake")
        self.declared = Declared(**json.loads((folder / _DECLARED).read_text(encoding="utf-8")))
        self._there = published(self.lake)  # it has one owner at a time, and only catching up changes it

    @property
    def upto(self) -> int:
        """The last batch of its lake that is in it; 0 before the first."""
        rows = self._batches(["stream_batch_id"])
        return max((n for n in rows["stream_batch_id"].to_pylist() if n is not None), default=0)

    def left(self, snapshot: Snapshot) -> int:
        """How many events were published since."""
        return sum(p.received_count for p in portions(snapshot, self.upto))

    def catch_up(self, snapshot: Snapshot, rules: Rules, progress: Progress = lambda text: None) -> int:
        """Derive what was published up to `snapshot` and is not in it yet; how many events that was.

        RebuildRefused when a mapping is another one by now, or when something else than batches was published.
        """
        upto = self.upto
        self._refuse_unfollowed(snapshot)
        todo = portions(snapshot, upto)
        total = sum(p.received_count for p in todo)
        if not total:
            return 0
        parser = self._parser(snapshot, upto, rules)
        reader = Reader(snapshot, upto, parser, self.declared.dates, rules.spark)
        self._discard_unfinished()
        processor = self._processor(parser, rules)
        done = 0
        for portion in todo:
            received = reader.read(portion)
            processor.process(partial(_given, received), portion.upto, AGAIN)
            done += portion.received_count
            self._there = published(self.lake)
            progress(f"derived {done:,} of {total:,} events again")
        return total

    def table(self, spec: TableSpec, snapshot: Snapshot) -> pa.Table:
        """A derived table as a lake that never knew other rules has it, ids made from nothing."""
        rows = spec.arrow.empty_table() if self._there is None else self._there.arrow(spec).cast(spec.arrow)
        return _with_payloads(rows, snapshot) if spec is QUARANTINE else rows

    def chosen(self, spec: TableSpec, chosen: pc.Expression) -> pa.Table:
        """Some rows of a table that is only appended to."""
        if self._there is None:
            return spec.arrow.empty_table()
        return self._there.dataset(spec).to_table(filter=chosen)

    def counts(self) -> dict[str, int]:
        """received, valid, quarantined and duplicate: what its batches made of what was read."""
        names = [f"{name}_count" for name in _COUNTS]
        rows = self._batches(names)
        return {name: pc.sum(rows[name]).as_py() or 0 for name in names}

    def _batches(self, columns: list[str]) -> pa.Table:
        if self._there is None:
            return BATCHES.arrow.empty_table().select(columns)
        return self._there.arrow(BATCHES, columns)

    def _refuse_unfollowed(self, snapshot: Snapshot) -> None:
        batches = snapshot.arrow(BATCHES, ["batch_id", "kind"])
        since = batches.filter(pc.greater(batches["batch_id"], self.declared.begun_at_batch_id))
        others = sorted({kind or "batch" for kind in since["kind"].to_pylist()} - FOLLOWED)
        if others:
            raise RebuildRefused(
                f"meanwhile something else was published in this lake ({', '.join(others)}); begin again"
            )

    def _parser(self, snapshot: Snapshot, after: int, rules: Rules) -> RecordParser:
        """Reads by the mappings as they were when this shadow lake first used them, or not at all."""
        mappings = {name: load_mapping(name) for name in mappings_of(snapshot, after)}
        known = self.declared.mapping_fingerprints
        for name, mapping in mappings.items():
            if known.get(name, mapping.fingerprint) != mapping.fingerprint:
                raise RebuildRefused(f"the mapping {name} has been changed meanwhile; begin again")
        new = {name: mapping.fingerprint for name, mapping in mappings.items()}
        if new.keys() - known.keys():
            self.declared = replace(self.declared, mapping_fingerprints=known | new)
            _declare(self.folder, self.declared)
        return RecordParser(mappings, rules.policy, rules.key, rules.settings.max_record_bytes)

    def _processor(self, parser: RecordParser, rules: Rules) -> BatchProcessor:
        settings, spark, policy = rules.settings, rules.spark, rules.policy
        components: Components = driver_components
        writer = make_writer("delta_rs", self.lake)
        if spark is not None:
            writer = make_writer(settings.writer, self.lake, spark, settings.spark_writer_from_rows)
            components = choose_components(settings.engine, spark)
        return BatchProcessor(
            StreamSetup(
                lake=self.lake,
                writer=writer,
                parser=parser,
                policy=policy,
                components=components,
                settings=settings,
                # A table writes nothing for a transaction that it has seen, even where it was undone.
                stream=uuid.uuid4().hex,
                key_fingerprint="",
                open_state=state_opener(settings.lookup, policy, spark, settings.lookup_tables_from_rows),
            )
        )

    def _discard_unfinished(self) -> None:
        """Take back the portion that a dead process has begun: this time it may end with another batch."""
        last = self._there.batch_id if self._there else 0
        if (begun := pending_intent(self.lake.path / INTENT, last)) is not None:
            # The events of a shadow lake's batch are taken again as a whole, whatever portions of it there are.
            discard_unpublished(self.lake, begun.after if begun.is_portion else last, begun.txn.app_id)
            (self.lake.path / INTENT).unlink()
            self._there = published(self.lake)


@contextmanager
def shadow_lake(snapshot: Snapshot, rules: Rules, dates: Dates | None = None) -> Iterator[ShadowLake]:
    """A new shadow lake of `snapshot`'s lake, empty; gone when the block ends. Clears away what dead processes left."""
    folders = snapshot.lake.path / SIDE
    _clear(folders)
    declared = Declared(
        uuid.uuid4().hex,
        rules.policy.fingerprint,
        code_fingerprint(),
        {},
        rules.settings.max_record_bytes,
        rules.settings.max_tenants,
        dates.since.isoformat() if dates and dates.since else None,
        dates.until.isoformat() if dates and dates.until else None,
        dates is not None,
        snapshot.batch_id,
    )
    folder = folders / declared.id
    with lake_lock(folder):  # while it is held, nobody clears it away
        try:
            _declare(folder, declared)
            shadow = ShadowLake(snapshot.lake, folder)
            shadow.lake.create_missing(ALL)
            yield shadow
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def open_shadow(lake: Lake, shadow_id: str) -> ShadowLake:
    """A shadow lake that another process has made. RebuildRefused when it is gone."""
    folder = contained(lake.path / SIDE, shadow_id)
    if not (folder / _DECLARED).exists():
        raise RebuildRefused("the side tables are gone: whoever made them has given up")
    return ShadowLake(lake, folder)


def _clear(folders: Path) -> None:
    for folder in folders.glob("*"):
        try:
            with lake_lock(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except LakeLocked:
            pass


def _declare(folder: Path, declared: Declared) -> None:
    partial_file = folder / f"{_DECLARED}.partial"
    partial_file.write_text(json.dumps(asdict(declared)), encoding="utf-8")
    partial_file.replace(folder / _DECLARED)


def _with_payloads(quarantine: pa.Table, snapshot: Snapshot) -> pa.Table:
    """Conflicting records were acceptable as such, so their bytes are still to be had from bronze."""
    lacking = np.flatnonzero(quarantine["payload"].is_null().to_numpy())
    if not len(lacking):
        return quarantine
    wanted = quarantine.take(pa.array(lacking)).select(list(RECORD))
    found = snapshot.dataset(BRONZE_EVENTS).to_table(
        columns=[*RECORD, "payload"],
        filter=pc.field("origin").isin(wanted["origin"].unique())
        & pc.field("origin_ordinal").isin(wanted["origin_ordinal"].unique()),
    )
    found = corrected_rows(found, corrections_of(snapshot))
    bytes_of = dict(zip(_places(found), found["payload"].to_pylist(), strict=True))
    payloads = quarantine["payload"].to_pylist()
    for at, place_of in zip(lacking.tolist(), _places(wanted), strict=True):
        payloads[at] = bytes_of.get(place_of)
    place = quarantine.schema.get_field_index("payload")
    field = quarantine.schema.field(place)
    return quarantine.set_column(place, field, pa.array(payloads, field.type))


def _given(rows: pa.Table) -> pa.Table:
    return rows


def _places(records: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(records[name].to_pylist() for name in RECORD), strict=True))
