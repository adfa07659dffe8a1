"""One published state of the lake: every table at the version that the last published batch recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from conf.errors import Refusal
from conf.table_spec import DELETED, TableSpec
from conf.tables import ALL, BATCHES
from pipelines.lake.batch_rows import OLDEST_READABLE, BatchRows
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.live_rows import UPDATED, newest_rows, upserts, without_keys_of
from pipelines.runtime.contained import contained

ROWS_PER_READ = 131_072


class NoSuchBatch(Refusal):
    """A state of the lake that cannot be read; the message says whether it never was, or is no more."""


@dataclass(frozen=True)
class Snapshot:
    """What a reader sees of `batch_id`. Writes after it, and half-written batches, are not in it."""

    lake: Lake
    batch_id: int
    table_versions: dict[str, int]
    stream: str
    published_at: datetime | None
    row: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    # A version never changes, so its log is read once.
    _opened: dict[str, ds.Dataset] = field(default_factory=dict, init=False, repr=False, compare=False)

    def version(self, spec: TableSpec) -> int | None:
        """The table's version; None for a table that was declared after this batch."""
        return self.table_versions.get(spec.full_name)

    def dataset(self, spec: TableSpec) -> ds.Dataset:
        """One table (or hot part) at its version, unread, with the declared columns."""
        version = self.version(spec)
        if version is None:
            return ds.dataset(spec.arrow.empty_table())
        if spec.full_name not in self._opened:
            # The declared schema and not the version's: a column declared since then reads as null.
            self._opened[spec.full_name] = self.lake.open(spec, version).to_pyarrow_dataset(schema=spec.arrow)
        return self._opened[spec.full_name]

    def arrow(self, spec: TableSpec, columns: list[str] | None = None, live: bool = True) -> pa.Table:
        """A table's rows; of an upserted one its live rows, or with `live=False` its base alone."""
        names = list(columns or spec.names)
        if spec is BATCHES:
            # The row that publishes a batch cannot name the version that it becomes itself.
            rows = self.lake.open(spec).to_pyarrow_dataset(schema=spec.arrow)
            return rows.to_table(columns=names, filter=pc.field("batch_id") <= self.batch_id)
        if spec.write != "upsert" or not live:
            return self.dataset(spec).to_table(columns=names)
        wanted = [*names, *(k for k in spec.key if k not in names)]
        hot_names = list(dict.fromkeys([*wanted, UPDATED, DELETED]))
        hot = self.dataset(spec.hot).to_table(columns=hot_names, filter=pc.field(UPDATED) <= self.batch_id)
        newest = newest_rows(spec, hot)
        schema = pa.schema([spec.arrow.field(n) for n in names])
        base = self.dataset(spec)
        if not newest.num_rows:
            return base.to_table(columns=names).cast(schema)
        batches = base.to_batches(columns=wanted, batch_size=ROWS_PER_READ)
        kept = [rows.select(names).cast(schema) for rows in without_keys_of(spec, batches, newest)]
        return pa.concat_tables([*kept, upserts(newest).select(names).cast(schema)])


def without_batches(versions: Mapping[str, int]) -> dict[str, int]:
    """Versions of tables by name, without ops.batches: every publication moves that one, and names the others."""
    return {name: version for name, version in versions.items() if name != BATCHES.full_name}


def published(lake: Lake) -> Snapshot | None:
    """The last published batch, or None where nothing has been published yet."""
    return snapshot_in(lake, lake.open(BATCHES)) if lake.has(BATCHES) else None


def snapshot_in(lake: Lake, table: DeltaTable) -> Snapshot | None:
    """The last batch in ops.batches as it was opened, whatever has been published since."""
    batches = BatchRows(lake, table)
    last = batches.last()
    return None if last is None else _snapshot(lake, batches, last)


def published_as(lake: Lake, batch_id: int) -> Snapshot:
    """The state that a batch published, however long ago, with all of its files still there.

    NoSuchBatch when it was never published, or when upkeep has removed files of it.
    """
    newest = published(lake)
    if newest is None:
        raise NoSuchBatch(f"nothing has been published in {lake.path} yet")
    snapshot = _snapshot(lake, BatchRows(lake), batch_id)
    if snapshot is None:
        raise NoSuchBatch(f"batch {batch_id} was never published; the last one is {newest.batch_id}")
    if batch_id < (oldest := oldest_readable_batch(lake) or batch_id):
        raise NoSuchBatch(
            f"batch {batch_id} is older than what upkeep keeps: batches {oldest} to {newest.batch_id} can be read; "
            "restore a backup that has it, and see the settings history_days and history_batches"
        )
    for spec in with_hot_parts(ALL):
        version = snapshot.version(spec)
        if version is not None and spec is not BATCHES and not _is_there(lake, spec, version):
            raise NoSuchBatch(
                f"{spec.full_name} cannot be read as of batch {batch_id} any more: upkeep has removed files of its "
                "version; ask for a later batch, or restore a backup that has it"
            )
    return snapshot


def oldest_readable_batch(lake: Lake) -> int | None:
    """The first published batch that every reader still finds whole; None where nothing is published.

    Upkeep publishes it before it removes anything.
    """
    rows = BatchRows(lake)
    upkeep = rows.last_upkeep(["metrics"])  # the newest: nothing that was given up is ever promised again
    oldest = dict(upkeep["metrics"] or ()).get(OLDEST_READABLE) if upkeep else None
    return rows.first() if oldest is None else oldest


def _snapshot(lake: Lake, batches: BatchRows, batch_id: int) -> Snapshot | None:
    row = next(iter(batches.between(BATCHES.arrow.names, batch_id, batch_id).to_pylist()), None)
    if row is None:
        return None
    return Snapshot(
        lake,
        batch_id=batch_id,
        table_versions=dict(row["table_versions"] or ()),
        stream=row["stream"],
        published_at=row["published_at"],
        row=row,
    )


def _is_there(lake: Lake, spec: TableSpec, version: int) -> bool:
    try:
        paths = lake.open(spec, version).get_add_actions()["path"].to_pylist()
    except DeltaError:  # the log does not go back so far
        return False
    return all(contained(lake.table_path(spec), unquote(path)).exists() for path in paths)
