"""Each shipped mapping on a sample of its format: what comes out, field by field, and that nothing breaks it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conf.policy import load_policy
from conf.source_mapping import load_mapping, shipped_mappings
from pipelines.operations.mapping_trial import try_mapping
from transforms.ingest.framing.frames import frame
from transforms.ingest.mapping.payload import PayloadReader
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

SAMPLES = Path(__file__).parent / "samples"
FILES = {f.stem: f for f in sorted(SAMPLES.iterdir()) if f.is_file()}
POLICY = load_policy()
PARSER = RecordParser({name: load_mapping(name) for name in FILES}, POLICY, b"k" * 32)
RECORDS = {
    name: [
        PayloadReader(2**20).read(f.payload_format, f.payload) for f in frame(file.name, file.read_bytes())
    ]
    for name, file in FILES.items()
}
# What a record may be refused for that has lost some of its fields.
REASONS = {"no_timestamp", "no_identifier", "no_events", "not_an_object", "timestamp_out_of_range"}


def test_every_foreign_mapping_has_a_sample():
    assert set(FILES) == set(shipped_mappings()) - {"native", "flat"}


@pytest.mark.parametrize("name", FILES)
def test_a_sample_gives_the_golden_output(name):
    trial = try_mapping(FILES[name], load_mapping(name), POLICY, 1000, 2**20)
    *events, summary = map(json.loads, (SAMPLES / "golden" / f"{name}.jsonl").read_text().splitlines())
    assert len(trial.events) == len(events)
    for found, golden in zip(trial.events, events, strict=True):
        assert set(found) == set(golden)
        for field, value in golden.items():
            assert found[field] == value, (found["record"], found["position"], field)
    assert trial.summary() == summary


def parsed(name: str, *records: object) -> list[dict]:
    n = len(records)
    payloads = [json.dumps(r).encode() for r in records]
    table = PARSER.parse(
        Records(["s"] * n, [name] * n, ["e"] * n, ["f"] * n, [0] * n, ["json"] * n, payloads, [None] * n)
    )
    table.validate(full=True)
    return table.to_pylist()


def shuffled(value: object, chance: random.Random) -> object:
    if isinstance(value, dict):
        items = [(k, shuffled(v, chance)) for k, v in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(v, chance) for v in value] if isinstance(value, list) else value


def thinned(value: object, chance: random.Random, share: float) -> object:
    if isinstance(value, dict):
        return {k: thinned(v, chance, share) for k, v in value.items() if chance.random() > share}
    return [thinned(v, chance, share) for v in value] if isinstance(value, list) else value


def comparable(rows: list[dict], *without: str) -> list[dict]:
    left_out = {"payload", "element", *without}
    rows = [{k: v for k, v in row.items() if k not in left_out} for row in rows]
    for row in rows:
        row["identifiers"] = sorted(map(repr, row["identifiers"]))
    return rows


samples = st.sampled_from([(name, at) for name, records in RECORDS.items() for at in range(len(records))])
chances = st.randoms(use_true_random=False)


@given(samples, chances)
def test_the_order_of_fields_does_not_matter(sample, chance):
    name, at = sample
    record = RECORDS[name][at]
    assert comparable(parsed(name, shuffled(record, chance))) == comparable(parsed(name, record))


@given(
    samples,
    st.dictionaries(st.text(min_size=6, max_size=9).map(lambda t: f"new {t}"), st.integers() | st.text()),
)
@example((next(iter(RECORDS)), 0), {"new number": -9223372036854775809})
def test_further_fields_go_to_properties_and_change_nothing_else(sample, further):
    name, at = sample
    record = RECORDS[name][at]
    before, after = parsed(name, record), parsed(name, {**further, **record})
    free = ("properties", "content_digest")
    assert comparable(after, *free) == comparable(before, *free)
    if len(before) == 1 and not before[0]["reasons"] and load_mapping(name).explode is None:
        kept = json.loads(after[0]["properties"] or "{}")
        assert all(kept[k] == v for k, v in further.items())


@given(samples, chances, st.floats(0, 1))
def test_missing_fields_never_break_a_mapping(sample, chance, share):
    name, at = sample
    record = thinned(RECORDS[name][at], chance, share)
    for row in parsed(name, record):
        assert set(row["reasons"]) <= REASONS
        assert row["reasons"] or row["anchor_node_id"] in row["node_ids"]


@given(
    samples,
    chances,
    st.lists(st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({})),
)
def test_fields_of_another_type_never_break_a_mapping(sample, chance, values):
    name, at = sample
    record = dict(RECORDS[name][at])
    for key, value in zip(chance.sample(sorted(record), len(record)), values, strict=False):
        record[key] = value
    assert all("unparseable" not in row["reasons"] for row in parsed(name, record))
