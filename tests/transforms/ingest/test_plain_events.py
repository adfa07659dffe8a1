"""Plain records, taken together, become the rows that each of them alone becomes.

Seen to fail: with network addresses that stay in the context, with weak identifiers before those that link, with a
digest of the event's type as it was written, with a free part that nobody looks into, with nodes told by whichever
record was read first, and with thirty-one days in every month.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conf.policy import Policy, load_policy, policy_from_dict
from conf.source_mapping import load_mapping
from pipelines.generator.generation import generate
from tests.dirty.corpus import poison
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records
from transforms.ingest.values.instants import ASSUMED_UTC, instant, instants

TRANSPORT_AT = 1_700_000_000_000_000
SEVERAL_UNIQUE = policy_from_dict(
    {
        "namespaces": {
            "user_id": {"strength": "unique", "priority": 2},
            "email": {"strength": "strong", "priority": 3},
            "phone": {"strength": "strong", "priority": 1, "normalize": "phone"},
            "wallet_address": {"strength": "unique", "priority": 3},
            "device_id": {"strength": "device", "priority": 10},
        }
    }
)
POLICIES = {"default": load_policy(), "attaching": load_policy("attach_weak"), "several": SEVERAL_UNIQUE}
EVENT = {"event_id": "e", "timestamp": "2024-05-01T12:00:00Z", "identifiers": {"device_id": "d1"}}


def parsers(policy: Policy) -> tuple[RecordParser, RecordParser]:
    """One that takes plain records together, and one that takes every record by itself."""
    together, alone = (RecordParser({"native": load_mapping("native")}, policy, b"k" * 32) for _ in range(2))
    alone._plain.clear()
    return together, alone


PARSERS = {name: parsers(policy) for name, policy in POLICIES.items()}
NAMES = [n.name for n in POLICIES["default"].namespaces]


def records_of(payloads: list[bytes]) -> Records:
    n = len(payloads)
    shared = ["here"] * n, ["native"] * n, ["events"] * n, ["f"] * n
    return Records(*shared, list(range(n)), ["json"] * n, payloads, [TRANSPORT_AT] * n)


def assert_same(payloads: list[bytes], policy: str = "default") -> None:
    together, alone = (parser.parse(records_of(payloads)) for parser in PARSERS[policy])
    together.validate(full=True)
    for name in together.schema.names:
        assert together[name].to_pylist() == alone[name].to_pylist(), name


texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["", " ", "d1", " D1 ", "null", "a@b.de", "A@B.DE", "x" * 600, "😀", "+491701234567"]),
)
times = st.one_of(
    st.sampled_from(
        ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00.123Z", "2024-05-01 12:00", "2024-02-30T12:00:00Z"]
        + ["2024-05-01T24:00:00Z", "2101-05-01T12:00:00Z", "2024-05-01T12:00:00.1234567Z", "", "now"]
    ),
    st.sampled_from([1714564800, 1714564800000, 1714564800.5, 0, 2**63, 10**30, True]),
)
free = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["ip", "ip_address", "campaign", "page", "referrer", "utm_source", "b", "a", "é"]),
        st.one_of(
            texts,
            st.integers(),
            st.floats(allow_nan=False),
            st.none(),
            st.dictionaries(texts, texts, max_size=2),
        ),
        max_size=4,
    ),
    texts,
)
subjects = st.dictionaries(
    st.sampled_from([*NAMES, "nonsense"]),
    st.one_of(texts, texts, st.integers(), st.lists(texts, max_size=2)),
    max_size=5,
)
events = st.fixed_dictionaries(
    {"timestamp": times, "identifiers": st.one_of(subjects, texts)},
    optional={
        **dict.fromkeys(
            ("event_id", "tenant", "event_type", "event_name", "platform"),
            st.one_of(texts, st.none(), st.integers()),
        ),
        **{
            "received_at": times,
            "actor": st.one_of(st.none(), subjects),
            "properties": free,
            "context": free,
            "other": texts,
        },
    },
)


@given(st.lists(events, min_size=1, max_size=6), st.sampled_from(sorted(POLICIES)))
@example([EVENT | {"context": {"ip": "10.0.0.1"}}, EVENT | {"context": {"ip_address": 7}}], "default")
@example([EVENT | {"event_type": " Login", "event_name": " Signed In", "platform": "WEB "}], "default")
def test_together_they_become_what_each_becomes_alone(objects, policy):
    assert_same([json.dumps(o).encode() for o in objects], policy)
    assert_same([json.dumps(o, ensure_ascii=False, indent=1).encode() for o in objects], policy)


@given(events, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_so_do_broken_ones(record, at, instead):
    payload = json.dumps(record, ensure_ascii=False).encode()
    at %= len(payload)
    assert_same([payload[:at] + instead + payload[at + 1 :], payload])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"event_id":"e","timestamp":1714564800,"identifiers":{"device_id":"d"},"properties":%b}' % part
        for part in (
            b'{"a":"\xff"}',
            b'{"a":"\\ud800"}',
            b'{"a":1,}',
            b'{"b":1,"a":2}',
            b"[1]",
            b"null",
            b'{"a":NaN}',
        )
        + (
            b"[" * 1023 + b"]" * 1023,
            b'{"a":' + b"[" * 1022 + b"]" * 1022 + b"}",
            b'{"a":' * 1023 + b"1" + b"}" * 1023,
        )
        + (b'{"a":123456789012345678901234567890}', b'{"a":1.0}', b'{"a":1e400}')
    ],
)
def test_a_free_part_is_looked_into(payload):
    assert_same([payload, payload])


def test_a_generated_world_becomes_the_same_and_most_of_it_is_plain(tmp_path):
    """What is no longer taken together would cost more, without a word."""
    generate(200, 4_000, 7, tmp_path)
    payloads = [
        line for f in sorted(tmp_path.glob("*.jsonl")) for line in f.read_bytes().splitlines() if line
    ]
    assert_same(payloads)
    plain = PARSERS["default"][0]._plain["native"]
    places, *_ = plain.made(payloads, [TRANSPORT_AT] * len(payloads), 2**24)
    assert len(places) > 0.9 * len(payloads)


def test_so_does_the_poison_corpus():
    assert_same([entry.payload for entry in poison() if entry.mapping == "native"])


def test_what_cannot_be_taken_together_is_taken_one_by_one(monkeypatch):
    parser, alone = parsers(POLICIES["default"])
    monkeypatch.setattr(parser._plain["native"], "made", lambda *_: 1 / 0)
    records = records_of([json.dumps(EVENT).encode(), b"{"])
    assert parser.parse(records).equals(alone.parse(records))


def test_a_tombstone_among_them_does_not_keep_the_others_from_being_taken_together(monkeypatch):
    parser, alone = parsers(POLICIES["default"])
    records = records_of([json.dumps(EVENT | {"event_id": f"e{n}"}).encode() for n in range(3)])
    records.payload[1], records.payload_format[1] = None, "tombstone"
    expected = alone.parse(records)
    row_of, rows = parser._row, []
    monkeypatch.setattr(parser, "_row", lambda *found: rows.append(found) or row_of(*found))
    assert parser.parse(records).equals(expected)
    assert expected["reasons"].to_pylist() == [[], ["tombstone"], []]
    assert not rows


@pytest.mark.thorough
def test_a_hundred_thousand_values_are_remembered_and_no_more():
    parser, alone = parsers(replace(POLICIES["default"], max_degree=10))
    known = parser._plain["native"]._known
    for first in range(0, 120_000, 20_000):
        records = records_of(
            [
                json.dumps(EVENT | {"identifiers": {"device_id": f"d{first + n}"}}).encode()
                for n in range(20_000)
            ]
        )
        assert parser.parse(records)["node_ids"].equals(alone.parse(records)["node_ids"])
    assert len(known.nodes) < 110_000


PRECISIONS = ("seconds", "milliseconds", "microseconds", "auto")
moments = st.datetimes(datetime(1989, 12, 30), datetime(2100, 1, 3))


@given(
    st.lists(st.one_of(moments, texts, times, st.none()), max_size=8),
    st.sampled_from(["Z", "+00:00", "+05:30", ""]),
    st.booleans(),
)
def test_instants_of_many_are_those_of_each(values, offset, is_utc):
    written = [
        v.isoformat(timespec=("seconds", "milliseconds", "microseconds", "auto")[n % 4]) + offset
        if isinstance(v, datetime)
        else v
        for n, v in enumerate(values)
    ]
    micros, is_good = instants(written, is_utc)
    for value, found, good in zip(written, micros.tolist(), is_good.tolist(), strict=True):
        expected, note = instant(value)
        assert good == (expected is not None and (note is None or (is_utc and note == ASSUMED_UTC)))
        assert not good or found == expected
