"""Envelopes: one record that gives several events, from the landing folder to the counts of its batch."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, QUARANTINE
from pipelines.apps.cli.status import status
from pipelines.lake.snapshot import published
from pipelines.stream.batch import rows
from pipelines.stream.batch.judged import by_origin, keyed
from transforms.ingest.deduplication import Keyed, judge_duplicates, require_conservation
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

PARSER = RecordParser({"mini_dmp": load_mapping("mini_dmp")}, load_policy(), b"k" * 32)


def element(minute: int, **identifiers: str) -> dict:
    at = f"2026-03-01T10:{minute:02d}:00Z"
    return {"identifiers": identifiers, "event_type": "visit", "timestamp": at}


def envelope(*events: object) -> bytes:
    return json.dumps({"source": "shop", "events": list(events)}).encode() + b"\n"


def test_an_envelope_is_one_row_in_bronze_and_each_of_its_events_is_accounted_for(make_lake):
    world = make_lake()
    twice = {**element(3, email="b@example.com"), "event_id": "e1"}
    records = [
        envelope(
            element(0, email="a@example.com", cookie_id="c1"), element(1, cookie_id="c1"), 7, element(2)
        ),
        envelope(twice, twice, {**twice, "event_type": "other"}),
        envelope(),
        b'{"source": "shop", "events": "none"}\n',
        b"not json\n",
        json.dumps(element(5, cookie_id="c9")).encode() + b"\n",
    ]
    world.drop("1.jsonl", b"".join(records))
    world.once("mini_dmp")
    (batch,) = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    counts = [batch[f"{n}_count"] for n in ("record", "received", "valid", "quarantined", "duplicate")]
    assert counts == [6, 4 + 3 + 1 + 1 + 1 + 1, 4, 6, 1]
    assert json.loads(batch["inputs"])[0]["records"] == 6

    bronze = world.rows(BRONZE_EVENTS, ["origin_ordinal", "payload"])
    assert {r["origin_ordinal"]: r["payload"] for r in bronze} == {
        at: record.rstrip(b"\n") for at, record in enumerate(records)
    }
    assert len(bronze) == 6
    refused = {
        (r["origin_ordinal"], r["record_position"]): (r["reasons"], r["payload_format"], r["payload"])
        for r in world.rows(QUARANTINE)
    }
    assert {place: (reasons, kind) for place, (reasons, kind, _) in refused.items()} == {
        (0, 2): (["not_an_object"], "element"),
        (0, 3): (["no_identifier"], "element"),
        (1, 2): (["conflicting_duplicate"], "element"),
        (2, 0): (["no_events"], "json"),
        (3, 0): (["no_events"], "json"),
        (4, 0): (["malformed_json"], "json"),
    }
    assert json.loads(refused[(0, 3)][2]) == element(2)
    assert json.loads(refused[(1, 2)][2]) == {**twice, "event_type": "other"}
    assert refused[(2, 0)][2] == records[2].rstrip(b"\n")
    places = {(r["origin_ordinal"], r["record_position"]) for r in world.rows(EVENTS)}
    assert places == {(0, 0), (0, 1), (1, 0), (5, 0)}

    shown = status(world.lake, published(world.lake).published_at)["conservation"]
    assert (shown["record_count"], shown["received_count"], shown["holds"]) == (6, 11, True)
    assert world.once("mini_dmp").received_count == 0


# Any mixture conserves ----------------------------------------------------------------------------

elements = st.one_of(
    st.builds(
        lambda minute, event_id, kind: {
            **element(minute, cookie_id="c1"),
            "event_type": kind,
            **({"event_id": event_id} if event_id else {}),
        },
        st.integers(0, 2),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["visit", "other"]),
    ),
    st.sampled_from([{}, None, 7, [], "x", element(1), {"identifiers": {"cookie_id": "c2"}}]),
)
payloads = st.one_of(
    st.lists(elements, max_size=5).map(lambda e: envelope(*e)),
    elements.map(lambda e: json.dumps(e).encode()),
    st.sampled_from([b"{", b"\xff", b'{"events": 7}', b'{"events": {}}', b'{"events": "[{}, 1]"}']),
)


def event_count(payload: bytes) -> int:
    """What is declared: an envelope of n events counts n, anything else 1."""
    try:
        record = json.loads(payload)
    except ValueError:
        return 1
    inner = record.get("events") if isinstance(record, dict) else None
    inner = json.loads(inner) if isinstance(inner, str) else inner
    return max(1, len(inner)) if isinstance(inner, list) else 1


def judged(payloads: list[bytes], first: int, known: dict[tuple[int, int], int]):
    """A batch of records as the stream judges it: all its events, in an order that Spark does not promise, and their
    standing."""
    n = len(payloads)
    places = list(range(first, first + n))
    records = Records(
        ["s"] * n, ["mini_dmp"] * n, ["events"] * n, ["f"] * n, places, ["json"] * n, payloads, [None] * n
    )
    received = pa.table(PARSER.parse(records))
    received = by_origin(received.take(pa.array(np.random.default_rng(first).permutation(received.num_rows))))
    events = keyed(received)
    refused = pc.list_value_length(received["reasons"]).to_numpy() > 0
    of_known = [(*key, content) for key, content in known.items()]
    outcome = judge_duplicates(events, refused, Keyed(*np.array(of_known, np.int64).reshape(-1, 3).T))
    upper, low, content = (column[outcome.valid].tolist() for column in events)
    known.update(zip(zip(upper, low, strict=True), content, strict=True))
    return received, outcome


@given(st.lists(payloads, max_size=8), st.integers(0, 8))
def test_any_mixture_of_envelopes_conserves_however_it_is_cut(records, cut):
    whole, outcome = judged(records, 0, {})
    require_conservation(sum(map(event_count, records)), outcome)
    bronze = rows.bronze_rows(whole, 1)
    assert bronze["payload"].to_pylist() == records
    assert bronze["origin_ordinal"].to_pylist() == list(range(len(records)))
    refused = rows.quarantine_rows(whole, outcome, 1)
    assert refused.num_rows == outcome.quarantined.sum()
    places = list(zip(whole["origin_ordinal"].to_pylist(), whole["record_position"].to_pylist(), strict=True))
    assert len(set(places)) == len(places)
    assert None not in refused["payload"].to_pylist()
    assert sum(map(len, refused["payload"].to_pylist())) <= 4 * sum(map(len, records))

    known: dict[int, int] = {}
    parts = [
        judged(part, at, known) for part, at in ((records[:cut], 0), (records[cut:], len(records[:cut])))
    ]
    for mask in ("valid", "quarantined", "duplicate"):
        in_parts = np.concatenate([getattr(s, mask) for _, s in parts])
        assert in_parts.tolist() == getattr(outcome, mask).tolist()
