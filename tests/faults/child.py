"""A process that runs `stitchlake` and is killed where its plan says: python -m tests.faults.child PLAN run --source …

PLAN is a JSON file: a kill, and where to say that it has come to it. Signals:

    driver   SIGKILL of this process          jvm      SIGKILL of its JVM; the program meets that, and ends
    both     of both at the same moment       worker   of the Python worker that reads the batch's records
    stop     SIGSTOP of this process, until somebody lets it go on
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest import mock

from pyspark import SparkContext
from pyspark.sql.streaming import DataStreamWriter

import pipelines.operations.rebuild.rebuild as rebuild
import pipelines.stream.batch.process as process
from pipelines.apps.cli.__main__ import main
from pipelines.stream.batch.compacting import Compactions
from tests.faults.injection import BETWEEN, Faults, Kill, injected

OP = "stream"


class KillsItsWorker:
    """A parser whose first call is its process's last."""

    def __init__(self, parser: Any, flag: str) -> None:
        self._parser, self._flag = parser, flag

    def parse(self, records: Any) -> Any:
        if os.path.exists(self._flag):
            os.unlink(self._flag)
            os.kill(os.getpid(), signal.SIGKILL)
        return self._parser.parse(records)


def run(plan: dict[str, Any], argv: list[str]) -> int:
    """The command, with one death in it; without a kill in the plan, as it is."""
    named = plan.get("kill")
    kill = Kill(**{f.name: named[f.name] for f in fields(Kill) if f.name in named}) if named else None
    reached = Path(plan["reached"])

    def die(kill: Kill) -> bool:
        reached.write_text(str(kill), encoding="utf-8")
        if kill.signal in ("jvm", "both"):
            os.kill(_jvm(), signal.SIGKILL)
        if kill.signal in ("driver", "both"):
            os.kill(os.getpid(), signal.SIGKILL)
        if kill.signal == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        return True

    faults = Faults(() if kill is None else (kill,), die)
    faults.op = OP
    if kill is not None and kill.signal == "worker":
        _kill_a_worker(faults, reached)
    if "watch" in plan:
        _watch(Path(plan["lake"]), plan["watch"], die, kill)
    with (
        injected(faults),
        mock.patch.object(DataStreamWriter, "foreachBatch", _numbered(faults)),
        mock.patch.object(Compactions, "compact", _between(faults)),
        mock.patch.object(rebuild, "DRIVER_READS_UP_TO", 0),  # so that a rebuild has a JVM to be killed
    ):
        return main(argv)


def _numbered(faults: Faults) -> Callable[..., DataStreamWriter]:
    call = DataStreamWriter.foreachBatch

    def for_each(self: DataStreamWriter, publish: Callable[[Any, int], None]) -> DataStreamWriter:
        def batch(frame: Any, stream_batch_id: int) -> None:
            faults.batch = stream_batch_id
            faults.at("offsets.after")
            publish(frame, stream_batch_id)
            faults.at("commits.before")

        return call(self, batch)

    return for_each


def _between(faults: Faults) -> Callable[..., None]:
    call = Compactions.compact

    def compact(self: Compactions) -> None:
        at, faults.batch = faults.batch, BETWEEN
        try:
            call(self)
        finally:
            faults.batch = at

    return compact


def _kill_a_worker(faults: Faults, reached: Path) -> None:
    call = process.parsed_for_driver
    flag = reached.with_suffix(".flag")

    def parsed(frame: Any, parser: Any, known: Any) -> Any:
        if faults.is_due("worker"):
            faults._waiting.clear()
            flag.touch()
            reached.write_text("worker", encoding="utf-8")
            return call(frame, KillsItsWorker(parser, str(flag)), known)  # type: ignore[arg-type]
        return call(frame, parser, known)

    process.parsed_for_driver = parsed  # type: ignore[assignment]


def _watch(lake: Path, watch: dict[str, Any], die: Callable[[Kill], bool], kill: Kill | None) -> None:
    """Die as soon as a file is there whose path in the lake fits the pattern; land another file just before."""
    assert kill is not None

    def wait() -> None:
        while not any(lake.glob(watch["until"])):
            time.sleep(0.001)
        for hidden in watch.get("land", ()):
            path = Path(hidden)
            path.rename(path.with_name(path.name.lstrip(".")))
        die(kill)

    threading.Thread(target=wait, daemon=True).start()


def _jvm() -> int:
    context = SparkContext._active_spark_context
    assert context is not None
    assert context._jvm is not None
    return int(context._jvm.java.lang.ProcessHandle.current().pid())


if __name__ == "__main__":
    sys.exit(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2:]))
