"""Where a run can be made to die: named points around every write, and a plan that says at which of them it does.

point                              where
source_log.before                  the stream knows of no new input yet
offsets.before, .after             input chosen but not logged; logged, the batch function not entered
intent.before, .torn, .after       the batch's intent: not there, half there, there
append.before, .files, .after      a table's commit: nothing, data files without an entry in the log, done
checkpoint.staged, .unnamed        a Delta checkpoint half written; written, and nothing points to it
fold.*, forget.*, optimize.*       compaction of hot parts, and of small files
commits.before, .after             the batch published, not logged by the stream; logged
create.*, discard.*, restore.*     tables made; an abandoned attempt taken back
attempt.before, .after, .forgotten a rebuild's own record
replace.*                          a rebuild's replacement of a table

A table that a rebuild derives beside the lake is called `side.` and its name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from deltalake import DeltaTable

from conf.table_spec import TableSpec
from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, QUARANTINE
from pipelines.lake.lake import Lake
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.spark_writer import SparkWriter
from pipelines.operations.rebuild.shadow_lake import SIDE

BETWEEN = -1  # in place of a batch: the stream has nothing to read, and compacts
# A batch writes these while it resolves, all others side by side afterwards.
FIRST_WRITES = tuple(spec.full_name for spec in (BRONZE_EVENTS, QUARANTINE, EVENTS))


class Killed(BaseException):
    """The process is dead: nothing after this is written. No `except Exception` can stop it."""


@dataclass(frozen=True)
class Kill:
    """One death: in operation `op`, at `point` (of `table`), while the stream is at landed file `batch`.

    `signal`: `kill`, or an error of the file system: `no_space`, `read_only`. `others`: which of the tables that are
    written at the same time as this one get through: those before it `in_order`, `none`, or `all`.
    `then`: what comes after it: `retry`, the same operation in a new process; `new_checkpoint`, the same with the
    stream's checkpoint lost; `stopped`, a process that is told to stop before it has done anything, then `retry`;
    `next_op`, the operation is not repeated, and the next one finds what is left of it.
    """

    op: str
    point: str
    table: str | None = None
    batch: int | None = None
    signal: str = "kill"
    others: str = "in_order"
    then: str = "retry"

    def __str__(self) -> str:
        where = self.point if self.table is None else f"{self.point} {self.table}"
        return where if self.others == "in_order" else f"{where} ({self.others} of the others)"


class Faults:
    """The plan, and how far it has come. `die` does what the kill is; true when the program is to go on and meet it."""

    def __init__(self, kills: tuple[Kill, ...] = (), die: Callable[[Kill], bool] | None = None) -> None:
        self._waiting, self._die = list(kills), die
        self.is_dead = False
        self.batch: int | None = None
        self.op = ""
        self.done: list[Kill] = []
        self.seen: list[tuple[str, str, str | None, int | None]] = []

    @property
    def next(self) -> Kill | None:
        """The kill that has not happened yet."""
        return self._waiting[0] if self._waiting else None

    def revive(self) -> None:
        """A new process begins."""
        self.is_dead = False

    def is_due(self, point: str, table: str | None = None) -> bool:
        """Whether the next kill is here. A dead process gets no further than this."""
        self.seen.append((self.op, point, table, self.batch))
        if self.is_dead:
            raise Killed
        kill = self.next
        return (
            kill is not None
            and (kill.op, kill.point) == (self.op, point)
            and kill.table in (None, table)
            and kill.batch in (None, self.batch)
        )

    def at(self, point: str, table: str | None = None) -> None:
        """Die here if the plan says so."""
        if self.is_due(point, table):
            self.strike()

    def strike(self) -> None:
        """The kill that is due happens now."""
        kill = self._waiting.pop(0)
        self.done.append(kill)
        if self._die is not None and self._die(kill):
            return
        if kill.signal == "kill":
            self.is_dead = kill.others != "all"
            raise Killed
        number = {"no_space": errno.ENOSPC, "read_only": errno.EROFS}[kill.signal]
        raise OSError(number, os.strerror(number))

    def is_held_back(self, table: str) -> bool:
        """Whether a write must not happen because the table that is to die is the only one to get through."""
        kill = self.next
        return (
            kill is not None
            and kill.others == "none"
            and kill.op == self.op
            and kill.batch in (None, self.batch)
            and kill.table != table
            and (kill.table in FIRST_WRITES) == (table in FIRST_WRITES)
        )


@contextmanager
def injected(faults: Faults) -> Iterator[None]:
    """The product, with every point in it asking `faults`."""
    around = _Around(faults)
    with ExitStack() as stack:

        def put(target: Any, name: str, make: Callable[[Any], Any], is_class_method: bool = False) -> None:
            replacement = make(getattr(target, name))
            stack.enter_context(mock.patch.object(target, name, replacement))

        import pipelines.operations.attempt as attempt
        import pipelines.operations.rebuild.rebuild as rebuild
        import pipelines.operations.upkeep.pause as pause
        import pipelines.operations.upkeep.upkeep as upkeep
        import pipelines.stream.batch.compacting as compacting
        import pipelines.stream.batch.steps as steps

        for writer in (DeltaRsWriter, SparkWriter):
            for name in ("append", "fold", "forget_hot"):
                put(writer, name, lambda call, name=name: around.write(call, name.removesuffix("_hot")))
        put(steps, "record_intent", around.intent)
        for module in (compacting, rebuild, pause):
            put(module, "compact_files", around.optimize)
        put(rebuild, "replace_rows", around.replacement)
        put(upkeep, "vacuum", around.vacuum)
        put(rebuild, "begin", lambda call: around.plain(call, "attempt"))
        for module in (attempt, rebuild):
            put(module, "forget", lambda call: around.ending(call, "attempt.forgotten"))
        put(DeltaTable, "delete", lambda call: around.table_method(call, "discard"))
        put(DeltaTable, "restore", lambda call: around.table_method(call, "restore"))
        create = DeltaTable.create
        stack.enter_context(mock.patch.object(DeltaTable, "create", staticmethod(around.creation(create))))
        yield


class _Around:
    """Calls of the product with points before and after them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def write(self, call: Any, what: str) -> Any:
        def written(writer: Any, spec: TableSpec, *args: Any) -> int:
            faults, lake = self.faults, writer._lake
            if what == "append" and faults.is_held_back(_named(lake.table_path(spec))):
                raise Killed
            touched = spec.hot if what == "forget" else spec
            name = _named(lake.table_path(touched))
            faults.at(f"{what}.before", name)
            if faults.is_due(f"{what}.files", name) and _uncommitted(
                lake.table_path(touched), lambda: call(writer, spec, *args), is_batch=what == "append"
            ):
                faults.strike()
            before = _versions(lake.table_path(touched))
            version = call(writer, spec, *args)
            if (
                _versions(lake.table_path(touched)) != before
            ):  # a write that wrote nothing is no place to die after
                for kind in ("staged", "unnamed"):
                    if what == "append" and faults.is_due(f"checkpoint.{kind}", name):
                        _leave_checkpoint(lake.table_path(touched), kind)
                        faults.strike()
                faults.at(f"{what}.after", name)
            return version

        return written

    def intent(self, call: Any) -> Any:
        def recorded(path: Path, intent: Any) -> Any:
            self.faults.at("intent.before")
            if self.faults.is_due("intent.torn"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".partial").write_text('{"stream": "half of', encoding="utf-8")
                self.faults.strike()
            found = call(path, intent)
            self.faults.at("intent.after")
            return found

        return recorded

    def optimize(self, call: Any) -> Any:
        def compacted(lake: Lake, spec: TableSpec) -> int:
            faults, name = self.faults, _named(lake.table_path(spec))

            def join() -> int:
                # Few enough to happen; but every publication adds a file of one row, which is no reason to join.
                return call(lake, spec, from_files=2 if spec is not BATCHES else 3)

            faults.at("optimize.before", name)
            if faults.is_due("optimize.files", name) and _uncommitted(lake.table_path(spec), join):
                faults.strike()
            before = _versions(lake.table_path(spec))
            version = join()
            if _versions(lake.table_path(spec)) != before:
                faults.at("optimize.after", name)
            return version

        return compacted

    def replacement(self, call: Any) -> Any:
        def replaced(lake: Lake, spec: TableSpec, *args: Any) -> int:
            faults, name = self.faults, spec.full_name
            faults.at("replace.before", name)
            if faults.is_due("replace.files", name) and _uncommitted(
                lake.table_path(spec), lambda: call(lake, spec, *args)
            ):
                faults.strike()
            version = call(lake, spec, *args)
            faults.at("replace.after", name)
            return version

        return replaced

    def vacuum(self, call: Any) -> Any:
        def removed(lake: Lake, spec: TableSpec, floor: int, now: int, pace: Any, **named: Any) -> Any:
            faults, name = self.faults, spec.full_name
            faults.at("vacuum.before", name)
            result = call(lake, spec, floor, now, lambda: faults.at("vacuum.during", name), **named)
            faults.at("vacuum.after", name)
            return result

        return removed

    def plain(self, call: Any, what: str) -> Any:
        def done(*args: Any) -> Any:
            self.faults.at(f"{what}.before")
            result = call(*args)
            self.faults.at(f"{what}.after")
            return result

        return done

    def ending(self, call: Any, point: str) -> Any:
        def ended(*args: Any) -> Any:
            self.faults.at(point)
            return call(*args)

        return ended

    def table_method(self, call: Any, what: str) -> Any:
        def done(table: DeltaTable, *args: Any, **named: Any) -> Any:
            name = _name_of(table)
            self.faults.at(f"{what}.before", name)
            before = table.version()
            result = call(table, *args, **named)
            if table.version() > before:
                self.faults.at(f"{what}.after", name)
            return result

        return done

    def creation(self, call: Any) -> Any:
        def created(path: str, *args: Any, **named: Any) -> Any:
            name = _named(Path(path))
            self.faults.at("create.before", name)
            result = call(path, *args, **named)
            self.faults.at("create.after", name)
            return result

        return created


def _name_of(table: DeltaTable) -> str:
    return _named(Path(table.table_uri.removeprefix("file://")))


def _named(table: Path) -> str:
    """`silver.events`; where it is derived again beside its lake, `side.silver.events`."""
    name = ".".join(table.parts[-2:])
    return f"side.{name}" if SIDE in table.as_posix() else name


def _versions(table: Path) -> set[str]:
    return {p.name for p in (table / "_delta_log").glob("*.json")}


def _uncommitted(table: Path, write: Callable[[], object], is_batch: bool = False) -> bool:
    """Write, then take the entry out of the log again: data files without a commit. False if nothing was written.

    `is_batch`: what is written has a batch's transaction; a compaction beside it may commit too, and stays.
    """
    before, pointer = _versions(table), table / "_delta_log" / "_last_checkpoint"
    said = pointer.read_bytes() if pointer.exists() else None
    write()
    new = _versions(table) - before
    new = {name for name in new if not is_batch or b'"txn"' in (table / "_delta_log" / name).read_bytes()}
    for name in new:
        # What delta-rs leaves when it dies between writing the entry and giving it its name.
        entry = table / "_delta_log" / name
        entry.rename(entry.with_name(f"_commit_{uuid4()}.json.tmp"))
        version = name.removesuffix(".json")  # what Spark writes with an entry and after it goes too
        for left in (f"{version}.crc", f".{version}.crc.crc", f".{name}.crc"):
            (entry.parent / left).unlink(missing_ok=True)
        checkpoint = (
            entry.parent / f"{version}.checkpoint.parquet"
        )  # made after the commit that is not there now
        if checkpoint.exists():
            checkpoint.unlink()
            pointer.unlink()
            if said is not None:
                pointer.write_bytes(said)
    return bool(new)


def _leave_checkpoint(table: Path, kind: str) -> None:
    """What a death during a Delta checkpoint leaves: a file under its temporary name, or one that nothing names."""
    log = table / "_delta_log"
    pointer = log / "_last_checkpoint"
    said = pointer.read_bytes() if pointer.exists() else None
    before = set(log.glob("*.checkpoint.parquet"))
    DeltaTable(str(table)).create_checkpoint()
    for file in set(log.glob("*.checkpoint.parquet")) - before:
        if kind == "staged":
            half = file.read_bytes()
            file.with_name(f"{file.name}#1").write_bytes(half[: len(half) // 2])
            file.unlink()
    if said is None:
        pointer.unlink(missing_ok=True)
    else:
        pointer.write_bytes(said)
