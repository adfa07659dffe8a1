"""Segment calls through the real stream: who is one, and what was a wish."""

from __future__ import annotations

from pathlib import Path

from conf.tables import BATCHES, EVENTS, IDENTIFIERS, IDENTITY_EDGES, IDENTITY_MAP

SAMPLE = Path(__file__).parents[2] / "samples" / "segment.jsonl"


def test_calls_and_batches_become_people_and_an_alias_is_a_wish(make_lake):
    world = make_lake()
    world.drop(SAMPLE.name, SAMPLE.read_bytes())
    world.once("segment")
    (batch,) = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    counts = [batch[f"{n}_count"] for n in ("record", "received", "valid", "quarantined", "duplicate")]
    assert counts == [15, 18, 14, 3, 1]

    names = {r["node_id"]: f"{r['namespace']}:{r['value']}" for r in world.rows(IDENTIFIERS)}
    wishes = {
        frozenset((names[e["left_node_id"]], names[e["right_node_id"]]))
        for e in world.rows(IDENTITY_EDGES)
        if e["kind"] == "alias"
    }
    anonymous = "anonymous_id:0d2f5a1e-1111-4222-8333-444455556666"
    assert wishes == {
        frozenset(("user_id:u1", anonymous)),
        frozenset(("user_id:u1", "user_id:ada@old.example.com")),
    }
    people = world.people()
    (ada,) = [p for p in people if "user_id:u1" in p]
    assert {anonymous, "email:ada@example.com", "phone:+442079460958", "anonymous_id:ios-anon-1"} <= ada
    # A company's address and telephone are nobody's, and an agent is not the one she serves.
    assert not any("office@example.com" in name for name in names.values())
    agent = next(node for node, name in names.items() if name == "agent_id:agent-7")
    assert agent not in {r["node_id"] for r in world.rows(IDENTITY_MAP)}
    # Raw identifiers stand in silver.identifiers alone.
    texts = " ".join(f"{e['properties']} {e['context']}" for e in world.rows(EVENTS))
    for value in ("ada@example.com", "0958", "android-1", "B5372DB0", "7A3CBEA0", "192.0.2.", "agent-7"):
        assert value.lower() not in texts.lower()
