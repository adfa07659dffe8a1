"""What the evidence can show, and the rougher world that it is measured on."""

from __future__ import annotations

import orjson
import pyarrow as pa

from benchmarks.accuracy.pairs import read_truth
from benchmarks.accuracy.rough_data import roughen
from benchmarks.accuracy.trust import visible_labels
from pipelines.generator import generate


def test_only_what_is_connected_over_her_own_identifiers_is_visible(tmp_path):
    file = tmp_path / "truth.jsonl"
    known = {"a": ["p1"], "b": ["p1"], "c": ["p1"], "kiosk": ["p1", "p2"], "x": ["p2"]}
    rows = [
        {"record": "person", "person": p, "group": "connected", "is_identified": True} for p in ("p1", "p2")
    ]
    rows += [
        {"record": "identifier", "tenant": "t", "namespace": "n", "value": v, "persons": p}
        for v, p in known.items()
    ]
    rows += [{"record": "event", "tenant": "t", "event_id": "e", "person": "p1"}]
    file.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    nodes = {v: i + 10 for i, v in enumerate(known)}
    identifiers = pa.table(
        {"tenant": ["t"] * 5, "node_id": list(nodes.values()), "namespace": ["n"] * 5, "value": list(nodes)}
    )
    together = [["a", "b"], ["b", "kiosk"], ["kiosk", "c"], ["c", "x"]]
    events = pa.table({"node_ids": pa.array([[nodes[v] for v in e] for e in together], pa.list_(pa.int64()))})
    items, labels = visible_labels(read_truth(file), events, identifiers)
    label = dict(zip(items["value"].to_pylist(), labels.tolist(), strict=True))
    assert label["a"] == label["b"]
    assert len({label["a"], label["c"], label["x"]}) == 3
    assert "kiosk" not in label


def test_a_rougher_world_has_guests_on_a_share_of_the_devices_and_junk_in_a_share_of_the_events(tmp_path):
    generate(300, 3000, 5, tmp_path / "plain", truth=tmp_path / "plain.jsonl")
    done = roughen(
        tmp_path / "plain", tmp_path / "plain.jsonl", tmp_path / "out", tmp_path / "t.jsonl", 5, 0.05, 0.02
    )
    assert done["shared_devices"] == round(done["devices"] * 0.05)
    assert 0.012 < done["junk_events"] / 2900 < 0.03
    before, after = read_truth(tmp_path / "plain.jsonl"), read_truth(tmp_path / "t.jsonl")
    assert len(after.events) == len(before.events) + done["guest_events"]
    assert len(after.owned_identifiers()) < len(before.owned_identifiers())
    again = roughen(
        tmp_path / "plain", tmp_path / "plain.jsonl", tmp_path / "again", tmp_path / "t2.jsonl", 5, 0.05, 0.02
    )
    assert again == done
    assert (tmp_path / "again" / "zz-guests.jsonl").read_bytes() == (
        tmp_path / "out" / "zz-guests.jsonl"
    ).read_bytes()
