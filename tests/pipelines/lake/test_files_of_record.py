"""A file is its name, its size and its content: what is read, left out and told of one that comes again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pytest

from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, FILES
from pipelines.apps.cli.status import as_text, status
from pipelines.lake.files_of_record import FilesOfRecord
from pipelines.lake.snapshot import published
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.read_before import FileNews, Landed
from pipelines.stream.slices import by_path, land
from tests.direct_lake import DirectLake
from transforms.ingest.framing.frames import origin_of
from transforms.ingest.records import parsed_here

SOURCE = "native:here"


def event(name: str, event_id: str | None = None) -> dict:
    found = {"timestamp": "2026-03-01T18:00:00Z", "event_type": name, "identifiers": {"cookie_id": name}}
    return found if event_id is None else {**found, "event_id": event_id}


class FileLake(DirectLake):
    """A lake and its landing folder; `read` is one batch of the files that are named, as a stream reads them."""

    def __init__(self, folder: Path) -> None:
        self.landing = folder / "landing"
        self.landing.mkdir(exist_ok=True)
        super().__init__(folder / "lake")
        self.said: list[str] = []

    def setup(self) -> StreamSetup:
        return replace(super().setup(), on_files=FileNews(lambda line: self.said.append(line)).of_batch)

    def write(self, name: str, records: Sequence[object] | bytes) -> None:
        if not isinstance(records, bytes):
            records = b"".join(json.dumps(r).encode() + b"\n" for r in records)
        (self.landing / name).parent.mkdir(parents=True, exist_ok=True)
        (self.landing / name).write_bytes(records)

    def read(self, *names: str) -> None:
        def parsed() -> pa.Table:
            landed = [Landed(SOURCE, name, self.landing / name) for name in names]
            frame = pa.table(
                {
                    "source": [SOURCE] * len(names),
                    "mapping": ["native"] * len(names),
                    "feed": ["events"] * len(names),
                    "path": list(names),
                    "content": [file.path.read_bytes() for file in landed],
                    "transport_at": pa.array([0] * len(names), pa.timestamp("us", "UTC")),
                }
            )
            return parsed_here(frame.to_batches(), self.parser, self.processor.readings(landed))

        self.processor.process(parsed, self.batches)
        self.batches += 1

    def land(self, name: str, records: Sequence[object] | bytes) -> None:
        self.write(name, records)
        self.read(name)

    @property
    def types(self) -> list[str]:
        return sorted(r["event_type"] for r in self.rows(EVENTS))

    def files(self) -> list[tuple]:
        return [
            (r["path"], r["outcome"], r["record_count"], r["known_record_count"])
            for r in sorted(self.rows(FILES), key=lambda r: r["batch_id"])
        ]


@pytest.fixture
def lake(tmp_path: Path) -> FileLake:
    return FileLake(tmp_path)


def test_a_second_file_of_the_same_name_with_other_content_is_read(lake: FileLake) -> None:
    """Seen to fail as it was: known by its name, and dropped without a word."""
    lake.land("today.jsonl", [event("a", "1"), event("b", "2")])
    lake.processor = lake.new_processor()  # as under a new checkpoint, by another process
    lake.land("today.jsonl", [event("b", "2"), event("c", "3"), event("d")])
    assert lake.types == ["a", "b", "c", "d"]
    assert lake.files() == [("today.jsonl", "read", 2, 0), ("today.jsonl", "changed", 2, 1)]
    assert lake.said == [
        f"{SOURCE}: 1 files have other content than what was read under their name; what is new in them is read, "
        "such as today.jsonl (2 records are new, 1 had been read)"
    ]


def test_a_file_that_is_the_same_is_left_out_and_said(lake: FileLake) -> None:
    lake.land("a.jsonl", [event("a")])
    lake.restart()
    lake.land("a.jsonl", [event("a")])
    assert (lake.types, len(lake.rows(BRONZE_EVENTS))) == (["a"], 1)
    assert lake.files()[1] == ("a.jsonl", "known", 0, 0)
    row = published(lake.lake).row
    assert (row["kind"], dict(row["metrics"])) == ("empty", {"file_known_count": 1})
    assert "are not read again, such as a.jsonl" in lake.said[0]


def test_status_counts_files_by_what_became_of_them_and_names_those_that_are_not_read(lake: FileLake) -> None:
    for records in ([event("a")], [event("a")], [event("b")]):
        lake.land("a.jsonl", records)
    (lake.landing / "events").touch()
    (lake.path / "_stitchlake/stream.json").write_text(
        json.dumps({"stream": "s", "sources": ["control", f"native:{lake.landing}"]})
    )
    found = status(lake.lake, datetime.now(UTC))
    assert found["files"]["met"] == {"changed": 1, "known": 1, "read": 1}
    ((why, facts),) = found["files"]["not_read"][f"native:{lake.landing}"].items()
    assert (facts, why[:26]) == ({"file_count": 1, "example": "events"}, "no extension that is known")
    said = as_text(found)
    assert "1 changed, 1 known, 1 read; ops.files has each" in said
    assert "1 files are not read: no extension that is known" in said


@pytest.mark.parametrize(
    ("then", "wanted"),
    [
        ("ab" + "c", "abc"),  # appended
        ("c" + "ab", "abc"),  # put in front
        ("b", "ab"),  # cut
        ("ba", "ab"),  # in another order
        ("xb", "abx"),  # one changed
        ("cd", "abcd"),  # another day's
        ("abb", "abb"),  # one more like it is one more event
        ("", "ab"),
    ],
)
def test_records_without_an_id_are_neither_lost_nor_counted_twice_when_their_file_changes(
    lake: FileLake, then: str, wanted: str
) -> None:
    """Seen to fail where they were known by their place: the second day's were conflicts with the first one's."""
    lake.land("log.jsonl", [event(name) for name in "ab"])
    lake.land("log.jsonl", [event(name) for name in then])
    assert lake.types == sorted(wanted)
    lake.land("log.jsonl", [event(name) for name in "ab"])  # and back
    assert lake.types == sorted(wanted)
    places = [(r["origin"], r["origin_ordinal"]) for r in lake.rows(BRONZE_EVENTS)]
    assert len(set(places)) == len(places)
    assert sum(r["quarantined_count"] + r["duplicate_count"] for r in lake.rows(BATCHES)) == 0


def test_a_file_that_is_damaged_and_lands_again_whole_gives_the_rest(lake: FileLake) -> None:
    whole = b"[" + b",".join(json.dumps(event(name)).encode() for name in "abc") + b"]"
    lake.land("a.json", whole[: whole.index(b'"c"') - 20])
    lake.land("a.json", whole)
    assert lake.types == ["a", "b", "c"]


def test_what_an_older_program_read_is_known_by_its_records(lake: FileLake) -> None:
    """Of such a file no digest is on record: it is read again, and nothing of it is new."""
    lake.land("old.jsonl", [event("a"), event("b")])
    record = FilesOfRecord(lake.lake, 1)
    ((read,),) = record.reads_of([(SOURCE, "old.jsonl")]).values()
    record.reads_of = lambda origins: {(SOURCE, "old.jsonl"): [read._replace(size=None, digest=None)]}
    lake.processor.last.files = record
    lake.land("old.jsonl", [event("a"), event("b"), event("c")])
    assert (lake.types, lake.files()[1]) == (["a", "b", "c"], ("old.jsonl", "changed", 1, 2))


def test_a_batch_that_is_repeated_takes_the_same_records_of_a_changed_file(
    lake: FileLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.land("a.jsonl", [event("a"), event("b")])
    lake.write("a.jsonl", [event("b"), event("c")])
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.steps.publication_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lake.read("a.jsonl")
    lake.restart()
    lake.read("a.jsonl")
    assert lake.types == ["a", "b", "c"]
    assert lake.files() == [("a.jsonl", "read", 2, 0), ("a.jsonl", "changed", 1, 1)]


class TestSlices:
    """`resolve --batch-size` into a lake."""

    def resolve(self, lake: FileLake, input_: Path, size: int, upto: int | None = None) -> None:
        def read_before(name: str):
            snapshot = published(lake.lake)
            last = snapshot.batch_id if snapshot else 0
            return FilesOfRecord(lake.lake, last).reads_of([(SOURCE, name)]).get((SOURCE, name), ())

        shutil.rmtree(lake.landing)
        land([input_], lake.landing, size, by_path, read_before)
        files = sorted((f for f in lake.landing.rglob("*") if f.is_file()), key=lambda f: f.stat().st_mtime)
        for file in files[:upto]:
            lake.read(file.relative_to(lake.landing).as_posix())

    @pytest.fixture
    def input_(self, lake: FileLake, tmp_path: Path) -> Path:
        lake.land("other.jsonl", [event("z")])
        path = tmp_path / "today.jsonl"
        path.write_text("".join(json.dumps(event(name)) + "\n" for name in "aabcd"))
        return path

    def test_the_rest_of_a_file_whose_run_was_killed_is_read(self, lake: FileLake, input_: Path) -> None:
        """Seen to fail as it was: with its first slice the whole file was known."""
        self.resolve(lake, input_, 2, upto=1)
        assert lake.types == list("aaz")
        self.resolve(lake, input_, 2)
        assert lake.types == list("aabcdz")
        assert [f[1] for f in lake.files()] == ["read", "read", "known", "read", "read"]

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_a_file_that_is_cut_otherwise_is_the_same_file(
        self, lake: FileLake, input_: Path, size: int
    ) -> None:
        self.resolve(lake, input_, 2, upto=2)
        self.resolve(lake, input_, size)
        assert lake.types == list("aabcdz")
        self.resolve(lake, input_, 2)
        assert lake.types == list("aabcdz")
        assert {r["origin"] for r in lake.rows(BRONZE_EVENTS)} == {"other.jsonl", by_path(0, input_)}

    def test_other_content_under_the_name_is_read(self, lake: FileLake, input_: Path) -> None:
        self.resolve(lake, input_, 2)
        input_.write_text("".join(json.dumps(event(name)) + "\n" for name in "xaby"))
        self.resolve(lake, input_, 2)
        assert lake.types == list("aabcdxyz")

    def test_which_records_are_new_is_seen_in_the_whole_file(self, lake: FileLake, input_: Path) -> None:
        """Seen to fail where slices were compared one by one: each of them has a `b` that is there already."""
        input_.write_text("".join(json.dumps(event(name)) + "\n" for name in "ab"))
        self.resolve(lake, input_, 1)
        input_.write_text("".join(json.dumps(event(name)) + "\n" for name in "bb"))
        self.resolve(lake, input_, 1)
        assert lake.types == list("abbz")


def numbers_read(lake: FileLake) -> list[int]:
    return sorted(r["origin_ordinal"] for r in lake.rows(BRONZE_EVENTS))


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_slices_of_one_file_are_read_whole_in_any_order_of_arrival(lake: FileLake, order) -> None:
    """Two records have the same bytes and no id, so they are two events. Seen to fail where only the highest number
    read was looked at: a slice from further ahead in the file counted as a changed file, lost one of the two, and its
    records had other numbers than in order."""
    slices = [[event("a"), event("same")], [event("b"), event("c")], [event("same"), event("d")]]
    for at in order:
        lake.land(f"f.jsonl.slice{2 * at:09d}.jsonl", slices[at])
        lake.restart()
    assert numbers_read(lake) == list(range(6))
    assert lake.types == ["a", "b", "c", "d", "same", "same"]
    assert {outcome for _, outcome, _, _ in lake.files()} == {"read"}


def test_a_slice_that_reaches_into_records_that_were_read_gives_only_what_is_new(lake: FileLake) -> None:
    """From its start it lies ahead of the slice that was read, and its end is inside of it."""
    lake.land("f.jsonl.slice000000002.jsonl", [event("c"), event("d")])
    lake.land("f.jsonl.slice000000000.jsonl", [event("a"), event("b"), event("c")])
    assert lake.types == ["a", "b", "c", "d"]
    assert [outcome for _, outcome, _, _ in lake.files()] == ["read", "changed"]


def test_slices_of_every_kind_are_of_the_file_that_they_were_cut_from(tmp_path: Path) -> None:
    """Seen to fail as it was: those of a compressed file were of another one than the file."""
    import gzip

    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n{}\n"))
    (tmp_path / "b.json").write_bytes(b"[{\n},{}]")
    land([tmp_path / "a.jsonl.gz", tmp_path / "b.json"], tmp_path / "landing", 1)
    found = {origin_of(f.name) for f in (tmp_path / "landing").iterdir()}
    assert found == {(name, n) for name in ("000000-a.jsonl.gz", "000001-b.json") for n in (0, 1)}
