"""The same world in the formats of other trackers, read by the mappings that are shipped for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from pipelines.generator import SOURCE_FORMATS, generate
from pipelines.operations.mapping_trial import Trial, try_mapping

# What a format has no place for.
LOST = {"shopstream": {"email", "phone", "device_id", "cookie_id"}}
# Where a format keeps what the native one calls a cookie or a session.
RENAMED = {"segment": {"anonymous_id": "cookie_id"}}
EVENTS = 700


def told(name: str, folder: Path) -> tuple[Trial, object]:
    summary = generate(50, EVENTS, 5, folder, source_format=name)
    return try_mapping(folder / "part-00000.jsonl", load_mapping(name), load_policy(), EVENTS, 2**20), summary


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> dict[str, dict]:
    trial, _ = told("native", tmp_path_factory.mktemp("native"))
    return {e["event_id"]: e for e in trial.events if not e["reasons"]}


@pytest.mark.parametrize("name", sorted(SOURCE_FORMATS))
def test_every_format_tells_the_same_events_through_its_mapping(name, tmp_path, native):
    trial, summary = told(name, tmp_path)
    assert trial.event_count == EVENTS == trial.record_count
    assert (trial.quarantined_count, trial.duplicate_count) == (summary.malformed, summary.duplicates)
    events = {e["event_id"]: e for e in trial.events if not e["reasons"]}
    assert events.keys() == native.keys()
    lost, renamed = LOST.get(name, set()), RENAMED.get(name, {})
    for event_id, event in events.items():
        model = native[event_id]
        assert event["event_at"] == model["event_at"]
        assert event["is_authenticated"] == model["is_authenticated"]
        found = {(renamed.get(i["namespace"], i["namespace"]), i["value"]) for i in event["identifiers"]}
        wanted = {(i["namespace"], i["value"]) for i in model["identifiers"] if i["namespace"] not in lost}
        assert wanted <= found
        assert {n for n, _ in found - wanted} <= {"session_id", "visitor_id"}
        if name != "shopstream":
            assert (event["platform"], event["actor"]) == (model["platform"], model["actor"])
            for touch in ("touch_source", "touch_medium", "touch_campaign", "touch_referrer"):
                assert event[touch] == model[touch]
    kinds = Counter(e["event_type"] for e in events.values())
    for kind in ("login", "logout", "identify", "purchase"):
        assert kinds[kind] == sum(e["event_type"] == kind for e in native.values()) > 0
