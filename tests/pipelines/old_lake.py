"""The lake in tests/samples/old_lake, which an older program made, what it was made of, and new ones of the same."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from tests.pipelines.driver_lake import KEY, DriverLake, State, state_of

SAMPLE = Path(__file__).parents[1] / "samples" / "old_lake"


def part(number: int) -> bytes:
    return (SAMPLE / "events" / f"{number}.jsonl").read_bytes()


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(SAMPLE / "lake.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "lake"


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Lake:
    """A copy of the old lake, to be written."""
    shutil.copytree(unpacked, tmp_path / "world" / "lake")
    key_path(tmp_path / "world" / "lake").write_bytes(KEY)
    return Lake(tmp_path / "world" / "lake")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> State:
    """The tables of a lake of this program that was fed the same three parts."""
    new = DriverLake(tmp_path_factory.mktemp("fresh"))
    for number in (1, 2, 3):
        new.land(f"{number}.jsonl", part(number))
    return state_of(new.lake)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of this program with the first two parts, the first one folded into the bases; to be read only."""
    world = DriverLake(tmp_path_factory.mktemp("filled"))
    world.land("1.jsonl", part(1))
    world.processor.compact()
    world.land("2.jsonl", part(2))
    return world.path


def tree(lake: Lake) -> dict[str, int]:
    """Every file of a lake and when it was written."""
    return {str(f.relative_to(lake.path)): f.stat().st_mtime_ns for f in lake.path.rglob("*") if f.is_file()}


def but_claims_and_parts(state: State) -> State:
    """Without what an older program kept otherwise, or not; it comes with the rebuild that the stream asks for."""
    return {spec: _without(_without(rows, "claims"), "spans") for spec, rows in state.items()}


def _without(rows: pa.Table, name: str) -> pa.Table:
    if name not in rows.column_names:
        return rows
    place = rows.column_names.index(name)
    return rows.set_column(place, name, pa.nulls(rows.num_rows, rows.schema.field(place).type))
