"""What becomes of one record: accepted with which values, flagged with what, or refused for which reasons."""

from __future__ import annotations

import datetime
import gc
import json
import pickle

import pytest

from conf.policy import Policy, load_policy, policy_from_dict
from conf.source_mapping import load_mapping, mapping_from_dict
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import PARSED_SCHEMA, Records
from transforms.ingest.values.hashing import event_key, node_id

KEY = b"k" * 32
NOON = "2024-05-01T12:00:00Z"
EVENT = {"event_id": "e1", "tenant": "acme", "timestamp": NOON, "identifiers": {"device_id": "d1"}}


def event(**changes: object) -> dict:
    return {**EVENT, **changes}


def ids(**identifiers: object) -> dict:
    return event(identifiers=identifiers)


def node(namespace: str, value: str, tenant: str = "acme") -> int:
    return node_id(KEY, tenant, namespace, value)


def test_a_full_record_fills_every_column(parse):
    record = {
        "event_id": "e1",
        "tenant": "acme",
        "event_type": " Page_View ",
        "event_name": "Viewed",
        "timestamp": "2024-05-01T23:59:59.5-01:00",
        "received_at": 1714564800000,
        "platform": "Web",
        "identifiers": {"user_id": 7, "device_id": "d1", "cookie_id": ["c2", "c1"], "session_id": "s1"},
        "actor": {"agent_id": "a1", "email": "Agent@Example.com"},
        "properties": {"b": 1, "a": [None]},
        "context": {
            "ip": "10.0.0.7",
            "page": {"referrer": "https://x.example/"},
            "campaign": {"source": "g"},
        },
        "shop": "north",
    }
    (row,) = parse(record)
    assert (row.pop("node_sum") - sum(i["tie_hash"] for i in row["identifiers"])) % 2**64 == 0
    told = {(i["namespace"], i["value"]): i["node_id"] for i in row.pop("identifiers")}
    assert told == {
        (ns, v): node(ns, v)
        for ns, v in [
            ("user_id", "7"), ("device_id", "d1"), ("cookie_id", "c1"), ("cookie_id", "c2"),
            ("session_id", "s1"),
            ("ip_address", "10.0.0.7"), ("agent_id", "a1"), ("email", "agent@example.com"),
        ]
    }  # fmt: skip
    assert (row.pop("event_key"), row.pop("event_key_low")) == event_key(row["tenant"], row["event_id"])
    assert isinstance(row.pop("content_digest"), int)
    assert row == {
        "tenant": "acme",
        "source": "here",
        "mapping": "native",
        "feed": "events",
        "origin": "f.jsonl",
        "origin_ordinal": 0, "record_position": 0, "element": None,
        "payload_format": "json",
        "payload": json.dumps(record).encode(),
        "record_key": None,
        "headers": None,
        "received_at": datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
        "reasons": [],
        "event_id": "e1",
        "event_type": "page_view",
        "event_name": "Viewed",
        "event_at": datetime.datetime(2024, 5, 2, 0, 59, 59, 500_000, tzinfo=datetime.UTC),
        "event_date": datetime.date(2024, 5, 2),
        "platform": "web",
        "is_authenticated": True,
        "user_node_id": node("user_id", "7"),
        "anchor_node_id": node("device_id", "d1"),
        "node_ids": [
            node("user_id", "7"), node("device_id", "d1"), node("cookie_id", "c1"), node("cookie_id", "c2"),
        ],
        "weak_node_ids": [node("session_id", "s1"), node("ip_address", "10.0.0.7")],
        "actor_node_ids": [node("email", "agent@example.com"), node("agent_id", "a1")],
        "touch_source": "g",
        "touch_medium": None,
        "touch_campaign": None,
        "touch_referrer": "https://x.example/",
        "claims": None,
        "flags": [],
        "properties": '{"a":[null],"b":1,"shop":"north"}',
        "context": '{"campaign":{"source":"g"},"page":{"referrer":"https://x.example/"}}',
        "decision": None,
    }  # fmt: skip


def test_no_records_are_no_rows(make_parser):
    batch = make_parser().parse(Records([], [], [], [], [], [], [], []))
    assert batch.num_rows == 0
    assert batch.schema == PARSED_SCHEMA


# Refused ------------------------------------------------------------------------------------------

FIFTY_ONE = [f"d{n}" for n in range(51)]


@pytest.mark.parametrize(
    ("payload", "reasons"),
    [
        (b"{", ["malformed_json"]),
        (b"", ["malformed_json"]),
        (b'{"a": NaN}', ["malformed_json"]),
        (b"[" * 100_000, ["malformed_json"]),
        (b'{"a": "\xff"}', ["invalid_utf8"]),
        ('{"ü": 1}'.encode("utf-16"), ["invalid_utf8"]),
        (b"[1]", ["not_an_object"]),
        (b"null", ["not_an_object"]),
        (b'"text"', ["not_an_object"]),
        (event(timestamp=None), ["no_timestamp"]),
        (event(timestamp="soon"), ["no_timestamp"]),
        (event(timestamp={"at": 1}), ["no_timestamp"]),
        (event(timestamp=True), ["no_timestamp"]),
        (event(timestamp="1989-12-31T23:59:59Z"), ["timestamp_out_of_range"]),
        (event(timestamp=5), ["timestamp_out_of_range"]),
        (event(identifiers={}), ["no_identifier"]),
        (event(identifiers=None), ["no_identifier"]),
        (ids(session_id="s1", ip_address="10.0.0.1"), ["no_identifier"]),
        (ids(user_id="anonymous", device_id=None, cookie_id=[]), ["no_identifier"]),
        (ids(somewhere="x"), ["no_identifier"]),
        (ids(device_id=FIFTY_ONE), ["too_many_identifiers"]),
        (ids(device_id=FIFTY_ONE * 1000), ["too_many_identifiers"]),
        (event(tenant={"id": 3}), ["unusable_tenant"]),
        (event(tenant=True), ["unusable_tenant"]),
        (event(timestamp="soon", identifiers={}), ["no_timestamp", "no_identifier"]),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reasons(parse, payload, reasons):
    (row,) = parse(payload)
    assert row["reasons"] == reasons
    assert row["node_ids"] == row["identifiers"] == []
    assert row["event_at"] is row["content_digest"] is row["is_authenticated"] is None
    assert row["received_at"] is not None
    assert row["payload"] == (payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def test_fifty_identifiers_are_not_too_many_and_the_same_ones_count_once(parse):
    (row,) = parse(ids(device_id=FIFTY_ONE[:50] * 3))
    assert row["reasons"] == []
    assert len(row["node_ids"]) == 50


def test_a_refused_record_says_whose_it_is_as_far_as_that_can_be_read(parse):
    (row,) = parse(event(timestamp=None, received_at=1714564800))
    assert (row["tenant"], row["event_id"]) == ("acme", "e1")
    assert row["received_at"] == datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)


def test_a_record_above_the_limit_is_refused_and_one_at_it_is_not(parse, make_parser):
    payload = json.dumps(EVENT).encode()
    assert parse(payload, parser=make_parser(max_record_bytes=len(payload)))[0]["reasons"] == []
    assert parse(payload, parser=make_parser(max_record_bytes=len(payload) - 1))[0]["reasons"] == [
        "record_too_large"
    ]


def test_an_unreadable_file_is_a_refused_record(parse):
    assert parse(b"\x1f\x8b", payload_format="unreadable")[0]["reasons"] == ["unreadable_file"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"timestamp,user_id\n2024-05-01", "malformed_csv"),
        (b"timestamp,user_id\n2024-05-01,u,x", "malformed_csv"),
        (b'timestamp,user_id\n2024-05-01,"u', "malformed_csv"),
        (b'timestamp,user_id\n2024-05-01,"u"x', "malformed_csv"),
        (b'timestamp,"user_id\n2024-05-01,u', "malformed_csv"),
        (b"timestamp,user_id\n2024-05-01,\xff", "invalid_utf8"),
    ],
)
def test_broken_csv_is_refused(parse, payload, reason):
    assert parse(payload, mapping="flat", payload_format="csv")[0]["reasons"] == [reason]


def test_what_nobody_has_thought_of_is_refused_as_unparseable(parse, make_parser, monkeypatch):
    parser = make_parser()
    monkeypatch.setattr(parser, "_row", lambda *_: 1 / 0)
    assert parse({**EVENT, "actor": {"agent_id": "a"}}, parser=parser)[0]["reasons"] == ["unparseable"]


# Accepted, and flagged ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "flag"),
    [
        (ids(device_id="d1", user_id=" NULL "), "blocked_identifier"),
        (ids(device_id="d1", user_id="x" * 600), "oversized_identifier"),
        (ids(device_id="d1", user_id=True), "wrong_type_identifier"),
        (ids(device_id="d1", user_id={"id": 1}), "wrong_type_identifier"),
        (ids(device_id="d1", user_id=[["u"]]), "wrong_type_identifier"),
        (ids(device_id="d1", email="nobody"), "malformed_identifier"),
        (ids(device_id="d1", shoe_size="42"), "unknown_namespace"),
        (event(timestamp="2024-05-01T12:00:00"), "assumed_utc"),
        (event(received_at="soon"), "unusable_received_at"),
        (event(event_id=["e1"]), "wrong_type_event_id"),
        (event(event_id="e" * 600), "oversized_event_id"),
        (event(context={"ip": "unknown"}), "blocked_identifier"),
    ],
)
def test_what_is_left_out_of_linking_is_flagged_and_the_record_stands(parse, payload, flag):
    (row,) = parse(payload)
    assert row["reasons"] == []
    assert row["flags"] == [flag]
    assert row["node_ids"] == [node("device_id", "d1")]


def test_unknown_namespaces_are_kept_where_identifiers_are(parse):
    """Seen to fail while they were kept in the properties, which everybody may read in gold.events."""
    identifiers = {
        "device_id": "d1",
        "shoe": [42, "42.0x", " 42", True, None, {"a": 1}],
        "session_id": "s",
        "a b": "x",
    }
    (row,) = parse(event(identifiers=identifiers, properties={"identifiers": "own"}))
    assert json.loads(row["properties"]) == {"identifiers": "own"}
    told = {(i["namespace"], i["value"]): i["node_id"] for i in row["identifiers"]}
    assert told.keys() == {("device_id", "d1"), ("session_id", "s"), ("shoe", "42"), ("shoe", "42.0x")}
    assert row["node_ids"] == [told[("device_id", "d1")]]
    assert row["weak_node_ids"] == [told[("session_id", "s")], told[("shoe", "42")], told[("shoe", "42.0x")]]
    assert row["flags"] == ["unknown_namespace", "wrong_type_identifier"]
    many = {f"x{n}": [f"{n}-{m}" for m in range(60)] for n in range(60)}
    assert len(parse(ids(device_id="d1", **many))[0]["weak_node_ids"]) == 50


DIGESTS_OF_BEFORE = [
    -8208413009300579132, -7121158045776390208, -8219268028067839983, 8276477110423787447,
]  # fmt: skip


def test_an_event_that_came_before_and_comes_again_is_a_duplicate_wherever_its_identifiers_are_kept(parse):
    """The digests are those of a version that kept them in the properties."""
    rows = parse(
        event(identifiers={"device_id": "d1", "shoe": 42}, properties={"identifiers": "own"}),
        ids(device_id="d1", shoe=[42]),
        event(actor="somebody", properties={"a": 1}),
        event(actor=["x"], identifiers={"device_id": "d1", "shoe": {"a": 1}}),
    )
    assert [row["content_digest"] for row in rows] == DIGESTS_OF_BEFORE


def test_identifiers_that_are_no_object_are_flagged(parse):
    row = parse(event(identifiers=["d1"], ip_address="x"))[0]
    assert (row["reasons"], row["flags"]) == (["no_identifier"], ["wrong_type_identifier"])


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["7", 7, 7.0, " 7 ", ["7"], [7, "7"], [None, 7]])
def test_an_identifier_is_one_node_however_it_is_written(parse, value):
    assert parse(ids(user_id=value))[0]["node_ids"] == [node("user_id", "7")]


def test_integers_too_long_for_a_float_stay_two_persons(parse):
    rows = parse(
        b'{"event_id":117829361234567890121,"timestamp":1714564800,"identifiers":{"user_id":117829361234567890123},'
        b'"properties":{"n":117829361234567890123}}',
        b'{"event_id":117829361234567890122,"timestamp":1714564800,"identifiers":{"user_id":[117829361234567890124]}}',
    )
    assert [r["node_ids"] for r in rows] == [
        [node("user_id", "117829361234567890123", "default")],
        [node("user_id", "117829361234567890124", "default")],
    ]
    assert [r["event_id"] for r in rows] == ["117829361234567890121", "117829361234567890122"]


@pytest.mark.parametrize(
    "part",
    [
        {"event_id": 1e300},
        {"event_type": 2**64},
        {"event_name": 1e30},
        {"platform": 2**80},
        {"tenant": 10**30},
        {"timestamp": 1714564800.0, "event_id": 10**30},
        {"context": {"ip": -(2**63) - 1}},
        {"actor": {"agent_id": 2**70, "email": 2**70}},
        {"properties": {"n": 2**70}, "event_id": 2**70},
    ],
)
def test_long_numbers_anywhere_do_no_harm(parse, part):
    assert parse(event(**part))[0]["reasons"] == []


def test_nodes_differ_by_tenant_and_by_key(parse, make_parser):
    a = parse(event(tenant="a"))[0]["node_ids"]
    assert a == parse(event(tenant=" a "))[0]["node_ids"]
    assert a != parse(event(tenant="b"))[0]["node_ids"]
    assert a != parse(event(tenant="a"), parser=make_parser(key=b"z" * 32))[0]["node_ids"]


@pytest.mark.parametrize(("tenant", "read"), [(None, "default"), ("", "default"), (" ", "default"), (7, "7")])
def test_tenants(parse, tenant, read):
    assert parse(event(tenant=tenant))[0]["tenant"] == read


def test_the_anchor_is_the_best_device_else_the_best_linking_identifier(parse):
    def anchor(**identifiers: object) -> int:
        return parse(ids(**identifiers))[0]["anchor_node_id"]

    assert anchor(user_id="u", cookie_id="c", device_id=["d2", "d1"]) == node("device_id", "d1")
    assert anchor(user_id="u", cookie_id="c") == node("cookie_id", "c")
    assert anchor(email="a@b.de", user_id=["u2", "u1"]) == node("user_id", "u1")
    assert anchor(phone="+491701234567", email="a@b.de") == node("email", "a@b.de")


def test_an_actor_is_recorded_and_neither_links_nor_authenticates(parse):
    (row,) = parse(
        event(actor={"user_id": "support-1", "agent_id": ["a", "a", 7], "x": None, "y": {}, "z": " "})
    )
    assert row["actor_node_ids"] == [
        node("user_id", "support-1"),
        node("agent_id", "7"),
        node("agent_id", "a"),
    ]
    assert row["is_authenticated"] is False
    assert row["node_ids"] == [node("device_id", "d1")]


def test_ignored_namespaces_leave_no_trace(parse, make_parser):
    policy = policy_from_dict(
        {"namespaces": {"device_id": {"strength": "device"}, "fp": {"strength": "ignored"}}}
    )
    (row,) = parse(ids(device_id="d1", fp="x"), parser=make_parser(policy=policy))
    assert (len(row["node_ids"]), row["weak_node_ids"], row["flags"]) == (1, [], [])
    assert [i["namespace"] for i in row["identifiers"]] == ["device_id"]


@pytest.mark.parametrize("name", ["ip", "ip_address"])
def test_the_network_address_is_a_weak_identifier_and_not_in_the_context(parse, make_parser, name):
    (row,) = parse(event(context={name: "10.0.0.7", "locale": "de"}))
    assert row["weak_node_ids"] == [node("ip_address", "10.0.0.7")]
    assert row["context"] == '{"locale":"de"}'
    unaware = policy_from_dict({"namespaces": {"device_id": {"strength": "device"}}})
    (row,) = parse(event(context={name: "10.0.0.7"}), parser=make_parser(policy=unaware))
    assert (row["weak_node_ids"], row["context"], row["flags"]) == ([], None, [])


@pytest.mark.parametrize("absent", [{}, {"event_id": None}, {"event_id": ""}, {"event_id": "  "}])
def test_a_record_without_an_id_is_known_by_its_origin(parse, absent):
    record = {k: v for k, v in EVENT.items() if k != "event_id"} | absent
    first, second = parse(record, record)
    assert first["event_id"].startswith("o-")
    assert first["event_id"] != second["event_id"]
    assert first["event_id"] == parse(record)[0]["event_id"]


def test_received_at_falls_back_to_the_transport(parse):
    assert parse(EVENT)[0]["received_at"].timestamp() == 1_700_000_000


@pytest.mark.parametrize(
    ("parts", "touch"),
    [
        ({"context": {"campaign": {"source": "s", "medium": "m", "name": "n"}}}, ("s", "m", "n", None)),
        ({"context": {"campaign": "spring"}}, (None, None, "spring", None)),
        ({"context": {"campaign": {"source": 1, "name": ["x"]}}}, (None, None, None, None)),
        ({"properties": {"utm_source": "s", "utm_medium": "m", "utm_campaign": "n"}}, ("s", "m", "n", None)),
        ({"context": {"utm_source": "c"}, "properties": {"utm_source": "p"}}, ("p", None, None, None)),
        ({"context": {"page": {"referrer": "a"}, "referrer": "b"}}, (None, None, None, "a")),
        ({"context": {"page": {"referrer": ""}, "referrer": "b"}}, (None, None, None, "b")),
        ({"context": {"page": 1}, "properties": {"referrer": "c"}}, (None, None, None, "c")),
    ],
)
def test_touches(parse, parts, touch):
    (row,) = parse(event(**parts))
    assert tuple(row[f"touch_{n}"] for n in ("source", "medium", "campaign", "referrer")) == touch


@pytest.mark.parametrize(
    ("name", "value"), [("properties", [1]), ("properties", "text"), ("context", 5), ("context", "a")]
)
def test_free_parts_that_are_no_object_are_kept_under_their_name(parse, name, value):
    (row,) = parse(event(**{name: value}))
    assert json.loads(row[name]) == {name: value}


def test_of_a_repeated_key_the_last_one_counts(parse):
    payload = b'{"timestamp":1,"timestamp":1714564800,"identifiers":{"device_id":"x","device_id":"d1"},'
    payload += b'"tenant":"acme"}'
    assert parse(payload)[0]["node_ids"] == [node("device_id", "d1")]


def test_a_thousand_levels_of_nesting_are_kept(parse):
    deep = b"[" * 1000 + b"]" * 1000
    payload = json.dumps(EVENT).encode()[:-1] + b', "properties": {"b":1.5,"a":' + deep + b"}}"
    (row,) = parse(payload)
    assert row["reasons"] == []
    assert row["properties"] == '{"a":' + deep.decode() + ',"b":1.5}'


def test_each_node_is_told_once_a_batch_and_only_by_accepted_records(parse):
    refused, first, second = parse(event(timestamp=None), event(event_id="a"), event(event_id="b"))
    assert refused["identifiers"] == second["identifiers"] == []
    assert [i["value"] for i in first["identifiers"]] == ["d1"]


def test_a_long_batch_tells_each_node_once(make_parser, parse):
    rows = parse(*[event(event_id=str(n)) for n in range(2500)])
    assert [r["event_id"] for r in rows] == [str(n) for n in range(2500)]
    assert sum(len(r["identifiers"]) for r in rows) == 1


# Flat, CSV ----------------------------------------------------------------------------------------


def test_flat_records_have_their_identifiers_in_columns(parse):
    record = {
        "customer_id": "acme", "timestamp": NOON, "user_id": 7, "device_id": "d1", "session_id": "s1",
        "email": "",
        "advertising_id": "6D92078A8246BA4AE5B2B4E1A1D8F0C3", "price": 3, "event_type": "purchase",
    }  # fmt: skip
    (row,) = parse(record, mapping="flat")
    assert row["tenant"] == "acme"
    assert row["flags"] == []
    assert row["node_ids"] == [
        node("user_id", "7"),
        node("device_id", "d1"),
        node("advertising_id", "6d92078a-8246-ba4a-e5b2-b4e1a1d8f0c3"),
    ]
    assert row["properties"] == '{"price":3}'


def test_csv_says_the_same_as_json(parse):
    header = "event_id,tenant,timestamp,identifiers,properties,extra"
    record = 'e1,acme,1714564800,"{""device_id"":[""d1""],""user_id"":117829361234567890123}","{""a"":1}",'
    (row,) = parse(f"{header}\n{record}".encode(), payload_format="csv")
    (same,) = parse(
        b'{"event_id":"e1","tenant":"acme","timestamp":1714564800,"properties":{"a":1},'
        b'"identifiers":{"device_id":["d1"],"user_id":117829361234567890123}}'
    )
    assert row["content_digest"] == same["content_digest"]
    assert (
        row["node_ids"]
        == same["node_ids"]
        == [node("user_id", "117829361234567890123"), node("device_id", "d1")]
    )


def test_columns_without_a_name_of_their_own_keep_their_values(parse):
    payload = b"timestamp,user_id,,a,a\n2024-05-01,u1,x,1,2"
    (row,) = parse(payload, mapping="flat", payload_format="csv")
    assert json.loads(row["properties"]) == {"column_3": "x", "a": "1", "a_5": "2"}


# Exploding, travelling ----------------------------------------------------------------------------


def test_an_envelope_gives_a_row_per_event_with_ids_of_their_own(policy):
    mapping = mapping_from_dict(
        {"fields": {"timestamp": "$.sent_at"}, "identifiers": "ids", "explode": "batch"}, "envelope"
    )
    parser = RecordParser({"envelope": mapping}, policy, KEY)
    payloads = [
        b'{"sent_at":1714564800,"batch":[{"ids":{"device_id":"a"}},{"ids":{"device_id":"b"}}]}',
        b"{",
        b'{"sent_at":1714564800,"batch":[{"ids":{"device_id":"a"}}]}',
    ]
    records = Records(
        ["s"] * 3, ["envelope"] * 3, ["events"] * 3, ["f"] * 3, [5, 6, 7], ["json"] * 3, payloads, [None] * 3
    )
    rows = parser.parse(records).to_pylist()
    assert [r["origin_ordinal"] for r in rows] == [5, 5, 6, 7]
    assert [r["record_position"] for r in rows] == [0, 1, 0, 0]
    # Once, however many events: a large envelope would be carried as often otherwise.
    assert [r["payload"] for r in rows] == [payloads[0], None, payloads[1], payloads[2]]
    assert [r["element"] for r in rows] == [
        b'{"ids":{"device_id":"a"}}',
        b'{"ids":{"device_id":"b"}}',
        None,
        None,
    ]
    assert len({r["event_id"] for r in rows}) == 4


def test_a_parser_travels_and_never_shows_its_key(make_parser, parse):
    parser = make_parser(key=b"secret-secret-secret-secret-1234")
    assert "secret" not in repr(parser)
    copy = pickle.loads(pickle.dumps(parser))
    assert parse(EVENT, parser=copy) == parse(EVENT, parser=parser)


def test_a_parser_that_travels_again_remembers_what_it_read_and_another_one_does_not(
    make_parser, parse, policy
):
    """Every batch unpickles one. Seen to fail with a memory that does not ask for the key."""
    sent = [pickle.dumps(make_parser(key=key)) for key in (b"a" * 32, b"a" * 32, b"b" * 32)]
    first, again, other = map(pickle.loads, sent)
    assert first is again
    assert other is not first
    assert parse(EVENT, parser=other)[0]["node_ids"] != parse(EVENT, parser=first)[0]["node_ids"]
    careful = policy_from_dict(
        {"namespaces": {"device_id": {"strength": "weak"}, "user_id": {"strength": "unique"}}}
    )
    changed = pickle.loads(pickle.dumps(make_parser(key=b"b" * 32, policy=careful)))
    assert parse(EVENT, parser=changed)[0]["reasons"] == ["no_identifier"]


def test_the_collector_is_as_it_was_after_a_batch(parse):
    assert gc.isenabled()
    parse(EVENT, b"{")
    assert gc.isenabled()
    gc.disable()
    try:
        parse(EVENT)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_list_of_repetitions_is_no_crowd_and_a_thousand_values_are(parse):
    assert parse(ids(device_id=["d1", "d2"] * 5000))[0]["reasons"] == []
    assert len(parse(ids(device_id=["d1", "d2"] * 5000))[0]["node_ids"]) == 2
    crowd = [f"c{n}" for n in range(1001)]
    for record in (
        ids(device_id="d1", session_id=crowd),
        ids(device_id="d1", user_id=["null"] * 9 + crowd),
        event(actor={"agent_id": crowd}),
        event(actor=dict.fromkeys(crowd, "a")),
        event(context={"ip": crowd}),
    ):
        assert parse(record)[0]["reasons"] == ["too_many_identifiers"]
    assert len(parse(ids(device_id="d1", session_id=crowd[:1000]))[0]["weak_node_ids"]) == 1000


def test_what_led_to_an_event_is_kept_up_to_a_limit(parse):
    """Sessions hold it in the driver's memory, and a referrer may have megabytes. Seen to fail without the limit."""
    long = "x" * 5000
    record = event(
        properties={"utm_source": long, "utm_medium": f"{'y' * 255} z"}, context={"page": {"referrer": long}}
    )
    for (row,) in (parse(record), parse(record | {"actor": {"agent_id": "a"}})):
        assert row["touch_source"] == "x" * 256
        assert row["touch_medium"] == "y" * 255
        assert row["touch_referrer"] == "x" * 1024


def claims(record: dict, policy: Policy) -> tuple[list[tuple[str, int]], int | None]:
    parser = RecordParser({"native": load_mapping("native")}, policy, KEY)
    row = parser.parse(
        Records(["s"], ["native"], ["events"], ["f"], [0], ["json"], [json.dumps(record).encode()], [0])
    ).to_pylist()[0]
    return [(claim["namespace"], claim["node_id"]) for claim in row["claims"] or ()], row["user_node_id"]


def test_claims_are_strong_identifiers_best_first_and_unique_ones_where_there_are_several_kinds():
    """Where a unique namespace is the only one, the event's user says it."""
    named = ids(
        user_id=["8", "7"], phone="+491701234567", email=["b@x.example", "a@x.example"], member_id="m"
    )
    mails = [("email", node("email", f"{name}@x.example")) for name in "ab"]
    user, phone = node("user_id", "7"), ("phone", node("phone", "+491701234567"))
    assert claims(named, load_policy()) == ([*mails, phone], user)
    kinds = {
        "user_id": {"strength": "unique", "priority": 2},
        "member_id": {"strength": "unique", "priority": 9},
    }
    several = policy_from_dict({"namespaces": {**kinds, "email": {"strength": "strong", "priority": 1}}})
    member = ("member_id", node("member_id", "m"))
    assert claims(named, several) == ([*mails, ("user_id", user), member], user)
    assert claims(ids(device_id="d"), load_policy()) == ([], None)
