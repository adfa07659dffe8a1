"""The whole line, for real: files → Structured Streaming → Delta tables → people."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from conf.tables import (
    BATCHES,
    BRONZE_EVENTS,
    IDENTITY_LOG,
    IDENTITY_REDIRECTS,
    PROFILES,
    QUARANTINE,
    SESSIONS,
)
from pipelines.apps.run_stream import run_stream
from pipelines.generator import generate
from pipelines.stream.source import Source


def event(
    event_id: str, minute: int, event_type: str = "page_view", platform: str = "web", **identifiers: str
) -> dict:
    return {
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": f"2026-03-01T{10 + minute // 60:02d}:{minute % 60:02d}:00Z",
        "platform": platform,
        "identifiers": identifiers,
    }


def people(*groups: str) -> set[frozenset[str]]:
    return {frozenset(g.split()) for g in groups}


def test_an_anonymous_history_becomes_the_persons_at_login_across_devices(make_lake):
    world = make_lake()
    world.drop("1.jsonl", [event("a", 0, cookie_id="c1"), event("b", 100, platform="mobile", device_id="d1")])
    world.once()
    assert world.people() == people("cookie_id:c1", "device_id:d1")
    older = min(r["canonical_id"] for r in world.rows(PROFILES))
    world.drop("2.jsonl", [event("c", 200, "login", cookie_id="c1", user_id="u1")])
    world.once()
    world.drop("3.jsonl", [event("d", 300, "login", "mobile", device_id="d1", user_id="u1")])
    world.once()
    assert world.people() == people("cookie_id:c1 device_id:d1 user_id:u1")
    (profile,) = world.rows(PROFILES)
    assert profile["canonical_id"] == older
    assert profile["platforms"] == ["mobile", "web"]
    assert profile["has_used_mobile"] is True
    assert profile["anonymous_session_count_before_first_login"] == 2
    assert profile["login_count"] == 2
    assert [r["canonical_id"] for r in world.rows(IDENTITY_REDIRECTS)] == [older]
    causes = [r["cause"] for r in sorted(world.rows(IDENTITY_LOG), key=lambda r: r["batch_id"])]
    assert causes[:3] == ["new", "new", "new"]
    assert set(causes[3:]) == {"merge"}


def test_running_again_with_nothing_new_publishes_nothing(make_lake):
    world = make_lake()
    world.drop("1.jsonl", [event("a", 0, cookie_id="c1")])
    assert world.once().received_count == 1
    before = world.contents()
    assert world.once().received_count == 0
    assert world.contents() == before


def test_received_is_valid_plus_quarantined_plus_duplicate_and_nothing_is_lost(make_lake):
    world = make_lake()
    good = json.dumps(event("a", 0, cookie_id="c1")).encode()
    conflict = json.dumps(event("a", 5, cookie_id="c1")).encode()
    lines = [good, good, conflict, b"{not json", b"[1]", b'{"event_id":"x"}', b"\xff\xfe", b""]
    world.drop("1.jsonl", b"\n".join(lines) + b"\n")
    world.drop("2.jsonl", good + b"\n" + json.dumps(event("z", 0, user_id="null")).encode() + b"\n")
    world.drop("3.jsonl", b"")
    world.once()
    batches = [r for r in world.rows(BATCHES) if r["kind"] == "batch"]
    for b in batches:
        assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
    assert sum(b["received_count"] for b in batches) == 9 == len(world.rows(BRONZE_EVENTS))
    assert sum(b["valid_count"] for b in batches) == 1
    assert sum(b["duplicate_count"] for b in batches) == 2
    reasons = sorted(r for row in world.rows(QUARANTINE) for r in row["reasons"])
    assert {
        "conflicting_duplicate",
        "invalid_utf8",
        "malformed_json",
        "no_identifier",
        "not_an_object",
    } <= set(reasons)


def test_bad_records_are_quarantined_with_their_reason_and_good_ones_arrive(make_lake):
    world = make_lake()
    good = event("good", 0, cookie_id="c1")
    bad = {
        "year one": {**event("b1", 0, cookie_id="c1"), "timestamp": "0001-01-01T00:00:00Z"},
        "year 9999": {**event("b2", 0, cookie_id="c1"), "timestamp": "9999-12-31T23:59:59Z"},
        "no time": {k: v for k, v in event("b3", 0, cookie_id="c1").items() if k != "timestamp"},
        "nobody": event("b4", 0),
        "blocked": event("b5", 0, user_id="anonymous", cookie_id="00000000-0000-0000-0000-000000000000"),
        "wrong type": {**event("b6", 0), "identifiers": 7},
    }
    world.drop("1.jsonl", [*bad.values(), good])
    world.drop("2.jsonl", [event("big", 1, cookie_id="c2") | {"properties": {"blob": "x" * 10_000_000}}])
    world.drop("3.jsonl", b"")
    world.drop("4.jsonl.gz", b"not gzip at all")
    world.once()
    assert world.people() == people("cookie_id:c1", "cookie_id:c2")
    reasons = sorted(tuple(row["reasons"]) for row in world.rows(QUARANTINE))
    assert reasons == [
        ("no_identifier",), ("no_identifier",), ("no_identifier",), ("no_timestamp",),
        ("timestamp_out_of_range",), ("timestamp_out_of_range",), ("unreadable_file",),
    ]  # fmt: skip
    assert len(world.rows(BRONZE_EVENTS)) == len(bad) + 3


def test_a_lost_checkpoint_and_a_new_source_lose_and_repeat_nothing(make_lake):
    world = make_lake()
    world.drop("1.jsonl", [event("a", 0, cookie_id="c1")])
    world.once()
    shutil.rmtree(world.path / "_checkpoints")
    world.drop("2.jsonl", [event("b", 1, cookie_id="c2")])
    assert world.once().received_count == 1
    other = world.folder / "other"
    other.mkdir()
    (other / "3.jsonl").write_text(json.dumps(event("c", 2, cookie_id="c3")))
    sources = [
        Source("native", str(world.landing), "file", "native:test"),
        Source("native", str(other), "file", "native:other"),
    ]
    done = run_stream(world.spark, world.path, sources, world.policy, world.settings, once=True)
    assert done.received_count == 1
    assert world.people() == people("cookie_id:c1", "cookie_id:c2", "cookie_id:c3")
    assert len(world.rows(BRONZE_EVENTS)) == 3


def test_every_file_format_gives_the_same_people(make_lake, tmp_path):
    events = [event(f"e{i}", i, user_id=f"u{i % 3}", device_id=f"d{i % 5}") for i in range(30)]
    flat = [{k: v for k, v in e.items() if k != "identifiers"} | e["identifiers"] for e in events]
    found = []
    for kind in ("jsonl", "json", "csv", "parquet"):
        world = make_lake()
        rows = pa.Table.from_pylist(flat)
        if kind == "jsonl":
            world.drop("x.jsonl", flat)
        elif kind == "json":
            world.drop("x.json", json.dumps(flat, indent=1).encode())
        elif kind == "csv":
            pa_csv.write_csv(rows, tmp_path / "x.csv")
            world.drop("x.csv", (tmp_path / "x.csv").read_bytes())
        else:
            pq.write_table(rows, tmp_path / "x.parquet")
            world.drop("x.parquet", (tmp_path / "x.parquet").read_bytes())
        world.once("flat")
        found.append(
            {name: rows for name, rows in world.contents().items() if name.startswith(("gold", "silver.id"))}
        )
        found[-1].pop("silver.identity_edges", None)
    assert all(f == found[0] for f in found)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    generate(150, 1_500, seed=11, out=folder, events_per_file=1_500)
    return (folder / "part-00000.jsonl").read_bytes().splitlines(keepends=True)


def _cut(lines: list[bytes], parts: int) -> list[bytes]:
    at = [len(lines) * i // parts for i in range(parts + 1)]
    return [b"".join(lines[a:b]) for a, b in pairwise(at)]


@pytest.fixture(scope="module")
def whole(make_lake, generated):
    world = make_lake()
    world.drop("all.jsonl", b"".join(generated))
    world.once()
    return world.contents()


def _in_batches(make_lake, lines: list[bytes], parts: int, **settings: object):
    world = make_lake(max_files_per_trigger=1, **settings)
    for number, part in enumerate(_cut(lines, parts)):
        world.drop(f"{number:04d}.jsonl", part)
    assert world.once().batch_count == parts
    return world


def test_seven_batches_give_what_one_gives(make_lake, generated, whole):
    assert _in_batches(make_lake, generated, 7).contents() == whole


@pytest.mark.slow
def test_a_hundred_batches_give_what_one_gives(make_lake, generated, whole):
    world = _in_batches(make_lake, generated, 100, compact_every_seconds=10.0)
    assert world.contents() == whole


def test_both_writer_engines_leave_the_same_tables(make_lake, generated):
    by_spark, by_delta_rs = (
        _in_batches(make_lake, generated[:300], 1, writer=writer).contents()
        for writer in ("spark", "delta_rs")
    )
    assert by_spark == by_delta_rs


def test_graphframes_and_driver_leave_the_same_tables(make_lake, generated, whole):
    assert _in_batches(make_lake, generated, 2, engine="graphframes").contents() == whole


def test_a_batch_of_events_seen_before_changes_nothing(make_lake, generated, whole):
    world = _in_batches(make_lake, generated, 2)
    world.drop("again.jsonl", b"".join(generated))
    world.once()
    after = world.contents()
    for name in set(whole) - {"silver.quarantine"}:
        assert after[name] == whole[name], name


def test_after_a_clean_end_the_tables_themselves_are_complete(make_lake, generated):
    world = _in_batches(make_lake, generated[:400], 2)
    for spec in (PROFILES, SESSIONS):
        base = DeltaTable(str(world.lake.table_path(spec))).to_pyarrow_table()
        hot = DeltaTable(str(world.lake.table_path(spec.hot))).to_pyarrow_table()
        assert base.num_rows == len(world.rows(spec))
        assert hot.num_rows == 0
