"""A stream's batch that is too large is published in portions, and nothing but the number of batches is different."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, FILES, PROFILES, QUARANTINE
from pipelines.lake.files_of_record import FilesOfRecord
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.operations.attempt import RebuildRefused, refuse_half_written_batch
from pipelines.operations.decisions.inbox import settle
from pipelines.operations.rebuild.shadow_lake import Rules, open_shadow, shadow_lake
from pipelines.stream.batch.intent import INTENT, IntentConflict, pending_intent
from pipelines.stream.batch.portions import Cut
from pipelines.stream.checkpoint import of_record
from pipelines.stream.kafka.offsets import from_json
from pipelines.stream.read_before import Landed, readings
from tests.direct_lake import DirectLake
from tests.pipelines.stream.batch.test_failed_batch import Broken, break_writes
from transforms.ingest.control import CONTROL
from transforms.ingest.framing.files_read import Readings
from transforms.ingest.parsed_schema import PARSED_SCHEMA
from transforms.ingest.records import parsed_here


def event(at: int, tenant: str = "default", **identifiers: str) -> dict[str, object]:
    instant = f"2026-03-0{1 + at // 1440}T{at // 60 % 24:02d}:{at % 60:02d}:00Z"
    return {"event_id": f"e{at}", "timestamp": instant, "tenant": tenant, "identifiers": identifiers}


# Identifiers that are told in the first events are used in all others; one event has no id, one comes twice, one twice
# with other content, two are refused.
EVENTS_SENT: list[object] = [
    event(1, device_id="d", user_id="ann", email="a@x.org"),
    event(2, device_id="d", email="a@x.org"),
    event(9, cookie_id="c", email="a@x.org"),
    {"timestamp": "2026-03-01T03:00:00Z", "identifiers": {"device_id": "d", "cookie_id": "c"}},
    event(400, device_id="d", user_id="bea"),
    "no object",
    event(1, device_id="d", user_id="ann", email="a@x.org"),
    event(2, device_id="d", email="b@x.org"),
    event(401, device_id="d", user_id="bea", email="b@x.org"),
    event(3, tenant="other", device_id="d", user_id="ann"),
    {"event_id": "e500", "identifiers": {}},
    event(410, device_id="e", user_id="bea", cookie_id="c"),
    event(700, cookie_id="new", user_id="ann"),
]
LATER = [event(702, cookie_id="new", email="b@x.org"), event(2, device_id="d", email="a@x.org")]
DECISION = {
    "decision_id": "k1",
    "decision": "keep_apart",
    "decided_at": "2026-03-02T00:00:00Z",
    "tenant": "default",
    "sides": [[{"namespace": "user_id", "value": "ann"}], [{"namespace": "user_id", "value": "bea"}]],
}
WHOLE: dict[str, int] = {}
# One record a portion; a few; and by bytes.
BOUNDS = [{"max_batch_pairs": 1}, {"max_batch_pairs": 6}, {"max_batch_bytes": 3_000}]


def lake_with(folder: Path, **bounds: int) -> DirectLake:
    lake = DirectLake(folder, mappings=("native",))
    bind(lake, **bounds)
    return lake


def bind(lake: DirectLake, **bounds: int) -> None:
    """Go on as a new process with other bounds."""
    lake.settings = replace(lake.settings, **{"max_batch_pairs": 10**9, "max_batch_bytes": 10**9, **bounds})
    lake.restart()


def files() -> dict[tuple[str, str], bytes]:
    """(mapping, name) → content of what lands: two files of events and one decision."""
    lines = [json.dumps(e).encode() + b"\n" for e in EVENTS_SENT]
    return {
        ("native", "a.jsonl"): b"".join(lines[:9]),
        ("native", "b.jsonl"): b"".join(lines[9:]),
        ("control", "1.json"): json.dumps(DECISION).encode(),
    }


def input_rows(lake: DirectLake, found: Readings | None = None) -> pa.Table:
    """The files as one batch of the stream, parsed together: what the first one tells is not told by the second."""
    rows = [
        {
            "source": f"{mapping}:test",
            "mapping": mapping,
            "feed": CONTROL if mapping == CONTROL else "events",
            "path": name,
            "content": content,
            "transport_at": datetime.fromtimestamp(1_700_000_000, UTC),
        }
        for (mapping, name), content in files().items()
    ]
    texts = ((n, pa.string()) for n in ("source", "mapping", "feed", "path"))
    schema = pa.schema([*texts, ("content", pa.binary()), ("transport_at", pa.timestamp("us", tz="UTC"))])
    return parsed_here(pa.Table.from_pylist(rows, schema=schema).to_batches(), lake.parser, found)


def publish(lake: DirectLake) -> None:
    rows = input_rows(lake)
    lake.processor.process(lambda: rows, 0)
    lake.batches = 1


def everything(lake: DirectLake) -> dict[str, object]:
    """What must not depend on how the batch was cut."""
    bronze = [(r["origin"], r["origin_ordinal"], r["payload"]) for r in lake.rows(BRONZE_EVENTS)]
    batches = sorted(lake.rows(BATCHES), key=itemgetter("batch_id"))
    counts = {
        name: sum(row[f"{name}_count"] for row in batches)
        for name in ("record", "received", "valid", "quarantined", "duplicate")
    }
    met: Counter[tuple[str, str]] = Counter()  # a file is met once, however many parts it has
    for row in lake.rows(FILES):
        met[row["path"], "records"] += row["record_count"]
        met[row["path"], row["outcome"]] += row["outcome"] != "part"
    return {
        **lake.contents(),
        "people": sorted(map(sorted, lake.people())),
        "bronze": sorted(bronze),
        "counts": counts,
        "files": {key: count for key, count in met.items() if count},
        "stream batches": [r["stream_batch_id"] for r in batches if r["stream_batch_id"] is not None],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    lake = lake_with(tmp_path_factory.mktemp("whole") / "lake")
    publish(lake)
    first = everything(lake)
    lake.feed(LATER, name="later.jsonl")
    assert len(lake.rows(BATCHES)) == 2
    return {"first": first, "then": everything(lake)}


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_portions_publish_what_the_whole_batch_would(bounds, whole, tmp_path):
    lake = lake_with(tmp_path / "lake", **bounds)
    publish(lake)
    kinds = [row["kind"] for row in sorted(lake.rows(BATCHES), key=itemgetter("batch_id"))]
    assert kinds[-1] == "batch"
    assert set(kinds[:-1]) == {"portion"}
    assert everything(lake) == whole["first"]
    publish(lake)  # it is published: nothing is done
    lake.feed(LATER, name="later.jsonl")
    assert everything(lake) == whole["then"]


ONE_EACH, MORE = {"max_batch_pairs": 1}, {"max_batch_pairs": 6}


@pytest.mark.parametrize(
    ("spec", "is_after", "killed_in", "retry"),
    [
        (EVENTS, False, 1, MORE),
        (EVENTS, True, 2, WHOLE),
        (PROFILES.hot, False, 2, ONE_EACH),
        (PROFILES.hot, True, 4, WHOLE),
        (BATCHES, False, 3, MORE),
        (BATCHES, True, 1, ONE_EACH),
        (BATCHES, True, 4, WHOLE),
    ],
    ids=lambda value: getattr(value, "full_name", str(value)),
)
def test_a_batch_killed_between_and_inside_portions_is_completed_under_any_bound(
    spec, is_after, killed_in, retry, whole, tmp_path
):
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    rows = input_rows(lake)
    append, seen = lake.processor.setup.writer.append, Counter()

    def failing(table, data, txn):
        seen[table.full_name] += 1
        if table is spec and seen[table.full_name] == killed_in:
            if is_after:
                append(table, data, txn)
            raise Broken
        return append(table, data, txn)

    lake.processor.setup.writer.append = failing
    with pytest.raises(Broken):
        lake.processor.process(lambda: rows, 0)
    bind(lake, **retry)
    publish(lake)
    assert everything(lake) == whole["first"]
    assert pending_intent(lake.path / INTENT, published(lake.lake).batch_id) is None
    lake.feed(LATER, name="later.jsonl")
    assert everything(lake) == whole["then"]


def killed(lake: DirectLake, portions: int) -> None:
    """Publish so many portions of the batch, and die."""
    rows = input_rows(lake)
    append, seen = lake.processor.setup.writer.append, Counter()

    def failing(table, data, txn):
        seen[table.full_name] += 1
        if seen[BRONZE_EVENTS.full_name] > portions:
            raise Broken
        return append(table, data, txn)

    lake.processor.setup.writer.append = failing
    with pytest.raises(Broken):
        lake.processor.process(lambda: rows, 0)
    assert published(lake.lake).batch_id == portions


def test_the_same_process_goes_on_after_a_portion_that_failed(whole, tmp_path):
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    written = break_writes(lake, PROFILES.hot, is_after=True)
    rows = input_rows(lake)
    with pytest.raises(Broken):
        lake.processor.process(lambda: rows, 0)
    assert written
    publish(lake)
    assert everything(lake) == whole["first"]


def test_a_batch_of_which_a_portion_is_published_counts_as_half_written(tmp_path):
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    killed(lake, 3)
    snapshot = published(lake.lake)
    begun = pending_intent(lake.path / INTENT, snapshot.batch_id)
    assert of_record(snapshot, begun, lake.stream).is_begun
    assert of_record(snapshot, begun, "another").is_superseded
    assert not settle(lake.lake, None)
    with pytest.raises(RebuildRefused, match="half-written"):
        refuse_half_written_batch(lake.lake, snapshot)


def test_input_that_has_changed_between_portions_is_refused(tmp_path):
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    killed(lake, 3)
    lake.restart()
    other = lake.parsed([event(900, device_id="z"), *EVENTS_SENT[1:]], "native", "a.jsonl")
    with pytest.raises(IntentConflict, match="its input has changed"):
        lake.processor.process(lambda: other, 0)


@pytest.mark.parametrize("portions", [1, 4])
def test_a_new_checkpoint_takes_what_the_portions_have_left(portions, whole, tmp_path):
    """The files are read again: what is published of them is known, whole files by their content and others record by
    record."""
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    killed(lake, portions)
    assert settle(lake.lake, "new", is_continued=False)
    lake.stream = "new"
    bind(lake)
    landed = []
    for (mapping, name), content in files().items():
        (tmp_path / name).write_bytes(content)
        landed.append(Landed(f"{mapping}:test", name, tmp_path / name))
    record = FilesOfRecord(lake.lake, published(lake.lake).batch_id)
    rows = input_rows(lake, readings(landed, record))
    lake.processor.process(lambda: rows, 0)
    lake.batches = 1
    found = everything(lake)
    assert found["counts"] == whole["first"]["counts"]
    assert sorted(b[2] for b in found["bronze"]) == sorted(b[2] for b in whole["first"]["bronze"])
    assert found["people"] == whole["first"]["people"]
    assert found["gold.profiles"] == whole["first"]["gold.profiles"]


def test_a_batch_is_cut_where_its_bounds_are_reached_and_a_record_stays_whole():
    def ends(positions: list[int], pairs: list[int], **bounds: int) -> list[int]:
        count = len(positions)
        columns = {
            n: pa.nulls(count, f.type) for n, f in zip(PARSED_SCHEMA.names, PARSED_SCHEMA, strict=True)
        }
        columns |= {
            "source": pa.array(["s"] * count),
            "origin": pa.array(["o"] * count),
            "origin_ordinal": pa.array(np.cumsum(np.array(positions) == 0), pa.int64()),
            "record_position": pa.array(positions, pa.int64()),
            "payload": pa.array([b"x" * 1000] * count),
            "node_ids": pa.array([list(range(n)) for n in pairs], pa.list_(pa.int64())),
        }
        cut = Cut(pa.table(columns, schema=PARSED_SCHEMA), [], **bounds)
        found = [0]
        while found[-1] < count:
            found.append(cut.portion(found[-1]).until)
        return found[1:]

    one_each, sizes = [0] * 6, [2, 3, 1, 5, 2, 2]  # 1, 3, 0, 10, 1 and 1 pairs
    assert ends(one_each, sizes) == [6]
    assert ends(one_each, sizes, max_pairs=16) == [6]
    assert ends(one_each, sizes, max_pairs=15) == [5, 6]
    assert ends(one_each, sizes, max_pairs=4) == [3, 4, 6]  # one record is always taken
    assert ends(one_each, sizes, max_pairs=1) == [1, 2, 3, 4, 5, 6]
    assert ends([0, 1, 2, 0, 0, 1], sizes, max_pairs=1) == [3, 4, 6]
    assert ends(one_each, sizes, max_bytes=2_500) == [2, 4, 6]


def test_a_rebuild_that_dies_between_portions_takes_the_batch_again(tmp_path, monkeypatch):
    lake = lake_with(tmp_path / "lake")
    publish(lake)
    snapshot = published(lake.lake)
    settings = replace(lake.settings, max_batch_pairs=2)
    rules = Rules(lake.policy, lake.key, settings)
    with shadow_lake(snapshot, rules) as shadow:
        bronze = Counter()
        append = DeltaRsWriter.append

        def failing(writer, table, data, txn):
            bronze[table.full_name] += 1
            if bronze[BRONZE_EVENTS.full_name] == 3 and table is PROFILES.hot:
                raise Broken
            return append(writer, table, data, txn)

        monkeypatch.setattr(DeltaRsWriter, "append", failing)
        with pytest.raises(Broken):
            shadow.catch_up(snapshot, rules)
        monkeypatch.undo()
        assert published(shadow.lake).batch_id > 1
        again = open_shadow(lake.lake, shadow.declared.id)
        assert again.upto == 0
        again.catch_up(snapshot, rules)
        counts = again.counts()
        assert counts == {name: lake.rows(BATCHES)[0][name] for name in counts}
        for spec in (EVENTS, QUARANTINE):
            assert again.table(spec, snapshot).num_rows == len(lake.rows(spec))


def test_the_offsets_of_record_advance_with_every_portion(tmp_path):
    """So a new checkpoint begins where the last published portion has ended."""
    lake = lake_with(tmp_path / "lake", max_batch_pairs=2)
    source = "native:kafka://host:9092/t"
    rows = lake.parsed(EVENTS_SENT, "native", "t.jsonl")
    texts = {"source": source, "origin": "t-0"}
    for name, text in texts.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array([text] * rows.num_rows))
    rows = rows.replace_schema_metadata(None)
    lake.processor.process(lambda: rows, 0)
    taken = 0
    batches = sorted(lake.rows(BATCHES), key=itemgetter("batch_id"))
    assert len(batches) > 3
    for row in batches:
        taken += row["record_count"]
        assert from_json(row["offsets"])[source].next == {0: taken}
    assert taken == len(EVENTS_SENT)
