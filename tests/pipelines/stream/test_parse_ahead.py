"""Rows that were parsed ahead are the batch's rows, whatever lands meanwhile."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from conf.policy import load_policy
from conf.source_mapping import load_mapping
from pipelines.stream import file_log
from pipelines.stream.file_log import last_entry, listed, listed_for
from pipelines.stream.parse_ahead import File, ParseAhead
from pipelines.stream.source import Source
from pipelines.stream.sources import read_files, read_stream
from tests.direct_lake import KEY
from transforms.ingest.parse import RecordParser
from transforms.ingest.records import parsed_for_driver

BEGIN = 1_700_000_000_000
PLACE = ("source", "origin", "origin_ordinal")


class Stream:
    """A real query whose every batch is parsed both ways. `at_batch`: what happens beside a batch, by its number."""

    def __init__(self, spark, folder: Path, sources=1, **settings) -> None:
        self.spark, self.checkpoint = spark, folder / "checkpoint"
        self.sources = [
            Source("native", str(folder / f"landing-{n}"), "file", f"native:{n}") for n in range(sources)
        ]
        for source in self.sources:
            Path(source.location).mkdir()
        self.parser = RecordParser({"native": load_mapping("native")}, load_policy(), KEY)
        self.parsed: list[tuple[str, int]] = []  # of every frame: parsed ahead or in its batch, and its rows
        self.batches: list[list[str]] = []  # files of every batch
        self.at_batch: dict[int, object] = {}
        self.settings = {"max_files": 2, "max_bytes": 2**20} | settings
        self.count = 0
        self.read_before: set[str] = set()
        self.landed: list[list[str]] = []  # the files that each frame was said to have

    def land(self, *names: str, source: int = 0, at: int | None = None) -> None:
        """Files in this order, a second between them, or all `at` one moment."""
        for name in names:
            path = Path(self.sources[source].location, name)
            path.parent.mkdir(exist_ok=True)
            event = {
                "event_id": f"{source}/{name}",
                "event_type": "page_view",
                "timestamp": "2024-05-01T10:00:00Z",
                "identifiers": {"cookie_id": name},
            }
            path.write_text(json.dumps(event) + "\n", encoding="utf-8")
            self.count += 1
            modified = (BEGIN + self.count * 1000 if at is None else at) * 1_000_000
            os.utime(path, ns=(modified, modified))

    def run(self) -> None:
        parse = lambda frame: parsed_for_driver(frame, self.parser)  # noqa: E731

        def parse_and_count(frame, landed):
            self.landed.append(sorted(file.name for file in landed))
            rows = parse(frame)
            is_ahead = threading.current_thread().name.startswith("parse-ahead")
            self.parsed.append(("ahead" if is_ahead else "batch", rows.num_rows))
            return rows

        ahead = ParseAhead(
            self.sources,
            self.checkpoint,
            self.settings["max_files"],
            self.settings["max_bytes"],
            partial(read_files, self.spark),
            parse_and_count,
            is_new=lambda landed: not any(file.name in self.read_before for file in landed),
        )

        def batch(frame, number: int) -> None:
            rows = ahead.rows(frame, number).sort_by([(c, "ascending") for c in PLACE])
            ahead._running and ahead._running.exception()  # so that what is counted is certain
            assert rows.equals(parse(frame).sort_by([(c, "ascending") for c in PLACE]))
            self.batches.append(rows["origin"].to_pylist())
            if number in self.at_batch:
                self.at_batch[number]()

        query = (
            read_stream(self.spark, self.sources, self.settings["max_files"])
            .writeStream.option("checkpointLocation", str(self.checkpoint))
            .foreachBatch(batch)
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        ahead.close()


def test_a_backlogs_batches_are_parsed_while_the_one_before_is_at_work(spark, tmp_path):
    """Each frame once: the first batch's when it comes, every other one before."""
    stream = Stream(spark, tmp_path)
    stream.land(
        "a.jsonl", "b [1] {x}.jsonl", "c d%20e.jsonl", "sub/d.jsonl", "e.jsonl.gz.jsonl", "f.jsonl", "g.jsonl"
    )
    stream.run()
    assert [len(files) for files in stream.batches] == [2, 2, 2, 1]
    assert stream.parsed == [("batch", 2), ("ahead", 2), ("ahead", 2), ("ahead", 1)]
    assert len({name for files in stream.batches for name in files}) == 7
    assert sorted(stream.landed) == sorted(stream.batches)


@pytest.mark.slow  # a query of its own
def test_files_of_names_that_have_been_read_wait_for_their_batch(spark, tmp_path):
    """What is taken of them depends on what the batch before has published."""
    stream = Stream(spark, tmp_path)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl")
    stream.read_before = {"d.jsonl"}
    stream.run()
    assert stream.parsed == [("batch", 2)] * 2


def test_a_stream_that_goes_on_knows_what_it_has_read(spark, tmp_path):
    stream = Stream(spark, tmp_path)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl")
    stream.run()
    stream.parsed.clear()
    stream.land("d.jsonl", "e.jsonl", "f.jsonl", "g.jsonl", "h.jsonl")
    stream.run()
    assert stream.batches[2:] == [["d.jsonl", "e.jsonl"], ["f.jsonl", "g.jsonl"], ["h.jsonl"]]
    assert stream.parsed == [("batch", 2), ("ahead", 2), ("ahead", 1)]


def test_nothing_is_parsed_ahead_of_a_stream_that_keeps_up(spark, tmp_path):
    stream = Stream(spark, tmp_path, max_files=8)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl")
    stream.run()
    assert stream.parsed == [("batch", 3)]


@pytest.mark.slow  # a query of its own
def test_files_of_one_moment_come_in_the_order_in_which_the_folder_lists_them(spark, tmp_path):
    stream = Stream(spark, tmp_path, max_files=3)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl")
    stream.land(*(f"tie-{n}.jsonl" for n in range(6)), at=BEGIN + 60_000)
    stream.run()
    assert stream.parsed == [("batch", 3), ("ahead", 3), ("ahead", 3), ("ahead", 1)]


@pytest.mark.slow  # a query of its own
def test_a_file_that_comes_in_between_is_not_lost(spark, tmp_path):
    """It is older than what waits, so it is read first, once Spark looks again."""
    stream = Stream(spark, tmp_path)
    stream.land("a.jsonl", "b.jsonl", "d.jsonl", "e.jsonl", "f.jsonl")
    stream.at_batch[0] = lambda: stream.land("c.jsonl", at=BEGIN + 2_500)
    stream.run()
    stream.run()
    assert sorted(name for files in stream.batches for name in files) == [f"{c}.jsonl" for c in "abcdef"]


def test_where_a_guess_was_wrong_the_batch_is_parsed_as_it_is_and_after_two_there_is_none(
    spark, tmp_path, monkeypatch
):
    stream = Stream(spark, tmp_path)
    stream.land(*(f"{n}.jsonl" for n in range(10)))
    last = Path(stream.sources[0].location, "9.jsonl")
    guess = File(last.stat().st_mtime_ns // 1_000_000, str(last))
    monkeypatch.setattr(ParseAhead, "_next", lambda self, source: [guess])
    stream.run()
    assert [len(files) for files in stream.batches] == [2] * 5
    assert [how for how, _ in stream.parsed].count("ahead") == 2
    assert [rows for how, rows in stream.parsed if how == "batch"] == [2] * 5


def test_sources_are_told_apart_and_one_that_keeps_up_is_parsed_with_its_batch(spark, tmp_path):
    stream = Stream(spark, tmp_path, sources=2)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl", "e.jsonl")
    stream.land("a.jsonl", source=1)
    stream.at_batch[0] = lambda: stream.land("late.jsonl", source=1)
    stream.run()
    stream.run()
    assert sorted(map(len, stream.batches)) == [1, 1, 2, 3]
    assert sum(map(len, stream.batches)) == 7


@pytest.mark.slow  # a query of its own
def test_files_that_are_too_large_together_are_not_parsed_ahead(spark, tmp_path):
    stream = Stream(spark, tmp_path, max_bytes=100)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl")
    stream.run()
    assert stream.parsed == [("batch", 2)] * 2


def test_what_cannot_be_parsed_ahead_is_the_batchs_own_trouble(spark, tmp_path, monkeypatch):
    stream = Stream(spark, tmp_path)
    stream.land("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl")
    monkeypatch.setattr(ParseAhead, "_next", lambda *_: 1 / 0)
    stream.run()
    assert stream.parsed == [("batch", 2)] * 2


class TestSparksLists:
    """By files as Spark writes them."""

    @pytest.fixture
    def checkpoint(self, tmp_path) -> Path:
        log = tmp_path / "sources" / "0"
        log.mkdir(parents=True)
        (tmp_path / "offsets").mkdir()
        line = '{{"path":"file:///in/{}","timestamp":{},"batchId":{}}}'
        (log / "1.compact").write_text("\n".join(["v1", line.format("a%20b", 5, 0), line.format("c", 6, 1)]))
        (log / "2").write_text("\n".join(["v1", line.format("d", 7, 2), "not a list"]))
        for batch, end in ((0, "-"), (1, '{"logOffset":1}'), (2, '{"logOffset":2}')):
            (tmp_path / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{end}")
        return tmp_path

    def test_a_batch_has_every_list_since_the_batch_before(self, checkpoint):
        assert listed_for(checkpoint, 0, 0) == []
        assert [(f.path.name, f.modified_ms) for f in listed_for(checkpoint, 0, 1)] == [("a b", 5), ("c", 6)]
        assert [f.path.name for f in listed_for(checkpoint, 0, 2)] == ["d"]
        assert {f.path.name for f in listed(checkpoint, 0)} == {"a b", "c", "d"}

    def test_of_a_joined_list_only_the_end_is_read(self, checkpoint, monkeypatch):
        log = checkpoint / "sources" / "0" / "1.compact"
        old = '{"path":"file:///in/old%d","timestamp":1,"batchId":0}'
        version, *lines = log.read_text().splitlines()
        log.write_text("\n".join([version, *(old % n for n in range(500)), lines[-1]]))
        (checkpoint / "offsets" / "0").write_text('v1\n{}\n{"logOffset":0}')
        monkeypatch.setattr(file_log, "_BLOCK", 100)
        lines = file_log._backwards(log)
        monkeypatch.setattr(file_log, "_backwards", lambda _: lines)
        assert [f.path.name for f in listed_for(checkpoint, 0, 1)] == ["c"]
        assert sum(1 for _ in lines) == 499  # a line more than the batch has was read, and no other

    def test_a_batch_that_was_not_planned_has_none(self, checkpoint):
        assert last_entry(checkpoint, 0, 9) == last_entry(checkpoint, 7, 0) == -1
        assert listed_for(checkpoint, 0, 9) == []
