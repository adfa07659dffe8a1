"""Which checkpoint may be continued: decided from its files without Spark, held against a model of what follows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest

from pipelines.stream.checkpoint import Entries, OfRecord, fault, open_checkpoint, read_entries

INPUTS = tuple("abcdef")


@dataclass(frozen=True)
class Moment:
    """A checkpoint and a lake at one moment of a stream's life. An entry is (hash, what the batch reads)."""

    offsets: tuple[tuple[str, str], ...] = ()
    commits: frozenset[int] = frozenset()
    published: tuple[tuple[str, str], ...] = ()
    begun: tuple[int, str] | None = None

    def record(self) -> OfRecord:
        last = len(self.published) - 1
        return OfRecord(
            last, self.published[-1][0] if self.published else None, is_begun=self.begun is not None
        )

    def entries(self) -> Entries | None:
        if not self.offsets:
            return None
        hashes = {n: h for n, (h, _) in enumerate(self.offsets)}
        return Entries(len(self.offsets) - 1, max(self.commits, default=-1), hashes)


def life(start: Moment, batches: str, timeline: str) -> list[Moment]:
    """Every moment of a stream that reads one input per batch: planned, begun, published, committed."""
    moments = [start]
    for content in batches:
        now, number = moments[-1], len(moments[-1].published)
        entry = (f"{timeline}{number}", content)
        moments.append(now := replace(now, offsets=(*now.offsets, entry)))
        moments.append(now := replace(now, begun=(number, content)))
        moments.append(now := replace(now, published=(*now.published, entry), begun=None))
        moments.append(replace(now, commits=now.commits | {number}))
    return moments


FIRST = life(Moment(), "abcd", "first ")
# Lake and checkpoint were put back as they were after two batches, and lived on with the inputs differently cut.
SECOND = life(FIRST[8], "dce", "second ")[1:]
MOMENTS = FIRST + SECOND


def exactly_once(checkpoint: Moment, lake: Moment) -> bool:
    """Whether a stream that goes on with this checkpoint and this lake ends with every input once, or stops loudly."""
    batches = []
    last = len(checkpoint.offsets) - 1
    if last >= 0 and max(checkpoint.commits, default=-1) < last:
        batches.append((last, checkpoint.offsets[last][1]))
    seen = {content for _, content in checkpoint.offsets}
    rest = [i for i in INPUTS if i not in seen]
    batches += [(last + 1 + n, content) for n, content in enumerate(rest)]
    read, done, begun = [content for _, content in lake.published], len(lake.published) - 1, lake.begun
    for number, content in batches:
        if number <= done:
            continue  # its number is taken: what it reads is skipped without a word
        if begun is not None and begun[0] == number and begun[1] != content:
            return True  # IntentConflict: loud
        if begun is not None and begun[0] != number:
            return False  # rows of a batch that nobody completes
        read.append(content)
        done, begun = number, None
    return Counter(read) == Counter(INPUTS)


def test_every_checkpoint_of_the_lakes_own_moment_is_continued() -> None:
    for moment in MOMENTS:
        assert fault(moment.entries(), moment.record()) is None, moment
        assert exactly_once(moment, moment), moment


def test_whatever_checkpoint_meets_whatever_lake_none_is_continued_that_would_lose_or_repeat() -> None:
    """All pairs of two timelines; and of one where no hash was kept, by numbers alone. Without the hash, or without any
    one of the comparisons of numbers, inputs are lost or read twice: each was seen to fail here."""
    refused = 0
    for checkpoint, lake in product(MOMENTS, MOMENTS):
        problem = fault(checkpoint.entries(), lake.record())
        refused += problem is not None
        assert problem is not None or exactly_once(checkpoint, lake), (checkpoint, lake)
    assert refused > len(MOMENTS) ** 2 / 2
    for checkpoint, lake in product(FIRST, FIRST):
        problem = fault(checkpoint.entries(), replace(lake.record(), offset_entry=None))
        assert problem is not None or exactly_once(checkpoint, lake), (checkpoint, lake)


def test_no_entry_may_be_missing_from_the_end() -> None:
    for moment in FIRST:
        for offsets, commits in product(range(4), range(4)):
            cut = replace(
                moment,
                offsets=moment.offsets[: max(0, len(moment.offsets) - offsets)],
                commits=frozenset(sorted(moment.commits)[: max(0, len(moment.commits) - commits)]),
            )
            if fault(cut.entries(), moment.record()) is None:
                assert exactly_once(cut, moment), (cut, moment)


@pytest.mark.parametrize(
    ("found", "record", "said"),
    [
        (None, OfRecord(), None),
        (None, OfRecord(3, "h"), "is lost"),
        (None, OfRecord(is_begun=True), "is lost"),
        (Entries(3, 3, {3: "h"}), OfRecord(3, "h"), None),
        (Entries(3, 2, {3: "h"}), OfRecord(3, "h"), None),
        (Entries(4, 3, {3: "h", 4: "i"}), OfRecord(3, "h"), None),
        (Entries(4, 3, {3: "h", 4: "i"}), OfRecord(3, "h", is_begun=True), None),
        (Entries(3, 3, {3: "h"}), OfRecord(3, "h", is_begun=True), "is older than the lake"),
        (Entries(2, 2, {2: "g"}), OfRecord(3, "h"), "is older than the lake"),
        (Entries(4, 4, {3: "h", 4: "i"}), OfRecord(3, "h"), "is newer than the lake"),
        (Entries(5, 3, {4: "i", 5: "j"}), OfRecord(3, "h"), "is newer than the lake"),
        (Entries(4, 2, {3: "h", 4: "i"}), OfRecord(3, "h"), "misses commit entries"),
        (Entries(3, 3, {3: "x"}), OfRecord(3, "h"), "is another lake's, or of another time"),
        (Entries(3, 3, {3: "x"}), OfRecord(3, None), None),  # published by a program that kept no hash
        (Entries(3, 3, {3: "h"}, is_damaged=True), OfRecord(3, "h"), "is damaged"),
        (Entries(3, 3, {3: "h"}), OfRecord(3, "h", is_superseded=True), "is not the one that the lake"),
    ],
)
def test_the_table_in_the_docs(found: Entries | None, record: OfRecord, said: str | None) -> None:
    problem = fault(found, record)
    assert problem == said or (said and problem and problem.startswith(said))


CONF = '{"batchWatermarkMs":0,"batchTimestampMs":1}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Spark's folder of a file source and a topic after two batches and a planned one, with what else lies about."""
    folder = tmp_path / "checkpoint"
    for part in ("offsets", "commits", "sources/0"):
        (folder / part).mkdir(parents=True)
    (folder / "metadata").write_text('{"id":"ef24dfd6"}')
    for n in range(3):
        ends = json.dumps({"logOffset": n}) + "\n" + json.dumps({"events": {"0": n}})
        (folder / "offsets" / str(n)).write_text(f"v1\n{CONF}\n{ends}")
        (folder / "sources/0" / (f"{n}.compact" if n == 1 else str(n))).write_text('v1\n{"path":"file:///x"}')
    for n in range(2):
        (folder / "commits" / str(n)).write_text('v1\n{"nextBatchWatermarkMs":0}')
    for noise in (".2.crc", ".3.9f2c.tmp", "_$folder$"):
        (folder / "offsets" / noise).write_text("noise")
    return folder


def test_entries_are_read_from_the_files(folder: Path) -> None:
    found = read_entries(folder, 2)
    assert found is not None
    assert (found.last_offset, found.last_commit, found.is_damaged) == (2, 1, False)
    assert set(found.hashes) == {1, 2}
    (folder / "offsets/2").write_text((folder / "offsets/2").read_text().replace('Ms":1}', 'Ms":2}'))
    assert read_entries(folder, 2).hashes[2] != found.hashes[2]


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_entries(tmp_path / "none", 1) is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("offsets/2", ""),
        ("offsets/2", f"v1\n{CONF}\n"),
        ("offsets/1", "v1\n{"),
        ("offsets/2", f"v2\n{CONF}\n-\n-"),
        ("commits/1", ""),
        ("metadata", "{}"),
        ("metadata", None),
        ("sources/0/2", None),
        ("sources/0", None),
    ],
)
def test_what_cannot_be_read_is_damaged(folder: Path, file: str, content: str | None) -> None:
    path = folder / file
    if content is not None:
        path.write_text(content)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    found = read_entries(folder, 2)
    assert found is not None
    assert found.is_damaged


def test_a_changed_set_of_sources_is_no_trouble_and_a_damaged_pointer_is_a_new_checkpoint(
    tmp_path: Path,
) -> None:
    first = open_checkpoint(tmp_path, ("a",))
    assert (first.is_new, first.trouble) == (True, None)
    other = open_checkpoint(tmp_path, ("a", "b"))
    assert (other.is_new, other.trouble) == (True, None)
    (tmp_path / "_stitchlake/stream.json").write_text("{")
    assert open_checkpoint(tmp_path, ("a", "b")).stream not in (first.stream, other.stream)
