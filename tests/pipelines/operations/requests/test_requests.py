"""Requests: whoever holds the lake's lock runs them, and whoever asked has the answer."""

from __future__ import annotations

import json
import threading
import time

import pytest

from pipelines.lake.lock import lake_lock
from pipelines.operations.requests.requests import RequestFailed, is_asked, run_asked, run_request
from tests.direct_lake import DirectLake

pytestmark = pytest.mark.thorough  # a lake for each of them

EVENT = {"event_id": "a", "timestamp": "2026-03-01T10:00:00Z", "identifiers": {"user_id": "ann"}}


class Refused(RequestFailed):
    pass


def tell(holder, arguments):
    return {"batch": holder.snapshot.batch_id, **arguments}


def refuse(holder, arguments):
    raise Refused("not today")


def stumble(holder, arguments):
    raise ValueError("ann@example.org is no number")


HANDLERS = {"tell": tell, "refuse": refuse, "stumble": stumble}


@pytest.fixture
def world(tmp_path):
    world = DirectLake(tmp_path / "lake")
    world.feed([EVENT])
    return world


@pytest.fixture
def stream(world):
    """Somebody who has the lock and looks for requests, as a stream does between its batches."""
    stop, has_lock = threading.Event(), threading.Event()

    def run():
        with lake_lock(world.path):
            has_lock.set()
            while not stop.wait(0.01):
                run_asked(world.lake, world.policy, world.settings, HANDLERS)

    thread = threading.Thread(target=run)
    thread.start()
    has_lock.wait()
    yield stop
    stop.set()
    thread.join()


def ask(world, kind, patience=10.0, **arguments):
    return run_request(
        world.path, world.policy, world.settings, kind, HANDLERS, arguments, patience_seconds=patience
    )


def test_without_a_stream_it_is_run_here(world):
    assert ask(world, "tell", name="x") == {"batch": 1, "name": "x"}
    with pytest.raises(Refused, match="not today"):
        ask(world, "refuse")


def test_a_stream_runs_it_and_answers(world, stream):
    assert ask(world, "tell", name="x") == {"batch": 1, "name": "x"}
    assert not is_asked(world.path)


def test_a_refusal_arrives_in_its_own_words_and_other_trouble_without_values(world, stream):
    with pytest.raises(RequestFailed, match="not today"):
        ask(world, "refuse")
    with pytest.raises(RequestFailed) as trouble:
        ask(world, "stumble")
    assert "ValueError" in str(trouble.value)
    assert "ann" not in str(trouble.value)
    assert ask(world, "tell") == {"batch": 1}  # the stream goes on


def test_if_the_stream_ends_first_it_is_run_here(world, stream):
    intent = world.path / "_stitchlake" / "intent.json"
    begun = json.loads(intent.read_text()) | {"batch_id": 2}
    intent.write_text(json.dumps(begun))  # as if a batch were half-written: the stream leaves requests alone
    with pytest.raises(RequestFailed, match="did not get to it"):
        ask(world, "tell", patience=0.3)
    answers = []
    asker = threading.Thread(target=lambda: answers.append(ask(world, "tell")))
    asker.start()
    while not is_asked(world.path):
        time.sleep(0.01)
    assert not answers
    intent.unlink()
    stream.set()
    asker.join()
    assert answers == [{"batch": 1}]
    assert not is_asked(world.path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"kind": "tell"}', None], ids=str)
def test_a_damaged_request_is_put_aside_and_the_others_are_done(world, content):
    folder = world.path / "_stitchlake" / "requests"
    folder.mkdir(parents=True)
    damaged = folder / "00000000000000000001-a.json"
    damaged.mkdir() if content is None else damaged.write_bytes(content)
    good = folder / "00000000000000000002-b.json"
    good.write_text(json.dumps({"kind": "tell", "arguments": {"n": 1}}))
    told = []
    with lake_lock(world.path):
        run_asked(world.lake, world.policy, world.settings, HANDLERS, on_trouble=told.append)
    assert json.loads(good.with_suffix(".answer").read_text()) == {"answer": {"batch": 1, "n": 1}}
    assert "put aside" in json.loads(damaged.with_suffix(".answer").read_text())["problem"]
    assert damaged.with_suffix(".damaged").exists()
    assert not is_asked(world.path)
    assert len(told) == 1
    assert "cannot be read" in told[0]
