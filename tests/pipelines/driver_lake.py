"""Whole lakes without a JVM that lie beside their key, as a user's does, and what two of them hold compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.operations.upgrade import ready_to_write
from tests.direct_lake import DirectLake
from transforms.compare.reconciliation import compare_states

KEY = b"a key that every test lake shares"[:32]  # of the old lake, and of those that a stream fills
State = dict[TableSpec, pa.Table]


class DriverLake(DirectLake):
    """The lake in `folder`/lake, begun as a stream begins; one there is goes on."""

    def __init__(self, folder: Path, stream: str = "s") -> None:
        path = folder / "lake"
        path.mkdir(parents=True, exist_ok=True)
        ready_to_write(Lake(path), lambda line: None)
        super().__init__(path, stream=stream, key=KEY)

    def land(self, name: str, records: bytes) -> None:
        """Publish a landed file as the stream's next batch."""
        self.feed(records, name=name)


def copy_of(filled: Path, folder: Path) -> DriverLake:
    """A copy of the lake `filled`: two published batches, the first one folded into the bases."""
    shutil.copytree(filled, folder / "lake")
    world = DriverLake(folder)
    world.batches = 2
    return world


def state_of(lake: Lake) -> State:
    """The published rows of every table."""
    snapshot = published(lake)
    assert snapshot is not None
    return {spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES}


def differences(left: State, right: State) -> list[str]:
    """Which tables differ in content, up to minted ids."""
    return [str(d) for d in compare_states(left, right) if not d.is_equal]
