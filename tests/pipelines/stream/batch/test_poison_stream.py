"""The poison corpus among good events, for real: files → Structured Streaming → Delta tables."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, QUARANTINE
from pipelines.apps.run_stream import run_stream
from pipelines.stream.source import Source
from tests.dirty.corpus import SEED, files, line, poison
from tests.dirty.shapes import SHAPES
from transforms.ingest.framing.frames import frame

GOOD = 200


@pytest.mark.slow
def test_a_stream_with_every_poison_in_it_ends_and_loses_nothing(make_lake, capfd):
    """Formats share a lake, so one's event id may be another's: what is counted is records, and the good events."""
    world = make_lake(max_files_per_trigger=15)
    sources, sent, refused = [], Counter(), 0
    for mapping, shape in SHAPES.items():
        folder = world.folder / mapping
        folder.mkdir()
        sources.append(Source(mapping, str(folder), "file", f"{mapping}:test"))
        entries = [e for e in poison() if e.mapping == mapping]
        lines = [e.payload for e in entries]
        lines += [line(shape.record(f"good-{mapping}-{n}")) for n in range(GOOD)]
        random.Random(SEED).shuffle(lines)
        (folder / "lines.jsonl").write_bytes(b"\n".join(lines))
        sent.update(lines)
        landed = [
            f for f in files() if f.mapping == mapping and "." in f.name and not f.name.endswith(".txt")
        ]
        for file in landed:
            (folder / file.name).write_bytes(file.content)
            sent.update(f.payload for f in frame(file.name, file.content))
        refused += sum(bool(o.reasons) for e in (*entries, *landed) for o in e.outcomes)
    run_stream(world.spark, world.path, sources, world.policy, world.settings, once=True)

    batches = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    assert len(batches) > 1
    for b in batches:
        assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
    assert Counter(r["payload"] for r in world.rows(BRONZE_EVENTS, ["payload"])) == sent
    reasons = Counter(tuple(r["reasons"]) for r in world.rows(QUARANTINE, ["reasons"]))
    assert sum(n for r, n in reasons.items() if r != ("conflicting_duplicate",)) == refused
    events = {r["event_id"] for r in world.rows(EVENTS, ["event_id"])}
    assert {f"e-good-{m}-{n}" for m in SHAPES for n in range(GOOD)} <= events
    said = "".join(capfd.readouterr())
    for secret in ("e-good-", "d-user-", "DROP TABLE", "<script>"):
        assert secret not in said
