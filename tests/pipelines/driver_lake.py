"""Whole lakes without a JVM: the real batch function on real tables, fed with parsed records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from conf.policy import Policy, load_policy
from conf.settings import load_settings
from conf.source_mapping import load_mapping
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES
from pipelines.batch.process import BatchProcessor
from pipelines.hashing_key import fingerprint, key_path
from pipelines.state.lake_state import LakeState
from pipelines.tables.engines import make_writer
from pipelines.tables.lake import Lake
from pipelines.tables.snapshot import published
from pipelines.upgrade import ready_to_write
from transforms.identity.components import driver_components
from transforms.parse import RecordParser
from transforms.parsed_schema import Records
from transforms.reconciliation import compare_states

KEY = b"a key that every test lake shares"[:32]
SOURCE = "native:test"


class DriverLake:
    """A lake in `folder`/lake and one stream into it; `feed` is one batch: the lines of one landed file."""

    def __init__(self, folder: Path, stream: str = "s", policy: Policy | None = None) -> None:
        self.path, self.policy, self.stream = folder / "lake", policy or load_policy(), stream
        folder.mkdir(parents=True, exist_ok=True)
        key_path(self.path).write_bytes(KEY)
        self.lake = Lake(self.path)
        ready_to_write(self.lake, lambda line: None)
        self.parser = RecordParser({"native": load_mapping("native")}, self.policy, KEY)
        self.processor = BatchProcessor(
            self.lake,
            make_writer("delta_rs", self.lake),
            self.parser,
            self.policy,
            driver_components,
            load_settings(),
            stream,
            fingerprint(KEY),
            open_state=partial(LakeState.load, policy=self.policy),
        )
        self.next = 0

    def feed(self, name: str, records: Sequence[object] | bytes) -> None:
        """Publish the records of a file, as JSON lines or as dicts, as the stream's next batch."""
        self.processor.process(lambda: self.parsed(name, records), self.next)
        self.next += 1

    def parsed(self, name: str, records: Sequence[object] | bytes) -> pa.Table:
        """What Spark would hand over of that file."""
        lines = (
            records.splitlines() if isinstance(records, bytes) else [json.dumps(r).encode() for r in records]
        )
        n = len(lines)
        batch = self.parser.parse(
            Records(
                [SOURCE] * n, ["native"] * n, ["events"] * n, [name] * n, list(range(n)), ["json"] * n, lines,
                [1_760_000_000_000_000] * n,
            )
        )  # fmt: skip
        return pa.Table.from_batches([batch])


State = dict[TableSpec, pa.Table]


def state_of(lake: Lake) -> State:
    """The published rows of every table."""
    snapshot = published(lake)
    assert snapshot is not None
    return {spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES}


def differences(left: State, right: State) -> list[str]:
    """Which tables differ in content, up to minted ids."""
    return [str(d) for d in compare_states(left, right) if not d.is_equal]
