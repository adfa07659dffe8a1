"""A mapping is data; a wrong one says where and what to do."""

from __future__ import annotations

import pickle

import orjson
import pytest

from conf.policy import load_policy
from conf.source_mapping import MappingError, load_mapping, mapping_from_dict, shipped_mappings
from transforms.extract import Extractor

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


@pytest.mark.parametrize("batch", [None, [], "x", [1], [{}, 1]])
def test_what_is_not_the_envelope_it_should_be_stays_one_record(batch):
    assert len(extract({"batch": batch}, explode="batch")) == 1
