"""A small lake, made by the real batch function without a JVM, and copies of it to spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from conf.policy import Policy, load_policy
from conf.settings import load_settings
from conf.source_mapping import load_mapping
from pipelines.lake.hashing_key import fingerprint, key_path
from pipelines.lake.lake import Lake
from pipelines.lake.writing.engines import make_writer
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import StreamSetup
from tests.direct_lake import make_tables
from transforms.identity.components import driver_components
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

KEY = b"k" * 32
SECRETS = ("ada@example.org", "u-ada", "u-bob", "dev-ada", "dev-bob", "kiosk-1", "ck-guest")


def line(number: int, minute: int, kind: str, **identifiers: str) -> bytes:
    named = ",".join(f'"{k}":"{v}"' for k, v in identifiers.items())
    return (
        f'{{"event_id":"e{number}","event_type":"{kind}","timestamp":{1_760_000_000 + 60 * minute},'
        f'"platform":"web","identifiers":{{{named}}}}}'
    ).encode()


BATCHES_OF_LINES: tuple[tuple[bytes, ...], ...] = (
    (
        line(1, 0, "page_view", device_id="dev-ada"),
        line(2, 5, "login", device_id="dev-ada", user_id="u-ada", email="ada@example.org"),
        line(3, 6, "page_view", device_id="kiosk-1", user_id="u-ada"),
        b"not json at all",
    ),
    (
        line(4, 90, "login", device_id="dev-bob", user_id="u-bob"),
        line(5, 91, "page_view", device_id="kiosk-1", user_id="u-bob"),
        line(6, 200, "page_view", device_id="kiosk-1"),
        line(2, 5, "login", device_id="dev-ada", user_id="u-ada", email="ada@example.org"),
    ),
    (
        line(7, 300, "page_view", cookie_id="ck-guest"),
        line(8, 301, "login", cookie_id="ck-guest", user_id="u-bob"),
    ),
)


def processor_of(lake: Lake, policy: Policy | None = None) -> BatchProcessor:
    policy = policy or load_policy()
    make_tables(lake.path)
    key_path(lake.path).write_bytes(KEY)
    return BatchProcessor(
        StreamSetup(
            lake=lake,
            writer=make_writer("delta_rs", lake),
            parser=RecordParser({"native": load_mapping("native")}, policy, KEY),
            policy=policy,
            components=driver_components,
            settings=load_settings("laptop"),
            stream="test",
            key_fingerprint=fingerprint(KEY),
            open_state=partial(LakeState.load, policy=policy),
        )
    )


def feed(processor: BatchProcessor, lines: Sequence[bytes], number: int) -> None:
    """One batch of native records."""
    n = len(lines)
    records = Records(
        ["here"] * n, ["native"] * n, ["events"] * n, [f"{number}.jsonl"] * n, list(range(n)), ["json"] * n,
        list(lines), [1_760_000_000_000_000] * n,
    )  # fmt: skip
    parsed = pa.Table.from_batches([processor.setup.parser.parse(records)])
    processor.process(lambda: parsed, number)


@pytest.fixture(scope="session")
def clean_lake(tmp_path_factory) -> Lake:
    """Three batches: the first two folded into the tables, the last one in the hot parts. To be read only."""
    lake = Lake(tmp_path_factory.mktemp("quality") / "lake")
    processor = processor_of(lake)
    for number, lines in enumerate(BATCHES_OF_LINES[:2]):
        feed(processor, lines, number)
    processor.compact()
    feed(processor, BATCHES_OF_LINES[2], 2)
    return lake


@pytest.fixture
def copy_of(tmp_path) -> Callable[[Lake], Lake]:
    """A copy to spoil."""

    def copy(lake: Lake) -> Lake:
        folder: Path = tmp_path / "lake"
        shutil.copytree(lake.path, folder)
        shutil.copy(key_path(lake.path), key_path(folder))
        return Lake(folder)

    return copy
