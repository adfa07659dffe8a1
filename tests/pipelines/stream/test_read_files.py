"""Files that changed after they were read, or went away before: found in Spark's list of a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.stream import read_files
from pipelines.stream.checkpoint import Checkpoint
from pipelines.stream.file_log import listed
from pipelines.stream.read_files import FolderWatch
from pipelines.stream.source import Source


def test_what_has_changed_or_is_gone_leaves_sparks_lists_and_is_said(tmp_path: Path) -> None:
    landing, folder = tmp_path / "land ing", tmp_path / "checkpoint"
    landing.mkdir()
    for part in ("offsets", "commits", "sources/1"):
        (folder / part).mkdir(parents=True)
    names = ["read.jsonl", "read-and-moved.jsonl", "next.jsonl", "next-and-gone.jsonl"]
    for entry, pair in enumerate((names[:2], names[2:])):
        lines = ["v1"]
        for name in pair:
            path = landing / name
            path.write_text("{}")
            os.utime(path, ns=(0, 1_700_000_000_123_456_789))
            lines.append(
                json.dumps({"path": path.as_uri(), "timestamp": 1_700_000_000_123, "batchId": entry})
            )
        (folder / "sources/1" / str(entry)).write_text("\n".join(lines))
        (folder / "offsets" / str(entry)).write_text(f'v1\n{{}}\n-\n{{"logOffset":{entry}}}')
    (folder / "commits/0").write_text("v1\n{}")
    (folder / "sources/1/.0.crc").write_text("of what was there")
    sources = [Source("native", str(landing), "file", "native:b"), Source("control", "", "kafka", "a")]
    checkpoint = Checkpoint("s", folder, ("a", "native:b"), is_new=False)
    said: list[str] = []

    def on_the_lists() -> set[str]:
        return {file.path.name for file in listed(folder, 1)}

    FolderWatch(checkpoint, sources, said.append).begin()
    assert (said, on_the_lists()) == ([], set(names))
    (landing / "next.jsonl").write_text("{} ")  # not read yet: what it has then is what counts
    FolderWatch(checkpoint, sources, said.append).begin()
    assert (said, on_the_lists()) == ([], set(names))
    (landing / "read-and-moved.jsonl").unlink()
    (landing / "read.jsonl").write_text("{} {}")
    (landing / "next-and-gone.jsonl").unlink()
    watch = FolderWatch(checkpoint, sources, said.append)
    assert watch.is_out_of_date()
    assert not watch.is_out_of_date()  # the next look is some seconds away
    watch.begin()
    changed, gone = said
    assert changed == (
        "native: 1 files have changed or landed again since they were read, such as read.jsonl; what is new in them is "
        "read"
    )
    assert gone.startswith(
        "native: 1 files that the next batch was to read are gone, such as next-and-gone.jsonl"
    )
    assert on_the_lists() == {"next.jsonl", "next-and-gone.jsonl"}  # those of the planned batch stay
    assert not (folder / "sources/1/.0.crc").exists()
    assert (folder / "sources/1/0").read_text() == "v1"


def test_names_of_files_that_are_gone_do_not_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where nothing left the lists: Spark's map of names, and each joined list, had all of history."""
    monkeypatch.setattr(read_files, "MOST_GONE", 50)
    landing, folder = tmp_path / "landing", tmp_path / "checkpoint"
    landing.mkdir()
    (landing / "here.jsonl").write_text("{}")
    for part in ("offsets", "commits", "sources/0"):
        (folder / part).mkdir(parents=True)
    at = (landing / "here.jsonl").stat().st_mtime_ns // 1_000_000
    files = [{"path": (landing / f"{n}.jsonl").as_uri(), "timestamp": 1, "batchId": 9} for n in range(100)]
    files.append({"path": (landing / "here.jsonl").as_uri(), "timestamp": at, "batchId": 9})
    (folder / "sources/0/9.compact").write_text("\n".join(["v1", *map(json.dumps, files)]))
    (folder / "offsets/9").write_text('v1\n{}\n{"logOffset":9}')
    (folder / "commits/9").write_text("v1\n{}")
    checkpoint = Checkpoint("s", folder, ("native:a",), is_new=False)
    watch = FolderWatch(checkpoint, [Source("native", str(landing), "file", "native:a")], print)
    assert watch.is_out_of_date()
    watch.begin()
    assert [file.path.name for file in listed(folder, 0)] == ["here.jsonl"]


def test_files_that_will_not_be_read_are_said_once_with_the_reason(tmp_path: Path) -> None:
    for name in ("events", "b.txt", ".c.jsonl", "_d/e.csv", "_SUCCESS", "f.jsonl", ".new.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for name in (".c.jsonl", "_d/e.csv"):
        os.utime(tmp_path / name, (1, 1))
    said: list[str] = []
    watch = FolderWatch(
        Checkpoint("s", tmp_path / "none", ("a",), is_new=True),
        [Source("native", str(tmp_path), "file", "a")],
        said.append,
    )
    watch.begin()
    in_flight = "names that begin with . or _ are still in flight, and these do not arrive"
    unknown = "no extension that is known (.ndjson, .jsonl, .json, .csv, .parquet, or .gz of it)"
    assert said == [
        f"native: 2 files are not read: {in_flight}, such as .c.jsonl",
        f"native: 2 files are not read: {unknown}, such as b.txt",
    ]
    watch.begin()
    assert len(said) == 2


def test_columns_in_the_names_of_folders_that_a_mapping_does_not_take_are_said(tmp_path: Path) -> None:
    """Seen to fail as it was: nobody was told that two customers became one."""
    for name in ("customer=a%20b/tenant=x/1.jsonl", "customer=b/2.jsonl", "_tmp/dt=1/3.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    said: list[str] = []
    new = Checkpoint("s", tmp_path / "none", ("a",), is_new=True)
    source = Source("native", str(tmp_path), "file", "a")
    FolderWatch(new, [source], said.append, lambda mapping: {"tenant"}).begin()
    assert said == [
        "native: the column customer, which is in names of folders such as customer=a%20b, is not taken by the "
        "mapping; a path of that name takes it"
    ]


def test_a_new_checkpoint_has_read_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint("s", tmp_path / "none", ("a",), is_new=True)
    said: list[str] = []
    watch = FolderWatch(checkpoint, [Source("native", str(tmp_path), "file", "a")], said.append)
    watch.begin()
    assert said == []
    assert not watch.is_out_of_date()
