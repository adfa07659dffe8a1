"""Manual decisions through real tables: put on record, published, explained, undone, and never lost."""

from __future__ import annotations

import json
import threading

import pytest

from conf.tables import (
    BATCHES,
    BRONZE_EVENTS,
    IDENTITY_DECISIONS,
    IDENTITY_LOG,
    IDENTITY_MAP,
    PROFILES,
    SESSIONS,
)
from pipelines.apps.cli.__main__ import main
from pipelines.apps.run_stream import run_stream
from pipelines.operations.decisions.inbox import apply_waiting, put
from pipelines.stream.batch.last_published import LastPublished
from pipelines.stream.source import Source
from tests.pipelines.stream.batch.test_stream import event, people


@pytest.fixture
def world(make_lake):
    world = make_lake()
    world.drop(
        "1.jsonl",
        [
            event("a", 0, cookie_id="c1"),
            event("b", 1, "login", cookie_id="c1", user_id="ann"),
            event("c", 100, "login", platform="mobile", device_id="d2", user_id="bea"),
            event("d", 200, device_id="d3", cookie_id="c3"),
            event("e", 300, device_id="d3"),
        ],
    )
    world.once()
    return world


def said(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


ONE = people("cookie_id:c1 user_id:ann device_id:d2 user_id:bea", "device_id:d3 cookie_id:c3")
THREE = people("cookie_id:c1 user_id:ann", "device_id:d2 user_id:bea", "device_id:d3 cookie_id:c3")


def test_a_merge_needs_force_where_it_breaks_a_limit_and_its_undo_restores_everything(world, capsys):
    lake = ["--lake", str(world.path)]
    before = world.contents()
    ids = {r["canonical_id"] for r in world.rows(PROFILES)}
    assert main(["merge", "user_id:ann", "user_id:bea", "--reason", "same person", *lake]) == 1
    assert "--force" in capsys.readouterr().err
    merged = said(capsys, "merge", "user_id:ann", "user_id:bea", "--reason", "same", "--force", *lake)
    assert world.people() == ONE
    assert len(merged["canonical_ids"]) == 1
    why = said(capsys, "explain", "cookie_id:c1", "device_id:d2", *lake)
    assert why["is_one_person"]
    assert [s["kinds"] for s in why["path"]] == [["observed"], ["merge"], ["observed"]]
    profile = max(world.rows(PROFILES), key=lambda p: p["login_count"])
    assert profile["login_count"] == 2
    undone = said(capsys, "decisions", "undo", merged["decision_id"], "--reason", "they are sisters", *lake)
    assert world.people() == THREE
    assert world.contents() == before
    assert {r["canonical_id"] for r in world.rows(PROFILES)} == ids
    listed = said(capsys, "decisions", *lake)
    assert [(d["decision"], d["is_in_force"]) for d in listed] == [("merge", False), ("undo", True)]
    assert listed[1]["undoes"] == merged["decision_id"] != undone["decision_id"]
    assert {r["cause"] for r in world.rows(IDENTITY_LOG) if r["batch_id"] > 1} == {"decision"}


def test_a_split_survives_new_evidence_and_a_new_stream(world, capsys):
    lake = ["--lake", str(world.path)]
    split = said(capsys, "split", "device_id:d3", "--identifier", "cookie_id:c3", "--reason", "sold", *lake)
    assert len(split["canonical_ids"]) == 2
    world.drop("2.jsonl", [event("f", 400, device_id="d3", cookie_id="c3")])
    world.once()
    parted = people("cookie_id:c1 user_id:ann", "device_id:d2 user_id:bea", "device_id:d3", "cookie_id:c3")
    assert world.people() == parted
    why = said(capsys, "explain", "device_id:d3", "cookie_id:c3", *lake)
    assert not why["is_one_person"]
    assert why["decisions"][0]["stated_reason"] == "sold"
    assert why["refusals"][0]["reason"] == "decision"
    assert main(["explain", "device_id:d3", "cookie_id:c3", *lake]) == 0
    assert "kept apart by decision" in capsys.readouterr().out
    batches = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    assert all(
        b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
        for b in batches
    )
    assert sum(r["feed"] == "control" for r in world.rows(BRONZE_EVENTS)) == 1


def test_a_session_given_to_somebody_else_counts_for_her_until_undone(world, capsys):
    lake = ["--lake", str(world.path)]
    session = next(s for s in world.rows(SESSIONS) if s["start_event_id"] == "e")
    given = said(
        capsys,
        "split",
        "--session",
        str(session["session_id"]),
        "--to",
        "user_id:bea",
        "--reason",
        "hers",
        *lake,
    )
    of_bea = next(p for p in world.rows(PROFILES) if p["first_login_at"] and p["has_used_mobile"])
    assert of_bea["session_count"] == 2
    world.drop("2.jsonl", [event("g", 500, device_id="d3")])
    world.once()
    assert (
        next(s for s in world.rows(SESSIONS) if s["start_event_id"] == "e")["owner_node_id"]
        != (session["owner_node_id"])
    )
    said(capsys, "decisions", "undo", given["decision_id"], "--reason", "no", *lake)
    assert next(s for s in world.rows(SESSIONS) if s["start_event_id"] == "e") | {"updated_batch_id": 0} == (
        session | {"updated_batch_id": 0}
    )


def test_an_alias_makes_a_shared_device_one_users_again_anonymous_sessions_included(make_lake):
    world = make_lake()
    first = [
        event("a", 0, "login", device_id="d1", user_id="old"),
        event("b", 100, "login", device_id="d1", user_id="new"),
        event("c", 200, device_id="d1"),
    ]
    alias = {**event("d", 300, "alias"), "identifiers": {"user_id": ["old", "new"]}}
    world.drop("1.jsonl", first)
    world.once()
    assert any(r["owner_node_id"] < 0 for r in world.rows(SESSIONS))
    world.drop("2.jsonl", [alias])
    world.once()
    assert world.people() == people("device_id:d1 user_id:old user_id:new")
    assert all(r["owner_node_id"] > 0 for r in world.rows(SESSIONS))
    at_once = make_lake()
    at_once.drop("1.jsonl", [alias, *first])
    at_once.once()
    assert at_once.contents() == world.contents()


def test_a_running_stream_takes_a_decision_with_its_next_batch(world, capsys):
    stop = threading.Event()
    source = Source("native", str(world.landing), "file", "native:test")
    stream = threading.Thread(
        target=lambda: run_stream(
            world.spark, world.path, [source], world.policy, world.settings, once=False, stop=stop
        )
    )
    stream.start()
    try:
        lake = ["--lake", str(world.path)]
        said(capsys, "keep-apart", "user_id:ann", "cookie_id:c3", "--reason", "strangers", *lake)
    finally:
        stop.set()
        stream.join(300)
    assert [d["decision"] for d in world.rows(IDENTITY_DECISIONS)] == ["keep_apart"]


def test_a_direct_batch_that_died_is_taken_back_and_done_again(world, monkeypatch):
    record = {
        "decision": "merge",
        "decided_at": "2026-03-02T00:00:00Z",
        "joins": [[{"namespace": "user_id", "value": "ann"}, {"namespace": "cookie_id", "value": "c3"}]],
    }
    put(world.path, record)
    whole = LastPublished.publication
    monkeypatch.setattr(LastPublished, "publication", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        apply_waiting(world.path, world.policy, world.settings)
    assert world.people() == THREE
    monkeypatch.setattr(LastPublished, "publication", whole)
    world.drop("2.jsonl", [event("f", 400, device_id="d9")])
    world.once()
    assert people("cookie_id:c1 user_id:ann device_id:d3 cookie_id:c3", "device_id:d9") <= world.people()
    assert len(world.rows(IDENTITY_DECISIONS)) == 1


def test_a_record_that_decides_nothing_is_quarantined(world):
    put(world.path, {"decision": "merge", "decided_at": "2026-03-02T00:00:00Z", "joins": [["a", "b"]]})
    put(world.path, {"decision": "marry", "decided_at": "2026-03-02T00:00:00Z"})
    assert apply_waiting(world.path, world.policy, world.settings) == 2
    last = max(world.rows(BATCHES), key=lambda b: b["batch_id"] if b["kind"] == "batch" else 0)
    assert (last["received_count"], last["quarantined_count"]) == (2, 2)
    assert world.people() == THREE


def test_a_mistake_is_one_line(world, capsys):
    mistakes = [
        (["merge", "user_id:ghost", "user_id:ann", "--reason", "x"], 1),
        (["merge", "ann", "user_id:ann", "--reason", "x"], 2),
        (["merge", "user_id:ann", "cookie_id:c1", "--reason", "x"], 1),
        (["explain", "99"], 1),
        (["split", "user_id:ann", "--reason", "x"], 2),
        (["decisions", "undo", "--reason", "x"], 2),
    ]
    for arguments, code in mistakes:
        assert main([*arguments, "--lake", str(world.path)]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "ghost" not in error


@pytest.mark.slow  # two rebuilds
def test_a_rebuild_keeps_every_decision_and_whom_it_made(world, capsys):
    lake = ["--lake", str(world.path)]
    said(capsys, "merge", "user_id:ann", "user_id:bea", "--reason", "same", "--force", *lake)
    undone = said(capsys, "split", "device_id:d3", "--identifier", "cookie_id:c3", "--reason", "sold", *lake)
    said(capsys, "decisions", "undo", undone["decision_id"], "--reason", "no", *lake)
    session = next(s for s in world.rows(SESSIONS) if s["start_event_id"] == "e")
    said(
        capsys,
        "split",
        "--session",
        str(session["session_id"]),
        "--to",
        "user_id:bea",
        "--reason",
        "hers",
        *lake,
    )
    world.drop("2.jsonl", [event("f", 400, "alias", cookie_id="c3", device_id="d3")])
    world.once()
    before = {
        "contents": world.contents(),
        "ids": sorted((r["node_id"], r["canonical_id"]) for r in world.rows(IDENTITY_MAP)),
        "log": len(world.rows(IDENTITY_LOG)),
        "decisions": sorted((d["decision"], d["is_in_force"]) for d in world.rows(IDENTITY_DECISIONS)),
    }
    assert ("split", False) in before["decisions"]
    assert world.people() == ONE
    assert main(["rebuild", "--yes", *lake]) == 0
    assert before == {
        "contents": world.contents(),
        "ids": sorted((r["node_id"], r["canonical_id"]) for r in world.rows(IDENTITY_MAP)),
        "log": len(world.rows(IDENTITY_LOG)),
        "decisions": sorted((d["decision"], d["is_in_force"]) for d in world.rows(IDENTITY_DECISIONS)),
    }
