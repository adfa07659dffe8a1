"""The poison corpus among good events, through the real batch function into real tables."""

from __future__ import annotations

import gc
import logging
import random
from collections import Counter
from itertools import pairwise

import pytest

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, QUARANTINE
from tests.dirty.corpus import SEED, Poison, files, line, poison
from tests.dirty.direct_lake import DirectLake
from tests.dirty.shapes import SHAPES
from transforms.ingest.framing.frames import frame
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

GOOD = 600


def mixed(mapping: str, seed: int) -> tuple[list[Poison], list[tuple[bytes, Poison | None]]]:
    """The format's poison, and it shuffled into good events, as lines."""
    entries = [e for e in poison() if e.mapping == mapping]
    good = [(line(SHAPES[mapping].record(f"good-{n}", user=f"u{n % 50}")), None) for n in range(GOOD)]
    lines = [*good, *((e.payload, e) for e in entries)]
    random.Random(f"{seed} {mapping}").shuffle(lines)
    return entries, lines


def begin_with_good_lines(lines: list, starts: list[int]) -> None:
    """Several objects in a file's first line are as many records; this is about lines that are one record each."""
    for start in starts:
        good = next(at for at in range(start, len(lines)) if lines[at][1] is None)
        lines[start], lines[good] = lines[good], lines[start]


@pytest.mark.thorough
@pytest.mark.parametrize("mapping", SHAPES)
def test_among_poison_every_good_event_arrives_and_everything_is_accounted_for(
    tmp_path, caplog, capfd, mapping
):
    """Seen to fail when judging drops refused records."""
    caplog.set_level(logging.DEBUG)
    lake = DirectLake(tmp_path / "lake")
    entries, lines = mixed(mapping, SEED)
    cuts = [0, len(lines) // 3, len(lines) // 2, len(lines)]
    begin_with_good_lines(lines, cuts[:-1])
    for n, (start, end) in enumerate(pairwise(cuts)):
        lake.land([(mapping, f"{n}.jsonl", b"\n".join(payload for payload, _ in lines[start:end]))])
    landed = [f for f in files() if f.mapping == mapping]
    lake.land([(mapping, f.name, f.content) for f in landed])

    batches = [b for b in lake.rows(BATCHES) if b["kind"] == "batch"]
    for b in batches:
        assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
    outcomes = [o for e in (*entries, *landed) for o in e.outcomes]
    counted = [
        sum(b[f"{c}_count"] for b in batches) for c in ("received", "valid", "quarantined", "duplicate")
    ]
    is_refused = [bool(o.reasons) for o in outcomes]

    assert counted[0] == GOOD + len(outcomes)
    assert counted[2] == sum(is_refused)
    assert counted[1] == GOOD + len(outcomes) - sum(is_refused)
    assert counted[3] == 0

    events = {r["event_id"] for r in lake.rows(EVENTS, ["event_id"])}
    assert {f"e-good-{n}" for n in range(GOOD)} <= events
    assert len(events) == counted[1]

    bronze = {(r["origin"], r["origin_ordinal"]): r["payload"] for r in lake.rows(BRONZE_EVENTS)}
    framed = {(f.name, fr.ordinal): fr.payload for f in landed for fr in frame(f.name, f.content)}
    sent = Counter([*(payload for payload, _ in lines if payload), *framed.values()])
    assert Counter(bronze.values()) == sent
    quarantined = lake.rows(QUARANTINE)
    for r in quarantined:
        if r["payload_format"] != "element":
            assert r["payload"] == bronze[r["origin"], r["origin_ordinal"]]
        assert r["reasons"]
    assert Counter(tuple(r["reasons"]) for r in quarantined) == Counter(
        o.reasons for o in outcomes if o.reasons
    )

    said = caplog.text + "".join(capfd.readouterr())
    for secret in ("d-good-", "d-user-", "never", "x-open", "DROP TABLE", "<script>"):
        assert secret not in said


def test_an_element_of_an_envelope_is_quarantined_by_itself_with_its_digits_and_its_depth(tmp_path):
    """What a replay reads is the element: it must say what the envelope said. Seen to fail with digits lost to a
    float, and with no payload where an element nests deeper than its writer goes."""
    lake = DirectLake(tmp_path / "lake")
    deep = b'{"messageId":"deep","deep":' + b"[" * 900 + b"]" * 900 + b"}"
    long = b'{"messageId":"long","number":117829361234567890123,"userId":117829361234567890124}'
    good = b'{"userId":"u","timestamp":"2026-03-01T12:00:00Z"}'
    envelopes = [
        b'{"batch":[' + good + b"," + element + b"]}" for element in (deep, long, deep[:-1] + b"," + long[1:])
    ]
    lake.land([("segment", "1.jsonl", b"\n".join(envelopes))])
    assert [r["payload"] for r in lake.rows(BRONZE_EVENTS)] == envelopes
    refused = {
        r["origin_ordinal"]: r for r in lake.rows(QUARANTINE) if r["reasons"] != ["conflicting_duplicate"]
    }
    assert {r["record_position"] for r in refused.values()} == {1}
    for ordinal in (0, 2):
        assert refused[ordinal]["payload"].count(b"[") == 900
    for ordinal in (1, 2):
        assert b"117829361234567890123" in refused[ordinal]["payload"]
        assert b"117829361234567890124" in refused[ordinal]["payload"]


@pytest.mark.parametrize("mapping", SHAPES)
def test_poison_among_good_records_costs_none_of_them_more_than_without_it(monkeypatch, mapping):
    """Good native records are read together, whatever is between them; and nobody looks for cycles among what a line
    of a million empty lists makes. Seen to fail with poison that makes its portion be read one by one, and with the
    garbage collector on."""
    _, lines = mixed(mapping, SEED)
    n = len(lines)
    payloads = [payload for payload, _ in lines]
    records = Records(
        ["here"] * n, [mapping] * n, ["events"] * n, ["f"] * n, list(range(n)), ["json"] * n, payloads, [0] * n
    )  # fmt: skip
    parser = RecordParser({mapping: load_mapping(mapping)}, load_policy(), b"k" * 32)
    alone, collecting, record_of = set(), [], parser._record

    def record(mapping, payload_format, payload, *place):
        alone.add(payload)
        collecting.append(gc.isenabled())
        return record_of(mapping, payload_format, payload, *place)

    monkeypatch.setattr(parser, "_record", record)
    rows = parser.parse(records)

    assert rows.num_rows >= n
    assert collecting
    assert not any(collecting)
    good = {payload for payload, entry in lines if entry is None}
    assert alone & good == (set() if mapping == "native" else good)
