"""The real thing: records read again by Spark's executors, and a lake swapped in under a running query."""

from __future__ import annotations

import threading
import time

import pytest

from conf.tables import BATCHES
from pipelines.apps.run_stream import run_stream
from pipelines.lake.hashing_key import key_path
from pipelines.lake.snapshot import published
from pipelines.operations.rebuild import read_again
from pipelines.operations.rebuild import rebuild as rebuilding
from pipelines.operations.rebuild.backfill import rebuild
from pipelines.operations.rebuild.read_again import Reader, portions
from pipelines.operations.rebuild.reconcile import reconcile
from pipelines.stream.source import Source
from tests.direct_lake import KEY
from tests.pipelines.operations.rebuild.test_backfill import FIXED, cut, from_the_start, records
from transforms.ingest.parse import RecordParser


@pytest.mark.slow  # half a minute of a running query; the swap itself is in test_rebuild.py
def test_a_running_query_is_swapped_under_and_goes_on(make_lake, tmp_path, monkeypatch):
    """A mapping was fixed, the stream started anew with it, and what it had read before is read again beside it."""
    batches = [[r for r in b if "id" in r] for b in cut(records(3), 4)]
    world = make_lake()
    key_path(world.path).write_bytes(KEY)  # so that node ids compare
    mapping = world.folder / "mapping.yaml"
    mapping.write_text(FIXED.replace("[at, when]", "at"))
    world.drop("0.jsonl", batches[0])
    world.once(str(mapping))
    mapping.write_text(FIXED)

    stop, started = threading.Event(), threading.Event()
    source = Source(str(mapping), str(world.landing), "file", f"{mapping}:test")
    failed: list[BaseException] = []

    def stream() -> None:
        try:
            run_stream(
                world.spark,
                world.path,
                [source],
                world.policy,
                world.settings,
                once=False,
                stop=stop,
                on_published=lambda report: started.set(),
            )
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        world.drop("1.jsonl", batches[1])
        assert started.wait(300)
        # Small as it is, this lake is read again by executors.
        monkeypatch.setattr(rebuilding, "DRIVER_READS_UP_TO", 0)
        monkeypatch.setattr(read_again, "SPARK_READS_FROM", 0)
        done = rebuild(
            world.path,
            world.policy,
            world.settings,
            spark=lambda: world.spark,
            confirm=lambda plan: world.drop("2.jsonl", batches[2]) is None,
        )
        world.drop("3.jsonl", batches[3])
        last = published(world.lake).batch_id
        until = time.monotonic() + 300
        while published(world.lake).batch_id == last and time.monotonic() < until and not failed:
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join()
    assert not failed
    assert done.pause_seconds > 0
    assert [b["kind"] for b in world.rows(BATCHES)].count("rebuild") == 1
    world.drop("4.jsonl", [])
    world.once(str(mapping))
    assert len(world.rows(BATCHES)) > 4

    fresh = from_the_start(tmp_path / "fresh", batches)
    assert named_alike(world.contents(), mapping) == named_alike(fresh.contents(), fresh.file)
    assert reconcile(world.lake, world.policy, world.settings, lambda: world.spark).is_equal

    # What executors read is what this process reads.
    snapshot = published(world.lake)
    parser = RecordParser({str(mapping): fresh.parser.mappings[str(fresh.file)]}, world.policy, KEY)
    (whole,) = portions(snapshot, 0)
    read = [Reader(snapshot, 0, parser, None, spark).read(whole) for spark in (world.spark, None)]
    assert read[0].num_rows == sum(map(len, batches))
    assert sorted(map(repr, read[0].to_pylist())) == sorted(map(repr, read[1].to_pylist()))


def named_alike(contents: dict, mapping: object) -> dict:
    """The name of a mapping is in the tables, and these two have different folders."""
    return {table: [line.replace(str(mapping), "M") for line in rows] for table, rows in contents.items()}
