"""Structured Streaming's protocol without Spark: input log, offset log, batch function, commit log, and its retries.

It stands where the stream's query stands, so that everything around it is the product: opening, recovery, the batch
function, compaction, the end. What Spark itself does is shown by the real kills.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import StreamingQueryException

import pipelines.apps.run_stream as stream
import pipelines.stream.batch.process as process
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.source import Source
from tests.faults.injection import BETWEEN, Faults
from transforms.ingest.control import CONTROL
from transforms.ingest.framing.files_read import Readings
from transforms.ingest.records import parsed_here


class MicroBatches:
    """One query over landing folders; builder, query and engine in one. A batch takes one new file
    of a folder, and with it the decisions that are there by then."""

    isActive = False

    def __init__(self, sources: Sequence[Source], faults: Faults, is_stopped: bool) -> None:
        self._is_stopped = is_stopped
        self._sources = sorted(sources, key=lambda s: s.name)
        self._faults = faults
        self._problem: StreamingQueryException | None = None
        self._publish: Callable[[Any, int], None] | None = None
        self.folder = Path()

    # -- what the product asks of Spark ---------------------------------------------------------------------------

    @property
    def writeStream(self) -> MicroBatches:
        return self

    def queryName(self, _: str) -> MicroBatches:
        return self

    def option(self, name: str, value: str) -> MicroBatches:
        assert name == "checkpointLocation"
        self.folder = Path(value)
        return self

    def foreachBatch(self, function: Callable[[Any, int], None]) -> MicroBatches:
        self._publish = function
        return self

    def trigger(self, **_: Any) -> MicroBatches:
        return self

    def start(self) -> MicroBatches:
        if self._is_stopped:
            return self
        try:
            self._run()
        except Exception as e:
            self._problem = StreamingQueryException(str(e))
        return self

    def stop(self) -> None:
        pass

    def exception(self) -> StreamingQueryException | None:
        return self._problem

    # -- the protocol, and the files of Spark's checkpoint ---------------------------------------------------------

    def _run(self) -> None:
        for name in ("offsets", "commits", *(f"sources/{at}" for at in range(len(self._sources)))):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not (self.folder / "metadata").exists():
            (self.folder / "metadata").write_text(json.dumps({"id": str(uuid.uuid4())}), encoding="utf-8")
        while True:
            logged, committed = self._last("offsets"), self._last("commits")
            if logged == committed and not self._plan(logged + 1):
                return
            self._one_batch(committed + 1)

    def _plan(self, number: int) -> bool:
        """Choose the input of batch `number`. What was chosen and not logged is taken along, as Spark does."""
        unread = [
            (at, name)
            for at, source in enumerate(self._sources)
            for name in sorted(set(_files(source)) - {n for entry in self._entries(at) for n in entry})
        ]
        next_number = min((_number(n) for at, n in unread if not self._is_control(at)), default=1_000)
        new = [(at, n) for at, n in unread if _number(n) <= next_number]
        self._set_batch(new)
        self._faults.at("source_log.before")
        for at in sorted({at for at, _ in new}):
            entry = len(self._entries(at))
            files = [Path(self._sources[at].location, name) for where, name in new if where == at]
            lines = [
                {"path": f.as_uri(), "timestamp": f.stat().st_mtime_ns // 1_000_000, "batchId": entry}
                for f in files
            ]
            _write(self.folder / "sources" / str(at) / str(entry), *lines)
        ends = [len(self._entries(at)) - 1 for at in range(len(self._sources))]
        if ends == self._ends(number - 1):
            return False
        self._faults.at("offsets.before")
        planned_at = {"batchTimestampMs": time.time_ns()}
        _write(
            self.folder / "offsets" / str(number),
            planned_at,
            *({"logOffset": e} if e >= 0 else "-" for e in ends),
        )
        return True

    def _one_batch(self, number: int) -> None:
        spans = enumerate(zip(self._ends(number - 1), self._ends(number), strict=True))
        chosen = [
            (at, n) for at, (a, b) in spans for entry in self._entries(at)[a + 1 : b + 1] for n in entry
        ]
        self._set_batch(chosen)
        self._faults.at("offsets.after")
        assert self._publish is not None
        self._publish(_landed(self._sources, chosen), number)
        self._faults.at("commits.before")
        _write(self.folder / "commits" / str(number), {"nextBatchWatermarkMs": 0})
        self._faults.at("commits.after")

    def _set_batch(self, chosen: Sequence[tuple[int, str]]) -> None:
        numbers = (_number(n) for at, n in chosen if not self._is_control(at))
        self._faults.batch = min(numbers, default=BETWEEN)

    def _is_control(self, source: int) -> bool:
        return self._sources[source].mapping == CONTROL

    def _last(self, log: str) -> int:
        return max((int(p.name) for p in (self.folder / log).iterdir()), default=-1)

    def _ends(self, number: int) -> list[int]:
        """Up to which entry every source is read with batch `number`; -1 where nothing is."""
        if number < 0:
            return [-1] * len(self._sources)
        _, *ends = _read(self.folder / "offsets" / str(number))
        return [-1 if end == "-" else end["logOffset"] for end in ends]

    def _entries(self, source: int) -> list[list[str]]:
        """The names of files in a source's log, entry by entry."""
        log = sorted((self.folder / "sources" / str(source)).iterdir(), key=lambda p: int(p.name))
        return [[Path(unquote(found["path"])).name for found in _read(entry)] for entry in log]


@contextmanager
def without_spark(faults: Faults, is_stopped: bool = False) -> Iterator[list[process.BatchProcessor]]:
    """`run_stream` runs here with None for a session; yields the batch processors, as they are made.

    `is_stopped`: somebody stops the stream before its first batch.
    """
    processors: list[process.BatchProcessor] = []

    def make_processor(setup: StreamSetup) -> process.BatchProcessor:
        processors.append(process.BatchProcessor(setup))
        return processors[-1]

    def read_stream(_: Any, sources: Sequence[Source], *__: Any) -> MicroBatches:
        return MicroBatches(sources, faults, is_stopped)

    def parsed(frame: pa.Table, parser: Any, readings: Readings) -> pa.Table:
        return parsed_here(frame.to_batches(), parser, readings)

    with ExitStack() as stack:
        for target, name, stand_in in (
            (stream, "BatchProcessor", make_processor),
            (stream, "read_stream", read_stream),
            (stream, "set_graph_checkpoints", lambda *_: None),
            (process, "parsed_for_driver", parsed),
        ):
            stack.enter_context(mock.patch.object(target, name, stand_in))
        yield processors


def _number(name: str) -> int:
    """The batch that a file was landed for."""
    return int(name[:3])


def _files(source: Source) -> list[str]:
    return sorted(p.name for p in Path(source.location).iterdir() if not p.name.startswith("."))


def _landed(sources: Sequence[Source], chosen: Sequence[tuple[int, str]]) -> pa.Table:
    """The files as rows, as pipelines/stream/sources.py reads them."""
    of = [sources[at] for at, _ in chosen]
    paths = [Path(sources[at].location) / name for at, name in chosen]
    return pa.table(
        {
            "source": pa.array([s.name for s in of], pa.string()),
            "mapping": pa.array([s.mapping for s in of], pa.string()),
            "feed": pa.array([CONTROL if s.mapping == CONTROL else "events" for s in of], pa.string()),
            "path": pa.array([name for _, name in chosen], pa.string()),
            "content": pa.array([p.read_bytes() for p in paths], pa.binary()),
            "transport_at": pc.cast(
                pa.array([p.stat().st_mtime_ns // 1000 for p in paths], pa.int64()), pa.timestamp("us", "UTC")
            ),
        }
    )


def _write(path: Path, *lines: Any) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    texts = ["v1", *(line if line == "-" else json.dumps(line) for line in lines)]
    partial.write_text("\n".join(texts), encoding="utf-8")
    partial.rename(path)


def _read(path: Path) -> list[Any]:
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return [line if line == "-" else json.loads(line) for line in lines]
