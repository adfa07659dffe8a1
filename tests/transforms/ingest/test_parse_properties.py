"""Whatever a record contains."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from transforms.ingest.framing.frames import frame
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

POLICY = load_policy()
PARSER = RecordParser({m: load_mapping(m) for m in ("native", "flat")}, POLICY, b"k" * 32)
NAMES = (
    "event_id", "tenant", "event_type", "timestamp", "received_at", "platform", "identifiers", "actor",
    "properties", "context", "customer_id", "user_id", "device_id", "cookie_id", "email", "phone", "ip",
    "ip_address", "campaign", "page", "referrer", "other",
)  # fmt: skip

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**53, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        [
            "2024-05-01T12:00:00Z",
            1714564800,
            "d1",
            "a@b.de",
            "+491701234567",
            '{"device_id":1e30}',
            "[",
            "NULL",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
records = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
likely = st.fixed_dictionaries(
    {
        "timestamp": st.one_of(st.sampled_from([1714564800, "2024-05-01T12:00:00"]), values),
        "identifiers": st.one_of(st.dictionaries(st.sampled_from(NAMES[11:16]), scalars, max_size=4), values),
    },
    optional=dict.fromkeys(("event_id", "tenant", "actor", "properties", "context", "other"), values),
)


def parse_file(name: str, content: bytes, mapping: str) -> tuple[list, list[dict]]:
    frames = list(frame(name, content))
    n = len(frames)
    columns = ([f.ordinal for f in frames], [f.payload_format for f in frames], [f.payload for f in frames])
    rows = PARSER.parse(Records(["s"] * n, [mapping] * n, ["events"] * n, ["f"] * n, *columns, [None] * n))
    rows.validate(full=True)
    return frames, rows.to_pylist()


def assert_one_row_each(frames: list, rows: list[dict]) -> None:
    assert [(r["origin_ordinal"], r["payload"]) for r in rows] == [(f.ordinal, f.payload) for f in frames]
    for row in rows:
        assert "unparseable" not in row["reasons"]
        if not row["reasons"]:
            assert None not in (row["event_at"], row["event_id"], row["event_key"], row["content_digest"])
            assert row["anchor_node_id"] in row["node_ids"]
            assert row["is_authenticated"] == (row["user_node_id"] is not None)


@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz"]),
    st.binary(max_size=80),
    st.sampled_from(["native", "flat"]),
)
def test_any_bytes_become_one_row_per_framed_record(name, content, mapping):
    assert_one_row_each(*parse_file(name, content, mapping))


@given(st.lists(st.one_of(values, records, likely), max_size=4), st.sampled_from(["native", "flat"]))
def test_any_json_becomes_one_row_per_record(objects, mapping):
    content = b"".join(json.dumps(o).encode() + b"\n" for o in objects)
    frames, rows = parse_file("a.jsonl", content, mapping)
    assert len(frames) == len(objects)
    assert_one_row_each(frames, rows)


@given(likely, st.randoms(use_true_random=False))
def test_order_of_keys_and_spaces_do_not_change_what_a_record_says(record, chance):
    one = parse_file("a.jsonl", json.dumps(record).encode(), "native")[1][0]
    other = parse_file("a.json", json.dumps(shuffled(record, chance), indent=3).encode(), "native")[1][0]
    for row in (one, other):
        row.pop("payload")
        row["identifiers"].sort(key=repr)
    assert one == other


def shuffled(value: object, chance: random.Random) -> object:
    if isinstance(value, dict):
        items = [(k, shuffled(v, chance)) for k, v in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(v, chance) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_type", "click"), ("event_name", "x"), ("timestamp", 1714564801), ("platform", "web"),
        ("properties", {"a": 1}), ("context", {"a": 1}), ("actor", {"agent_id": "a"}), ("other", 1),
        ("identifiers", {"device_id": "d2"}), ("identifiers", {"device_id": "d1", "session_id": "s"}),
    ],
)  # fmt: skip
def test_other_content_has_another_digest(name, value):
    record = {"timestamp": 1714564800, "identifiers": {"device_id": "d1"}}
    assert digest_of(record) != digest_of({**record, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("received_at", 1714564999), ("timestamp", "2024-05-01T14:00:00+02:00"), ("properties", {})],
)
def test_when_it_was_received_and_how_its_time_is_written_are_no_content(name, value):
    record = {"timestamp": 1714564800, "identifiers": {"device_id": "d1"}}
    assert digest_of(record) == digest_of({**record, name: value})


def digest_of(record: dict) -> int:
    return parse_file("a.jsonl", json.dumps(record).encode(), "native")[1][0]["content_digest"]
