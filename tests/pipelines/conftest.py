"""Lakes in a temporary folder, filled by the real stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.apps.notebooks import run_notebook
from pipelines.apps.run_stream import StreamResult, run_stream
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.stream.source import Source
from tests.direct_lake import KEY
from tests.engine import ENVIRONMENT
from tests.pipelines.lake_rows import drop_lake
from tests.pipelines.old_lake import filled, fresh, old, unpacked  # noqa: F401  (fixtures)
from tests.published_rows import PublishedRows


class TestLake(PublishedRows):
    """A landing folder and the lake that streams from it."""

    __test__ = False

    def __init__(self, spark, folder: Path, policy=None, **settings: object) -> None:
        self.spark, self.folder = spark, folder
        self.landing, self.path = folder / "landing", folder / "lake"
        self.policy = policy or load_policy()
        self.settings = replace(load_settings(ENVIRONMENT), **{"engine": "driver", **settings})
        self.landing.mkdir(parents=True)
        key_path(self.path).write_bytes(KEY)

    def drop(self, name: str, records: Iterable[object] | bytes) -> None:
        """Land a file by rename: records as JSON lines, or bytes as they are."""
        if not isinstance(records, bytes):
            records = b"".join(json.dumps(r).encode() + b"\n" for r in records)
        hidden = self.landing / f".{name}"
        hidden.write_bytes(records)
        hidden.rename(self.landing / name)

    def once(self, mapping: str = "native") -> StreamResult:
        source = Source(mapping, str(self.landing), "file", f"{mapping}:test")
        return run_stream(self.spark, self.path, [source], self.policy, self.settings, once=True)

    @property
    def lake(self) -> Lake:
        return Lake(self.path)


@pytest.fixture(scope="session")
def make_lake(spark, tmp_path_factory) -> Callable[..., TestLake]:
    """Makes test lakes; all share one hashing key, so that their node ids compare."""
    return lambda **settings: TestLake(spark, tmp_path_factory.mktemp("world"), **settings)


@dataclass(frozen=True)
class AnalystsLake:
    """A lake of generated people, and what the first notebook showed while it made it. To be read only."""

    path: Path
    landing: Path
    shown: list[str]

    @property
    def lake(self) -> Lake:
        return Lake(self.path)


@pytest.fixture(scope="session")
def analysts_lake(spark, tmp_path_factory) -> AnalystsLake:
    """One small lake for everything that analysts do with one; the quickstart notebook makes it."""
    folder = tmp_path_factory.mktemp("analysts")
    widgets = {
        "lake": str(folder / "lake"),
        "landing": str(folder / "landing"),
        "persons": "40",
        "events": "600",
    }
    notebook = Path(__file__).parents[2] / "notebooks" / "01_quickstart.py"
    shown = run_notebook(notebook, spark, widgets, show=lambda text: None)
    drop_lake(spark)
    return AnalystsLake(folder / "lake", folder / "landing", shown)
