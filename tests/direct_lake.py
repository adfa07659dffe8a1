"""A real lake without a JVM: the batch function with delta-rs, look-ups and engine in this process."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa

from conf.policy import Policy, load_policy
from conf.settings import load_settings
from conf.source_mapping import load_mapping
from conf.tables import BATCHES
from pipelines.lake.hashing_key import fingerprint, key_path
from pipelines.lake.lake import Lake
from pipelines.lake.writing.engines import make_writer
from pipelines.operations.upgrade import ready_to_write
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import StreamSetup
from tests.published_rows import PublishedRows
from transforms.identity.components import driver_components
from transforms.ingest.control import CONTROL
from transforms.ingest.parse import RecordParser
from transforms.ingest.records import parsed_here

KEY = b"a key that every test lake shares"[:32]
TABLE_ID = re.compile(r'("metaData":\{"id":")[^"]+')
MAPPINGS = ("native", "flat", "segment")


@cache
def _template() -> Path:
    """Every table without a row, once a run: copying them is much quicker than making them."""
    path = Path(mkdtemp(prefix="stitchlake-template-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    ready_to_write(Lake(path))
    return path


def make_tables(path: Path) -> None:
    """Bring the lake in a folder up to the declarations."""
    if Lake(path).has(BATCHES):
        ready_to_write(Lake(path))
    else:
        shutil.copytree(_template(), path, dirs_exist_ok=True)
        for log in path.glob(
            "*/*/_delta_log/00000000000000000000.json"
        ):  # another lake has tables of its own
            log.write_text(
                TABLE_ID.sub(rf"\g<1>{uuid.uuid4()}", log.read_text(encoding="utf-8")), encoding="utf-8"
            )


class DirectLake(PublishedRows):
    """`feed` is one published batch: a landed file of records, or of bytes as they are."""

    def __init__(
        self,
        path: Path,
        policy: Policy | None = None,
        stream: str = "direct",
        mappings: tuple[str, ...] = MAPPINGS,
        key: bytes = KEY,
    ) -> None:
        self.path, self.lake, self.stream = path, Lake(path), stream
        self.key = key
        self.policy, self.settings = policy or load_policy(), load_settings("laptop")
        path.mkdir(parents=True, exist_ok=True)
        key_path(path).write_bytes(key)
        make_tables(path)
        self.mappings, self.batches = mappings, 0
        self.restart()

    def restart(self, policy: Policy | None = None) -> None:
        """Go on as a new process would: with the mappings as they are now, and perhaps another policy."""
        self.policy = policy or self.policy
        self.parser = RecordParser(
            {name: load_mapping(name) for name in self.mappings}, self.policy, self.key
        )
        self.processor = self.new_processor()

    def setup(self) -> StreamSetup:
        """What every process on this lake works with."""
        return StreamSetup(
            lake=self.lake,
            writer=make_writer("delta_rs", self.lake),
            parser=self.parser,
            policy=self.policy,
            components=driver_components,
            settings=self.settings,
            stream=self.stream,
            key_fingerprint=fingerprint(self.key),
            open_state=partial(LakeState.load, policy=self.policy),
        )

    def new_processor(self, **changes: Any) -> BatchProcessor:
        """What a new process would begin with; `changes` to its setup."""
        return BatchProcessor(replace(self.setup(), **changes))

    def feed(self, records: Iterable[object] | bytes, mapping: str = "native", name: str = "") -> None:
        rows = self.parsed(records, mapping, name or f"{self.batches:06d}.jsonl")
        self.processor.process(lambda: rows, self.batches)
        self.batches += 1

    def parsed(self, records: Iterable[object] | bytes, mapping: str, name: str) -> pa.Table:
        """The rows that a stream would hand to a batch for a file of that name."""
        if not isinstance(records, bytes):
            records = b"".join(json.dumps(r).encode() + b"\n" for r in records)
        file = {
            "source": f"{mapping}:test",
            "mapping": mapping,
            "feed": CONTROL if mapping == CONTROL else "events",
            "path": name,
            "content": records,
            "transport_at": 1_700_000_000_000_000,
        }
        schema = pa.schema(
            [
                *((n, pa.string()) for n in ("source", "mapping", "feed", "path")),
                ("content", pa.binary()),
                ("transport_at", pa.timestamp("us", tz="UTC")),
            ]
        )
        landed = pa.Table.from_pylist([file], schema=schema)
        return parsed_here(landed.to_batches(), self.parser)
