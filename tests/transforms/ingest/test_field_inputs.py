"""What trackers, exports and spreadsheets really send, made up anew: one spelling per person, and never another's.

Each input is one of a kind that people have reported in public about other products; its neighbours stand beside it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from transforms.ingest.framing.frames import frame
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

PARSER = RecordParser(
    {name: load_mapping(name) for name in ("native", "flat", "segment", "snowplow")}, load_policy(), b"k" * 32
)
NOON = "2026-03-02T12:00:00Z"
MALFORMED = ["malformed_identifier"]


def rows_of(content: str | bytes, mapping: str, name: str = "a.jsonl") -> list[dict[str, Any]]:
    frames = list(frame(name, content.encode() if isinstance(content, str) else content))
    n = len(frames)
    columns = ([f.ordinal for f in frames], [f.payload_format for f in frames], [f.payload for f in frames])
    records = Records(["s"] * n, [mapping] * n, ["events"] * n, [name] * n, *columns, [None] * n)
    return PARSER.parse(records).to_pylist()


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def events_of(namespace: str, *values: object) -> str:
    """One event a value, each at a device of its own."""
    beside = "cookie_id" if namespace == "device_id" else "device_id"
    return lines(
        *(
            {"event_id": str(n), "timestamp": NOON, "identifiers": {namespace: value, beside: f"d{n}"}}
            for n, value in enumerate(values)
        )
    )


def holders(rows: list[dict[str, Any]], namespace: str) -> dict[str, list[str]]:
    """Normalised value → the ids of the events that bear it."""
    names = {i["node_id"]: (i["namespace"], i["value"]) for row in rows for i in row["identifiers"]}
    found = defaultdict(list)
    for row in rows:
        for node in row["node_ids"]:
            if names[node][0] == namespace:
                found[names[node][1]].append(row["event_id"])
    return dict(found)


def test_a_phone_from_a_spreadsheet_is_never_another_number():
    phones = [
        "447700900123.0", "+44 7700 900123", "4.477009001E+11", "+44 7700 900111", "4.47700E+11", "4.47700E+11",
        "'+447700900124", "+447700900124",
    ]  # fmt: skip
    table = "event_id,timestamp,device_id,phone\n" + "".join(
        f"{n},{NOON},d{n},{phone}\n" for n, phone in enumerate(phones, 1)
    )
    rows = rows_of(table, "flat", "a.csv")
    assert holders(rows, "phone") == {
        "+447700900123": ["1", "2"], "+447700900111": ["4"], "+447700900124": ["7", "8"],
    }  # fmt: skip
    assert [r["event_id"] for r in rows if r["flags"] == MALFORMED] == ["3", "5", "6"]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ('="447700900123"', "+447700900123"),
        ("447,700,900,123.00", "+447700900123"),
        ("447700900123,00", "+447700900123"),
        ("4.47700900123E+11", "+447700900123"),
        ("\u202a+44 7700 900123\u202c", "+447700900123"),  # as a phone's contacts copy it
        ("+44\u00a07700\u2011900123", "+447700900123"),
        ("whatsapp:+447700900123", "+447700900123"),
        (447700900123.0, "+447700900123"),
        ("4.477e11", None),
        ("1 415 555 2671 x12", None),  # without its plus, nobody can say where the number ends
        ("1.415555E+10", None),
        ("44770090012\ufffd", None),
    ],
)
def test_however_a_phone_went_through_other_programs(written, number):
    (row,) = rows_of(events_of("phone", written), "native")
    assert list(holders([row], "phone")) == ([] if number is None else [number])
    assert row["flags"] == (MALFORMED if number is None else [])


def test_what_cannot_be_seen_in_an_address_makes_no_other_address():
    written = [
        "ann@example.org", "\u200bann@example.org", "ann@example.org\u200b", "\ufeffann@example.org",
        "Ann@Example.org\u00a0", "ann\u00ad@example.org", "mailto:ann@example.org", "<ann@example.org>",
        "ann@example.org,", "Ann Smith <Ann@Example.org>", "'ann@example.org", "ann@example.org;",
        "ann@exam\u0000ple.org", "ann@example.org.", "\u2066ann@example.org\u2069", '"ann@example.org"',
    ]  # fmt: skip
    rows = rows_of(events_of("email", *written), "native")
    assert list(holders(rows, "email")) == ["ann@example.org"]
    assert not any(r["flags"] or r["reasons"] for r in rows)


@pytest.mark.parametrize(
    "written",
    ["ann@example.org,bob@example.org", "ann@example.org?subject=x", "ann @example.org", "a@b@c.org", "<>",
     "Ann <ann@example.org>, Bob <bob@example.org>", "ann@example\ufffd.org"],
)  # fmt: skip
def test_what_may_be_two_addresses_or_none_is_none(written):
    (row,) = rows_of(events_of("email", written), "native")
    assert (holders([row], "email"), row["flags"]) == ({}, MALFORMED)


@pytest.mark.parametrize("namespace", [n.name for n in load_policy().namespaces if n.is_linking])
def test_what_cannot_be_seen_makes_no_other_identifier_in_any_namespace(namespace):
    plain = {"email": "a1@example.org", "phone": "+447700900123"}.get(namespace, "a1-b2")
    unseen = ("\u200b", "\ufeff", "\u00ad", "\u0000", "\u200e", "\u2060", "\ufe0f", "\u007f")
    marked = [plain[:2] + mark + plain[2:] for mark in unseen]
    around = [f"{mark}{plain}{mark}" for mark in (*unseen, "\u00a0", "\t", "\u3000")]
    rows = rows_of(events_of(namespace, plain, *marked, *around), "native")
    assert holders(rows, namespace) == {plain: [row["event_id"] for row in rows]}


def test_what_can_be_seen_does():
    written = ["a b", "a\u00a0b", "ab", "a\tb", "é", "e\u0301", "É", "０", "0x", "A b"]
    assert holders(rows_of(events_of("user_id", *written), "native"), "user_id") == {
        "a b": ["0", "1"], "ab": ["2"], "a\tb": ["3"], "é": ["4", "5"], "É": ["6"], "０": ["7"], "0x": ["8"],
        "A b": ["9"],
    }  # fmt: skip


def test_nothing_but_what_cannot_be_seen_is_no_identifier():
    rows = rows_of(events_of("user_id", "\u200b", "\u0000", "\u00a0\ufeff", "\u3164"), "native")
    assert [r["flags"] for r in rows] == [["blocked_identifier"]] * 4


def test_an_id_that_a_table_made_a_float_is_the_same_id():
    table = (
        f"event_id,timestamp,user_id,email\n1.0,{NOON},123.0,\n2.0,{NOON},,x@example.org\n3.0,{NOON},124.0,\n"
    )
    app = lines(
        *(
            {"event_id": event_id, "timestamp": NOON, "identifiers": {"user_id": user, "device_id": event_id}}
            for event_id, user in (("10", 123), ("11", "124"), ("12", 123.0), ("13", "123.00"), ("14", 124))
        )
    )
    rows = rows_of(table, "flat", "a.csv") + rows_of(app, "native")
    users = {key: sorted(ids) for key, ids in holders(rows, "user_id").items()}
    assert users == {"123": ["1.0", "10", "12", "13"], "124": ["11", "14", "3.0"]}


@pytest.mark.parametrize("written", ["1.17829E+20", "1.1782936123456789e+20", "9007199254740993.0", "1E+15"])
def test_an_id_that_has_lost_digits_may_be_many_peoples_and_is_nobodys(written):
    (row,) = rows_of(events_of("user_id", written), "native")
    assert (holders([row], "user_id"), row["flags"]) == ({}, MALFORMED)


def test_other_text_stays_what_it_is():
    written = ["00123.0", "1.5", "12e5", "1.0.0", "123.", "v1.0", "1e5"]
    assert list(holders(rows_of(events_of("user_id", *written), "native"), "user_id")) == written


def test_a_channel_that_says_nothing_does_not_hide_the_library():
    def call(**fields: object) -> dict[str, Any]:
        return {"type": "track", "event": "x", "timestamp": NOON, "userId": "u", **fields}

    def library(name: str) -> dict[str, Any]:
        return {"context": {"library": {"name": name}}}

    calls = [
        call(channel="web", **library("RudderLabs JavaScript SDK")),
        call(channel="mobile", **library("com.rudderstack.android.sdk.core")),
        call(channel="server", **library("analytics-node")),
        call(channel="client", **library("analytics.js")),
        call(channel="", **library("analytics-ios")),
        call(channel=["web"], **library("analytics-ios")),
        call(channel="client", **library("nobody's")),
        {"batch": [call(messageId="a"), call(messageId="b", channel="web")], "channel": "client"}
        | library("analytics-php"),
    ]  # fmt: skip
    platforms = ["web", "mobile", "server", "web", "mobile", "mobile", None, "server", "web"]
    assert [r["platform"] for r in rows_of(lines(*calls), "segment")] == platforms


def test_an_identifier_that_does_not_count_does_not_hide_the_next_path():
    zeros = "00000000-0000-0000-0000-000000000000"
    call = {"type": "track", "event": "x", "timestamp": NOON, "context": {"device": {"id": zeros}}}
    (row,) = rows_of(lines({"batch": [call], "context": {"device": {"id": "real"}}}), "segment")
    assert holders([row], "device_id") == {"real": [row["event_id"]]}
    assert row["flags"] == ["blocked_identifier"]


def test_of_several_times_the_first_that_can_be_read_counts():
    calls = [
        {"originalTimestamp": "2021-10-16T16:00:27.029:Z", "sentAt": "x", "receivedAt": "2021-10-16T16:00:28.078Z"},
        {"originalTimestamp": "2021-10-16T16:01:27.029:Z", "timestamp": "2021-10-16T16:01:27.150Z"},
        {"timestamp": "", "originalTimestamp": "2021-10-16T16:02:27.029Z"},
        {"timestamp": None, "sentAt": "2021-10-16T16:03:27.957Z"},
        {"timestamp": "never", "sentAt": "9999-01-01T00:00:00Z"},
    ]  # fmt: skip
    rows = rows_of(
        lines(*({"type": "track", "event": "x", "userId": "u"} | call for call in calls)), "segment"
    )
    assert [r["event_at"] and r["event_at"].isoformat(timespec="milliseconds") for r in rows] == [
        "2021-10-16T16:00:28.078+00:00", "2021-10-16T16:01:27.150+00:00", "2021-10-16T16:02:27.029+00:00",
        "2021-10-16T16:03:27.957+00:00", None,
    ]  # fmt: skip
    assert [r["flags"] for r in rows] == [["unusable_timestamp"], [], [], [], []]
    assert rows[-1]["reasons"] == ["no_timestamp"]


def test_a_derived_time_out_of_range_gives_way_to_the_collectors():
    rows = rows_of(
        lines(
            *(
                {"domain_userid": "d", "collector_tstamp": collector, "derived_tstamp": derived}
                for collector, derived in (
                    ("2017-07-25 22:14:41.539", "-5965-09-20 15:44:22.721"),
                    ("2013-12-10 01:09:47.000", None),
                    ("2021-04-09 04:34:25.251", "2021-02-08 09:35:56.273"),
                )
            )
        ),
        "snowplow",
    )  # fmt: skip
    assert [r["event_at"].isoformat(" ", "seconds")[:19] for r in rows] == [
        "2017-07-25 22:14:41", "2013-12-10 01:09:47", "2021-02-08 09:35:56",
    ]  # fmt: skip
    assert [r["flags"] for r in rows] == [["unusable_timestamp"], [], []]


def test_a_leap_second_falls_between_its_neighbours():
    times = [
        "2016-12-31T23:59:59Z", "2016-12-31T23:59:59.999Z", "2016-12-31T23:59:60Z", "2016-12-31T15:59:60-08:00",
        "2017-01-01T00:00:00Z", "2016-12-31T23:59:61Z",
    ]  # fmt: skip
    rows = rows_of(lines(*({"timestamp": t, "identifiers": {"device_id": "d"}} for t in times)), "native")
    *valid, refused = rows
    at = [r["event_at"] for r in valid]
    assert at[0] < at[1] < at[2] == at[3] < at[4]
    assert at[2].date().isoformat() == "2016-12-31"
    assert refused["reasons"] == ["no_timestamp"]


def test_one_element_with_nan_does_not_cost_its_siblings():
    call = '{"type":"track","messageId":"b%d","timestamp":"2026-03-02T09:00:00Z","userId":"u","properties":{"v":%s}}'
    body = ",".join(call % (n, value) for n, value in enumerate(("1", "NaN", "3", "-Infinity", '"NaN"')))
    rows = rows_of(f'{{"batch":[{body}],"sentAt":"2026-03-02T09:03:00Z"}}\n', "segment")
    assert [r["reasons"] for r in rows] == [[], ["malformed_json"], [], ["malformed_json"], []]
    assert b'"v":NaN' in rows[1]["element"]  # so that reading it again refuses it again


def test_one_element_of_an_array_with_nan_does_not_cost_its_siblings():
    event = '{"event_id":"%d","timestamp":"2026-03-02T09:00:00Z","identifiers":{"user_id":"u"},"v":%s}'
    body = ",".join(event % (n, value) for n, value in enumerate(("1", "NaN", "3")))
    rows = rows_of(f"[{body}]", "native", "a.json")
    assert [r["reasons"] for r in rows] == [[], ["malformed_json"], []]


def test_text_that_other_readers_refuse():
    event = '{"event_id":"%d","timestamp":"2026-03-02T09:00:00Z","identifiers":{"user_id":"u1"},"properties":%s}\n'
    properties = [
        r'{"text":"fine \ud83d\ude00"}', r'{"text":"cut \ud83c\ud83c...[truncated]"}', r'{"text":"nul \u0000 in"}',
        '{"score":NaN}', '{"score":2}', r'{"text":"\\ud83c"}', r'{"\udc00":1}',
    ]  # fmt: skip
    rows = rows_of("".join(event % pair for pair in enumerate(properties)), "native")
    assert [r["reasons"] for r in rows] == [[], [], [], ["malformed_json"], [], [], []]
    assert [r["flags"] for r in rows] == [[], ["replaced_character"], [], [], [], [], ["replaced_character"]]
    assert [r["properties"] and json.loads(r["properties"]) for r in rows] == [
        {"text": "fine 😀"}, {"text": "cut \ufffd\ufffd...[truncated]"}, {"text": "nul \0 in"}, None, {"score": 2},
        {"text": r"\ud83c"}, {"\ufffd": 1},
    ]  # fmt: skip


def test_half_a_character_joins_neither_people_nor_tenants():
    event = (
        r'{"timestamp":"2026-03-02T09:00:00Z","tenant":"%s","identifiers":{"user_id":"%s","device_id":"d"}}'
        + "\n"
    )
    rows = rows_of(
        event % ("t", r"ann\ud83c") + event % ("t", r"ann\ud83d") + event % (r"a\ud83c", "u"), "native"
    )
    assert holders(rows, "user_id") == {}
    assert [r["flags"] for r in rows[:2]] == [["malformed_identifier", "replaced_character"]] * 2
    assert rows[2]["reasons"] == ["unusable_tenant"]


LONG_NUMBERS = [
    "-9223372036854775809", "18446744073709551616", "123456789012345678901234567890", "0.12345678901234567890123",
    "1E+400", "-1E+400", "9007199254740993.5", "1" + "0" * 400, "9" * 5000, "1.797693134862315708E+308",
]  # fmt: skip


@pytest.mark.parametrize("number", LONG_NUMBERS, ids=lambda text: text[:24])
@pytest.mark.parametrize("place", ["properties", "context", "other"])
def test_numbers_are_kept_exactly(number, place):
    value = f'{{"n":[{number}]}}'
    event = f'{{"timestamp":"{NOON}","identifiers":{{"device_id":"d"}},"{place}":{value}}}'
    (row,) = rows_of(event, "native")
    kept = row["context" if place == "context" else "properties"]
    assert (row["reasons"], row["flags"]) == ([], [])
    assert kept == (f'{{"other":{value}}}' if place == "other" else value)


def test_a_number_as_common_readers_know_it_is_written_as_ever_beside_a_long_one():
    event = '{"timestamp":1714564800,"identifiers":{"device_id":"d"},"a":1E2,"b":1.50,"c":-0,"d":0.1%s}'
    common, beside = (
        json.loads(rows_of(event % more, "native")[0]["properties"]) for more in ("", ',"z":1e400')
    )
    assert common == {name: beside[name] for name in "abcd"}
