"""Records through the parser, without a JVM."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from conf.policy import Policy, load_policy
from conf.source_mapping import load_mapping
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

TRANSPORT_AT = 1_700_000_000_000_000


@pytest.fixture(scope="session")
def policy() -> Policy:
    return load_policy()


@pytest.fixture
def make_parser(policy: Policy) -> Callable[..., RecordParser]:
    def make(key: bytes = b"k" * 32, policy: Policy = policy, **settings: int) -> RecordParser:
        return RecordParser({m: load_mapping(m) for m in ("native", "flat")}, policy, key, **settings)

    return make


@pytest.fixture
def parse(make_parser: Callable[..., RecordParser]) -> Callable[..., list[dict]]:
    """Payloads (bytes as they are, anything else as JSON) → rows as dicts."""

    def parse(
        *payloads: object,
        mapping: str = "native",
        payload_format: str = "json",
        parser: RecordParser | None = None,
    ) -> list[dict]:
        raw = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in payloads]
        records = records_of(raw, mapping, payload_format)
        return (parser or make_parser()).parse(records).to_pylist()

    return parse


def records_of(payloads: Sequence[bytes], mapping: str = "native", payload_format: str = "json") -> Records:
    n = len(payloads)
    return Records(
        ["here"] * n, [mapping] * n, ["events"] * n, ["f.jsonl"] * n, list(range(n)), [payload_format] * n,
        list(payloads), [TRANSPORT_AT] * n,
    )  # fmt: skip
