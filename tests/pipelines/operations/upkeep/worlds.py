"""Lakes without a JVM for upkeep, what readers see of them, and a process that dies at a chosen call."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.table import TableAlterer

from conf.tables import ALL, BATCHES, BRONZE_EVENTS
from pipelines.apps.request_handlers import HANDLERS
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing import delta_rs_writer
from pipelines.operations.requests.requests import run_request
from pipelines.operations.upkeep.history import History, versions_of
from pipelines.operations.upkeep.upkeep import Report, UpkeepOptions, run_upkeep
from pipelines.stream.batch.process import BatchProcessor
from tests.direct_lake import KEY, DirectLake


def records(batch: int, count: int = 5) -> list[dict]:
    """Events of people who come back, with a new device now and then, so that every batch changes older rows."""
    return [
        {
            "event_id": f"{batch}-{n}",
            "timestamp": 1_700_000_000 + batch * 600 + n,
            "event_type": "page_view",
            "identifiers": {
                "user_id": f"u{(batch + n) % 7}",
                "device_id": f"d{(batch * 3 + n) % 11 + batch // 5 * 11}",
            },
        }
        for n in range(count)
    ]


def filled(path: Path, batches: int) -> DirectLake:
    world = DirectLake(path)
    for batch in range(batches):
        world.feed(records(batch))
    return world


def copy_of(world: DirectLake, path: Path) -> DirectLake:
    """The same lake in another place, with a writer that knows nothing yet."""
    shutil.copytree(world.path, path)  # modification times are kept
    key_path(path).write_bytes(KEY)
    copy = DirectLake(path, stream=world.stream)
    copy.batches = world.batches
    return copy


def options(
    batches: int = 10**6, days: float = 7.0, pause_seconds: float = 60.0, **archive: object
) -> UpkeepOptions:
    return UpkeepOptions(History(days, batches), pause_seconds, **archive)


def do_upkeep(world: DirectLake, wanted: UpkeepOptions | None = None, **more: object) -> Report:
    return run_upkeep(world.lake, wanted or options(), pause_of(world), **more)


def pause_of(world: DirectLake) -> Callable:
    return partial(run_request, world.path, world.policy, world.settings, "upkeep", HANDLERS)


# -- what readers see ------------------------------------------------------------------------------------------------


def pinned(lake: Lake, batch_id: int) -> Snapshot:
    """What a reader holds who opened the lake when that batch was the last one."""
    return Snapshot(lake, batch_id, versions_of(lake, batch_id), "", None)


def seen(snapshot: Snapshot) -> dict[str, tuple[int, str]]:
    """Every table as of a snapshot: how many rows, and a digest of them all in any order."""
    return {s.full_name: _digest(snapshot.arrow(s)) for s in ALL if s is not BATCHES}


def _digest(rows: pa.Table) -> tuple[int, str]:
    lines = "\n".join(sorted(map(repr, rows.to_pylist())))
    return rows.num_rows, hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()


def content(world: DirectLake) -> dict[str, tuple[int, str]]:
    """What the tables say as of the last published batch: no clock, no number of a batch, no minted id."""
    snapshot = published(world.lake)
    assert snapshot is not None
    return {
        spec.full_name: _digest(snapshot.arrow(spec, list(spec.with_role("content"))))
        for spec in ALL
        if spec is not BATCHES and spec is not BRONZE_EVENTS
    }


def records_here_and_archived(lake: Lake, archive: Path | None) -> list[tuple]:
    """Every record's place, in bronze.events or in the archive; twice if it is there twice."""
    columns = ["source", "origin", "origin_ordinal"]
    tables = [lake.open(BRONZE_EVENTS).to_pyarrow_dataset().to_table(columns=columns)]
    if archive is not None and (archive / "bronze" / "events" / "_delta_log").exists():
        there = DeltaTable(str(archive / "bronze" / "events"))
        tables.append(there.to_pyarrow_dataset().to_table(columns=columns))
    return sorted(tuple(row.values()) for row in pa.concat_tables(tables).to_pylist())


def files_of(world: DirectLake) -> dict[str, int]:
    """How many files each table is made of now."""
    return {s.full_name: len(world.lake.open(s).file_uris()) for s in with_hot_parts(ALL)}


# -- a process that dies ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone; nothing may be done after it, not even tidying up."""


# Everything by which upkeep and a batch change what is on disk.
CALLS = (
    (DeltaTable, "create_write_transaction"),
    (DeltaTable, "create_checkpoint"),
    (DeltaTable, "create"),
    (TableAlterer, "set_table_properties"),
    (delta_rs_writer, "write_deltalake"),
    (Path, "unlink"),
    (Path, "replace"),
    (Path, "write_bytes"),
    (Path, "mkdir"),
    (shutil, "copyfile"),
    (shutil, "rmtree"),
    (os, "fsync"),
)


class Death:
    """Counts the calls, and dies at number `at`: before it is made, or `after`."""

    def __init__(self, at: int | None = None, after: bool = False) -> None:
        self.at, self.after, self.made, self.is_dead = at, after, [], False

    def wrapping(self, name: str, call: Callable) -> Callable:
        def made(*args: object, **kwargs: object) -> object:
            if self.is_dead:
                raise Killed
            number = len(self.made)
            self.made.append(name)
            if number == self.at and not self.after:
                self.is_dead = True
                raise Killed
            result = call(*args, **kwargs)
            if number == self.at:
                self.is_dead = True
                raise Killed
            return result

        return made


@contextmanager
def dying(death: Death) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, death.wrapping(name, getattr(owner, name)))
        yield


def half_written(world: DirectLake, appends: int) -> BatchProcessor:
    """Begin the next batch, and die before the append number `appends` of it."""
    processor = world.new_processor()
    done = 0
    append = processor.setup.writer.append

    def some(*args: object) -> int:
        nonlocal done
        if done >= appends:
            raise RuntimeError("killed")
        done += 1
        return append(*args)

    processor.setup.writer.append = some  # type: ignore[method-assign]
    rows = world.parsed(records(world.batches), "native", f"{world.batches:06d}.jsonl")
    with pytest.raises(RuntimeError, match="killed"):
        processor.process(lambda: rows, world.batches)
    return processor
