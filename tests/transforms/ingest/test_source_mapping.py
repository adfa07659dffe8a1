"""A mapping is data; a wrong one says where and what to do."""

from __future__ import annotations

import pickle

import orjson
import pytest

from conf.policy import load_policy
from conf.source_mapping import MappingError, load_mapping, mapping_from_dict, shipped_mappings
from transforms.ingest.mapping.extract import MAX_EVENTS, NO_EVENTS, TOO_MANY_EVENTS, Extractor
from transforms.ingest.mapping.payload import NOT_AN_OBJECT

MINIMAL = {"fields": {"timestamp": "t"}, "identifiers": "ids"}


def extract(record: dict, **mapping: object) -> list[dict]:
    extractor = Extractor(mapping_from_dict({**MINIMAL, **mapping}, "m"), load_policy())
    names = ("event_id", "tenant", "event_type", "event_name", "timestamp", "received_at", "platform")
    names = (*names, "identifiers", "actor", "properties", "context")
    return [dict(zip(names, event, strict=True)) for event in extractor.events(record, orjson.loads)]


@pytest.mark.parametrize("name", shipped_mappings())
def test_shipped_mappings_load_and_travel(name):
    mapping = load_mapping(name)
    assert pickle.loads(pickle.dumps(mapping)) == mapping


def test_native_and_flat_are_shipped():
    assert {"native", "flat"} <= set(shipped_mappings())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"field": {}}, r"m.yaml: \(top\).field: is not known here; known are actor, "),
        ({"fields": {"when": "t"}}, r"fields.when: is not known here; known are event_id, "),
        ({"fields": {"tenant": "t"}}, "fields.timestamp: is missing"),
        ({"fields": {"timestamp": []}}, "fields.timestamp: is an empty list"),
        ({"fields": {"timestamp": "a..b"}}, "fields.timestamp: must be a path"),
        ({"fields": {"timestamp": True}}, "fields.timestamp: must be a path; YAML reads yes, no, on and off"),
        ({"fields": {"timestamp": 7}}, "fields.timestamp: must be a path"),
        ({"fields": ["timestamp"]}, "fields: must be a mapping"),
        ({"identifiers": None}, "identifiers: is missing"),
        ({"identifiers": {"object": "x"}}, "identifiers.object: is not known here"),
        (
            {"context": {"policy_namespaces": True}},
            "context.policy_namespaces: must be true or false, and only",
        ),
        ({"values": {"event_type": {"a": ["b"]}}}, "values.event_type.a: must be a text"),
        ({"defaults": {"tenant": True}}, "defaults.tenant: must be a text"),
        ({"explode": 3}, "explode: must be a path"),
        ({"when": {"match": {}}}, "when: must be a list of rules"),
        ({"when": [{"match": {}, "set": {"event_type": "x"}}]}, r"when\.0\.match: is missing"),
        (
            {"when": [{"match": {"a": []}, "set": {"event_type": "x"}}]},
            r"when\.0\.match\.a: is an empty list",
        ),
        ({"when": [{"match": {"a": "b"}}]}, r"when\.0: changes nothing"),
        ({"when": [{"match": {"a": "b"}, "set": {"type": "x"}}]}, r"when\.0\.set\.type: is not known here"),
        (
            {"when": [{"match": {"a": "b"}, "unless_same": "c", "actor": "d"}]},
            r"when\.0\.unless_same: must be",
        ),
        ({"when": [{"match": {"a": "b"}, "fields": {}}]}, r"when\.0\.fields: is not known here"),
        ({"ignore": "sent_at"}, "ignore: must be a list of names"),
        ({"utc": "yes"}, "utc: must be true or false"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_key_and_the_way_out(change, said):
    with pytest.raises(MappingError, match=said):
        mapping_from_dict({**MINIMAL, **change}, "m", "m.yaml")


def test_an_unknown_name_lists_the_known_ones_and_a_missing_file_is_named(tmp_path):
    with pytest.raises(MappingError, match=r"no source mapping 'natve'; known are .*flat.*native"):
        load_mapping("natve")
    with pytest.raises(MappingError, match=r"nowhere\.yaml does not exist"):
        load_mapping(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a:\n  - b\n c")
    with pytest.raises(MappingError, match=r"broken\.yaml, line \d+ is not readable YAML"):
        load_mapping(str(broken))


def test_the_first_path_that_is_present_wins_and_empty_text_is_not_present():
    fields = {"timestamp": ["t", "meta.at", "list.1.at", "a\\.b"]}
    assert extract({"t": "", "meta": {"at": 2}}, fields=fields)[0]["timestamp"] == 2
    assert extract({"t": None, "list": [{}, {"at": 3}]}, fields=fields)[0]["timestamp"] == 3
    assert extract({"meta": 5, "a.b": 4}, fields=fields)[0]["timestamp"] == 4
    assert extract({"list": 5}, fields=fields)[0]["timestamp"] is None


def test_fields_that_no_path_mentions_become_properties_and_do_not_replace_any():
    (event,) = extract({"t": 1, "new": [1], "x": "top", "p": {"x": "inner"}}, properties="p")
    assert event["properties"] == {"new": [1], "x": "inner"}


def test_values_are_renamed_and_absent_ones_have_defaults():
    rules = {
        "fields": {"timestamp": "t", "event_type": "type"},
        "values": {"event_type": {"PageView": "page_view"}},
        "defaults": {"event_type": "track", "tenant": "acme"},
    }
    assert extract({"type": " pageview "}, **rules)[0]["event_type"] == "page_view"
    assert extract({"type": "click"}, **rules)[0]["event_type"] == "click"
    assert extract({}, **rules)[0]["event_type"] == "track"
    assert extract({}, **rules)[0]["tenant"] == "acme"


def test_identifiers_come_from_objects_and_from_single_fields():
    bag = {
        "objects": ["ids", "more.ids"],
        "fields": {"user_id": ["uid", "traits.id"], "email": "traits.email"},
    }
    (event,) = extract(
        {
            "ids": {"user_id": "a"},
            "more": {"ids": '{"user_id": ["b"]}'},
            "uid": "c",
            "traits": {"email": "e"},
        },
        identifiers=bag,
    )
    assert event["identifiers"] == {"user_id": ["a", "b", "c"], "email": "e"}


def test_context_can_be_put_together_from_columns():
    bag = {"objects": "context", "fields": {"campaign.source": "mkt_source", "campaign.name": "mkt_campaign"}}
    record = {"mkt_source": "x", "mkt_campaign": "y", "context": {"campaign": {"source": "own"}}}
    (event,) = extract(record, context=bag)
    assert event["context"] == {"campaign": {"source": "own", "name": "y"}}
    assert record["context"] == {"campaign": {"source": "own"}}


def test_an_envelope_explodes_into_its_events():
    rules = {"explode": "batch", "fields": {"timestamp": ["t", "$.sent_at"], "event_id": "id"}}
    events = extract({"sent_at": 9, "batch": [{"id": 1, "t": 1}, {"id": 2}]}, **rules)
    assert [(e["event_id"], e["timestamp"]) for e in events] == [(1, 1), (2, 9)]


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (None, ["event"]),
        ([], [NO_EVENTS]),
        ("x", [NO_EVENTS]),
        ({}, [NO_EVENTS]),
        ([1], [NOT_AN_OBJECT]),
        ([{}, 1], ["event", NOT_AN_OBJECT]),
        ([{}] * (MAX_EVENTS + 1), [TOO_MANY_EVENTS]),
        ('[{"t": 1}, {}]', ["event", "event"]),
    ],
)
def test_an_envelope_has_an_event_per_element_and_one_reason_if_there_is_none(batch, found):
    extractor = Extractor(mapping_from_dict({**MINIMAL, "explode": "batch"}, "m"), load_policy())
    events = extractor.events({"batch": batch}, orjson.loads)
    assert [e if isinstance(e, str) else "event" for e in events] == found


def test_events_of_an_envelope_do_not_share_its_context():
    rules = {"explode": "batch", "context": ["context", "$.context"]}
    record = {"batch": [{"t": 1}, {"t": 2}], "context": {"ip": "192.0.2.1"}}
    first, second = extract(record, **rules)
    first["context"].pop("ip")
    assert second["context"] == {"ip": "192.0.2.1"} == record["context"]


# What holds for some records only ----------------------------------------------------------------

WHEN = [
    {
        "match": {"type": "alias"},
        "unless_same": ["old", "anon"],
        "identifiers": {"fields": {"user_id": "old"}},
    },
    {"match": {"type": ["identify", "Login"]}, "identifiers": {"fields": {"email": "traits.email"}}},
    {"match": {"type": "track", "on": 1}, "set": {"event_type": "login"}, "actor": {"fields": {"a": "by"}}},
]


@pytest.mark.parametrize(
    ("record", "identifiers", "event_type"),
    [
        ({"type": "ALIAS ", "old": "o", "anon": "a"}, {"user_id": "o"}, "ALIAS "),
        ({"type": "alias", "old": "a", "anon": "a"}, None, "alias"),
        ({"type": "track", "old": "o"}, None, "track"),
        ({"type": "login", "traits": {"email": "e"}}, {"email": "e"}, "login"),
        ({"type": "group", "traits": {"email": "e"}}, None, "group"),
        ({"type": "track", "on": "1", "by": "x"}, None, "login"),
        ({"type": "track", "on": 2, "by": "x"}, None, "track"),
        ({"type": ["alias"], "old": "o"}, None, ["alias"]),
    ],
)
def test_a_rule_holds_for_the_records_it_matches(record, identifiers, event_type):
    fields = {"timestamp": "t", "event_type": "type"}
    (event,) = extract(record, fields=fields, when=WHEN)
    assert (event["identifiers"], event["event_type"]) == (identifiers, event_type)
    assert event["actor"] == ({"a": "x"} if record.get("on") == "1" else None)


def test_what_is_taken_as_an_identifier_is_not_repeated_in_properties_and_context():
    rules = {
        "identifiers": {"fields": {"device_id": ["context.device.id", "$.context.device.id"], "a": "l.1.a"}},
        "context": ["context", "$.context"],
        "when": [{"match": {"type": "identify"}, "identifiers": {"fields": {"email": "traits.email"}}}],
        "explode": "batch",
    }
    traits, places = {"email": "e", "name": "n"}, [0, {"a": 1, "b": 2}]
    envelope = {"device": {"id": "d", "model": "m"}}
    record = {
        "batch": [{"type": t, "traits": traits, "l": places} for t in ("identify", "group")],
        "context": envelope,
    }
    first, second = extract(record, **rules)
    assert first["identifiers"] == {"device_id": "d", "a": 1, "email": "e"}
    assert first["properties"] == {"type": "identify", "traits": {"name": "n"}, "l": [0, {"b": 2}]}
    assert first["context"] == second["context"] == {"device": {"model": "m"}}
    assert second["properties"]["traits"] == traits
    assert record["context"] == {"device": {"id": "d", "model": "m"}}
    rules["identifiers"] = {"fields": {"device_id": "context.device.id"}}
    (alone,) = extract({"context": envelope}, **rules)
    assert alone["context"] == {"device": {"model": "m"}}


def test_how_a_record_travelled_is_no_content_and_other_values_have_one_name():
    rules = {"ignore": ["sent_at"], "fields": {"timestamp": "t", "platform": "p"}, "utc": True}
    rules["values"] = {"platform": {"ios": "mobile", "*": "web"}}
    (event,) = extract({"sent_at": 1, "p": "iOS", "more": 2}, **rules)
    assert (event["properties"], event["platform"]) == ({"more": 2}, "mobile")
    assert extract({"p": "Firefox"}, **rules)[0]["platform"] == "web"
    assert extract({}, **rules)[0]["platform"] is None
