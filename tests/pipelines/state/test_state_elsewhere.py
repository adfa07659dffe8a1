"""Who publishes batches beside a stream uses the stream's state; and without a stream the one that `lookup` names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conf.source_mapping import load_mapping
from conf.tables import EVENTS, IDENTITY_DECISIONS, QUARANTINE
from pipelines.apps.request_handlers import HANDLERS
from pipelines.operations.decisions.inbox import apply_waiting, put
from pipelines.operations.quarantine.selection import Selection
from pipelines.operations.requests.requests import RequestFailed, _ask, _taken, run_asked, run_request
from pipelines.state.lake_state import LakeState
from tests.direct_lake import DirectLake
from tests.pipelines.stream.batch.test_failed_batch import BATCHES_OF_EVENTS, DECISION, contents, event
from transforms.ingest.parse import RecordParser

REPLAY = {"selection": Selection().as_json(), "max_record_bytes": 2**20}


def lake_with_a_refusal(folder: Path) -> DirectLake:
    """A lake whose second batch has an event that is too long for its parser, and not for later ones."""
    lake = DirectLake(folder, mappings=("native",))
    for batch in BATCHES_OF_EVENTS:
        lake.feed(batch)
    parser = lake.parser
    lake.parser = RecordParser({"native": load_mapping("native")}, lake.policy, lake.key, 500)
    lake.feed([event(800, device_id="d", user_id="ann") | {"properties": {"text": "x" * 1000}}])
    lake.parser = parser
    assert len(lake.rows(QUARANTINE)) == 1
    return lake


def not_loaded(*_: object, **__: object) -> LakeState:
    raise AssertionError("the whole index was loaded")


def test_a_replay_in_a_running_stream_uses_the_streams_state_and_leaves_it_usable(tmp_path, monkeypatch):
    """Seen to fail where the replay loaded an index of its own, and where the stream then loaded its own again."""
    lake = lake_with_a_refusal(tmp_path / "lake")
    stream = lake.processor
    state = stream.last.ready()
    monkeypatch.setattr(LakeState, "load", not_loaded)
    stream.last._setup = replace(stream.setup, open_state=not_loaded)
    asked = _ask(lake.path, "replay", REPLAY)
    settings = replace(lake.settings, lookup="driver")
    with stream.between_batches():
        assert run_asked(lake.lake, lake.policy, settings, HANDLERS, {}, stream.last.shared_state) == 1
    stream.last.refresh()
    assert _taken(asked)["valid_count"] == 1
    lake.feed([event(801, device_id="d")])
    assert stream.last.ready() is state
    monkeypatch.undo()
    assert len(lake.rows(EVENTS)) == sum(map(len, BATCHES_OF_EVENTS)) + 2
    kept, read = stream.last.state, lake.new_processor().last.ready()
    assert kept.as_of == read.as_of
    assert contents(kept) == contents(read)


def test_a_replay_that_fails_in_a_running_stream_leaves_the_streams_state_as_it_was(tmp_path, monkeypatch):
    """Its rows were written, and are taken back. Seen to fail where what it has changed in the state is not undone."""
    lake = lake_with_a_refusal(tmp_path / "lake")
    stream = lake.processor
    before = contents(stream.last.ready())
    asked = _ask(lake.path, "replay", REPLAY)
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.steps.publication_row", lambda *_: 1 / 0)
        with stream.between_batches():
            run_asked(lake.lake, lake.policy, lake.settings, HANDLERS, {}, stream.last.shared_state)
    stream.last.refresh()
    with pytest.raises(RequestFailed, match="ZeroDivisionError"):
        _taken(asked)
    stream.last._setup = replace(stream.setup, open_state=not_loaded)
    assert contents(stream.last.ready()) == before
    lake.feed([event(801, device_id="d")])  # nothing is in its way
    assert len(lake.rows(EVENTS)) == sum(map(len, BATCHES_OF_EVENTS)) + 1


def decide(lake: DirectLake) -> None:
    put(lake.path, DECISION)
    assert apply_waiting(lake.path, lake.policy, settings_of(lake)) == 1


def replay(lake: DirectLake) -> None:
    answer = run_request(lake.path, lake.policy, settings_of(lake), "replay", HANDLERS, REPLAY)
    assert answer["valid_count"] == 1


def settings_of(lake: DirectLake):
    return replace(lake.settings, lookup=lake.lookup)


@pytest.mark.parametrize("act", [decide, replay])
def test_without_a_stream_what_is_published_is_looked_up_where_the_settings_say(act, tmp_path, monkeypatch):
    """Seen to fail where decisions and replays loaded the whole index whatever `lookup` said."""
    lakes = {}
    for lookup in ("driver", "tables"):
        lakes[lookup] = lake_with_a_refusal(tmp_path / lookup)
        lakes[lookup].lookup = lookup
    act(lakes["driver"])
    monkeypatch.setattr(LakeState, "load", not_loaded)
    act(lakes["tables"])
    assert lakes["tables"].contents() == lakes["driver"].contents()
    one, other = (lake.rows(IDENTITY_DECISIONS, ["decision_id"]) for lake in lakes.values())
    assert one == other
