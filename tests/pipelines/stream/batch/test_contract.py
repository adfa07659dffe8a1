"""The batch contract as code holds it: order, transactions, one intent, one publication, on a real lake."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conf.table_spec import TableSpec
from conf.tables import (
    BATCHES,
    BRONZE_EVENTS,
    EVENTS,
    IDENTIFIERS,
    IDENTITY_LOG,
    PROFILES,
    QUARANTINE,
    UPSERTED,
    WRITE_ORDER,
)
from pipelines.lake.lake import with_hot_parts
from pipelines.lake.lock import LakeLocked, lake_lock
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.stream.batch.contract import LINKED, OWNED, RECEIVED, WAVES, Attempt, ContractBroken
from pipelines.stream.batch.intent import INTENT, IntentConflict
from tests.direct_lake import DirectLake
from tests.pipelines.lake_rows import rows_of
from transforms.ingest.parsed_schema import PARSED_SCHEMA


def events(*names: str) -> list[dict]:
    at = "2026-03-01T10:00:00Z"
    return [{"event_id": n, "timestamp": at, "identifiers": {"user_id": f"user of {n}"}} for n in names]


on_a_lake = pytest.mark.thorough  # nineteen tables each


@pytest.fixture
def world(tmp_path: Path) -> DirectLake:
    return DirectLake(tmp_path / "lake")


class Recorder:
    """A writer that notes what it is told, and writes nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Txn]] = []

    def append(self, spec: TableSpec, rows, txn: Txn) -> int:
        self.calls.append((spec.full_name, txn))
        return 1


def attempt(writer: Recorder, pool: ThreadPoolExecutor) -> Attempt:
    versions = {spec.full_name: 0 for spec in with_hot_parts(WRITE_ORDER)}
    return Attempt(None, writer, Txn("s", 4), versions, pool, is_repeated=False)


IN_ORDER = [spec for wave in WAVES for spec in wave]


def test_the_waves_are_the_declared_write_order() -> None:
    written = [spec.full_name.removesuffix("_hot") for spec in (*IN_ORDER, BATCHES)]
    assert written == [spec.full_name for spec in WRITE_ORDER]
    assert all(spec.is_hot == (spec.full_name.endswith("_hot")) for spec in IN_ORDER)
    assert {spec.hot for spec in UPSERTED} == {spec for spec in IN_ORDER if spec.is_hot}


def test_tables_are_written_each_in_the_batchs_transaction_and_the_publish_row_last() -> None:
    writer = Recorder()
    with ThreadPoolExecutor(4) as pool:
        batch = attempt(writer, pool)
        batch.start({spec: rows_of(spec, {}) for spec in RECEIVED})
        batch.start({spec: rows_of(spec) for spec in LINKED})
        batch.start({IDENTITY_LOG: rows_of(IDENTITY_LOG)})
        batch.start({PROFILES.hot: rows_of(PROFILES.hot, {})})
        batch.publish(rows_of(BATCHES, {}))
    names = [name for name, _ in writer.calls]
    assert set(names[: len(RECEIVED)]) == {spec.full_name for spec in RECEIVED}
    assert names[len(RECEIVED) :] == ["gold.profiles_hot", "ops.batches"]  # without rows there is no commit
    assert {txn for _, txn in writer.calls} == {Txn("s", 4)}


def test_tables_are_begun_in_the_declared_order_however_they_are_handed_over() -> None:
    """Seen to fail where they were begun as they came."""
    writer = Recorder()
    with ThreadPoolExecutor(1) as pool:
        batch = attempt(writer, pool)
        for wave in WAVES:
            batch.start({spec: rows_of(spec, {}) for spec in reversed(wave)})
        batch.publish(rows_of(BATCHES, {}))
    assert [name for name, _ in writer.calls] == [spec.full_name for spec in (*IN_ORDER, BATCHES)]


class Slow(Recorder):
    """The log cannot be written; the table begun after it can, and takes its time."""

    def append(self, spec: TableSpec, rows, txn: Txn) -> int:
        if spec is IDENTITY_LOG:
            raise OSError("no room")
        time.sleep(0.2)
        return super().append(spec, rows, txn)


def test_what_went_wrong_is_said_once_nothing_is_being_written_any_more() -> None:
    """Seen to fail where the first failure was raised at once: the next attempt met writes of this one."""
    writer = Slow()
    with ThreadPoolExecutor(4) as pool:
        batch = attempt(writer, pool)
        for wave in (RECEIVED, LINKED, OWNED):
            batch.start({spec: rows_of(spec, {}) for spec in wave})
        with pytest.raises(OSError, match="no room"):
            batch.finish()
        written = {name for name, _ in writer.calls}
    assert written == {spec.full_name for spec in (*RECEIVED, *LINKED, *OWNED)} - {IDENTITY_LOG.full_name}


@pytest.mark.parametrize(
    "steps",
    [
        [{PROFILES.hot}],  # the second wave first
        [{BRONZE_EVENTS, PROFILES.hot}],  # both at once
        [{BRONZE_EVENTS}, {EVENTS}],  # late
        [{BRONZE_EVENTS}, {PROFILES}],  # the base instead of the hot part
        [{BRONZE_EVENTS}, {BATCHES}],
        [{BRONZE_EVENTS}, "publish"],  # a half
        [{BRONZE_EVENTS}, {IDENTIFIERS}, {IDENTITY_LOG}, "publish"],  # without the last wave
        [
            {BRONZE_EVENTS},
            {IDENTIFIERS},
            {IDENTITY_LOG},
            {PROFILES.hot},
            "publish",
            {IDENTITY_LOG},
        ],  # after it
        ["publish", "publish"],
    ],
)
def test_any_other_order_is_a_defect(steps: list) -> None:
    with ThreadPoolExecutor(2) as pool:
        batch = attempt(Recorder(), pool)
        with pytest.raises(ContractBroken):
            go(batch, steps)


def go(batch: Attempt, steps: list) -> None:
    for step in steps:
        if step == "publish":
            batch.publish(rows_of(BATCHES, {}))
        else:
            batch.start({spec: rows_of(spec, {}) for spec in step})


@on_a_lake
def test_a_batch_that_breaks_off_leaves_no_write_behind_that_the_next_one_could_meet(
    world: DirectLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where a batch was over as soon as a step of it had failed."""
    running: list[str] = []
    append = DeltaRsWriter.append

    def slow(writer: DeltaRsWriter, spec: TableSpec, *args) -> int:
        running.append(spec.full_name)
        time.sleep(0.2)
        version = append(writer, spec, *args)
        running.remove(spec.full_name)
        return version

    with monkeypatch.context() as patched:
        patched.setattr(DeltaRsWriter, "append", slow)
        patched.setattr("pipelines.stream.batch.steps.own_sessions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.feed(events("a"), name="1.jsonl")
        assert not running
    world.processor = world.new_processor()
    world.feed(events("a"), name="1.jsonl")
    assert published(world.lake).arrow(EVENTS)["event_id"].to_pylist() == ["a"]


def feed_nothing(world: DirectLake) -> None:
    world.processor.process(PARSED_SCHEMA.empty_table, world.batches)
    world.batches += 1


def break_off(
    world: DirectLake, monkeypatch: pytest.MonkeyPatch, records: list[dict], name: str = ""
) -> None:
    """A batch that writes every table and dies before it is published; then a new process."""
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.steps.publication_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.feed(records, name=name)
    world.processor = world.new_processor()


@on_a_lake
def test_upkeep_never_publishes_a_half_written_batch(
    world: DirectLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without the look at the intent: a stop before the retry published its rows as a compaction's, under
    the number that the batch has, and the retry then published a second row with that number."""
    world.feed(events("a"))
    break_off(world, monkeypatch, events("b"))
    world.processor.compact()
    snapshot = published(world.lake)
    assert (snapshot.batch_id, snapshot.arrow(EVENTS)["event_id"].to_pylist()) == (1, ["a"])
    world.feed(events("b"))
    world.processor.compact()
    snapshot = published(world.lake)
    assert sorted(snapshot.arrow(EVENTS)["event_id"].to_pylist()) == ["a", "b"]
    numbers = snapshot.arrow(BATCHES)["batch_id"].to_pylist()
    assert sorted(numbers) == [1, 2, 3]


@on_a_lake
def test_a_batch_without_records_is_published_and_takes_nobodys_place(world: DirectLake) -> None:
    world.feed(events("a"))
    feed_nothing(world)
    world.feed(events("b"))
    rows = sorted(published(world.lake).arrow(BATCHES).to_pylist(), key=lambda r: r["batch_id"])
    assert [(r["kind"], r["stream_batch_id"], r["received_count"]) for r in rows] == [
        ("batch", 0, 1),
        ("empty", 1, 0),
        ("batch", 2, 1),
    ]
    again = world.new_processor()
    again.process(lambda: world.parsed(events("c"), "native", "x.jsonl"), 1)  # its number is taken
    assert published(world.lake).batch_id == 3


@on_a_lake
def test_a_half_written_batch_is_not_forgotten_because_its_file_was_emptied_or_changed(
    world: DirectLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail when a batch without records returned at once: the rows of the first attempt stayed, and became
    visible with the next batch, whose number they have."""
    world.feed(events("a"))
    break_off(world, monkeypatch, events("b"), "1.jsonl")
    with pytest.raises(IntentConflict, match="its input has changed"):
        feed_nothing(world)
    with pytest.raises(IntentConflict, match="its input has changed"):
        world.feed(events("b", "c"), name="1.jsonl")
    world.feed(events("b"), name="1.jsonl")
    world.feed(events("c"))
    assert sorted(published(world.lake).arrow(EVENTS)["event_id"].to_pylist()) == ["a", "b", "c"]


@on_a_lake
def test_a_half_written_batch_is_not_completed_on_another_published_state(
    world: DirectLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.feed(events("a"))
    break_off(world, monkeypatch, events("b"), "1.jsonl")
    path = world.path / INTENT
    intent = json.loads(path.read_text())
    for change in ({"batch_id": 7}, {"versions": {**intent["versions"], "silver.events": 9}}):
        path.write_text(json.dumps(intent | change))
        with pytest.raises(IntentConflict, match="something else has been published"):
            world.feed(events("b"), name="1.jsonl")


@on_a_lake
def test_a_batch_is_not_published_once_the_lock_is_gone(world: DirectLake) -> None:
    with lake_lock(world.path) as require_held:
        world.processor = world.new_processor(require_lock=require_held)
        world.feed(events("a"))
        (world.path / "_stitchlake/lock").unlink()
        with pytest.raises(LakeLocked, match="was removed"):
            world.feed(events("b"))
    assert published(world.lake).batch_id == 1
    assert published(world.lake).arrow(QUARANTINE).num_rows == 0
