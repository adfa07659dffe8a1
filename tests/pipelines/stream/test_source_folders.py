"""A stream never reads its own lake, nor a file by two ways; nothing is written where a stream reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.apps.cli.__main__ import main
from pipelines.stream.source import SourceError, parse_source
from pipelines.stream.source_folders import require_apart, require_writable


def lake_in(folder: Path) -> Path:
    (folder / "ops/batches/_delta_log").mkdir(parents=True)
    return folder


CASES: dict[str, tuple[Callable[[Path], object], list[str], str, str]] = {
    "the lake is inside": (lambda d: None, ["native:."], "lake", "the lake .* is inside it, .* or another --lake"),
    "the lake by a link": (
        lambda d: (d / "real/lake").mkdir(parents=True) or (d / "lake").symlink_to(d / "real/lake"),
        ["native:real"], "lake", "the lake .* is inside it",
    ),
    "the lake itself": (lambda d: lake_in(d / "lake"), ["native:lake"], "lake", "the lake .* is inside it"),
    "inside the lake": (
        lambda d: (lake_in(d / "lake") / "_stitchlake/requests").mkdir(parents=True),
        ["native:lake/_stitchlake/requests"], "lake", "is inside the lake .*give a folder of its own",
    ),
    "inside another lake": (
        lambda d: lake_in(d / "other") / "gold", ["native:other/ops"], "lake", "is inside the lake",
    ),
    "another lake inside": (lambda d: lake_in(d / "in/other"), ["native:in"], "lake", "is a Delta table"),
    "a backup inside": (
        lambda d: [(d / "in/b" / name).mkdir(parents=True) for name in ("objects", "restore-points")],
        ["native:in"], "lake", "in/b is a lake's backup",
    ),
    "a checkpoint inside": (
        lambda d: [(d / "in/c" / name).mkdir(parents=True) for name in ("offsets", "commits", "metadata")],
        ["native:in"], "lake", "in/c is Spark's checkpoint",
    ),
    "two that overlap": (
        lambda d: (d / "in/sub").mkdir(parents=True), ["native:in", "flat:in/sub"], "lake",
        "native:.*in and flat:.*in/sub have the same files",
    ),
    "one folder by two names": (
        lambda d: (d / "in").mkdir() or (d / "same").symlink_to(d / "in"), ["native:in", "native:same"], "lake",
        "have the same files",
    ),
    "a link to a folder that is read": (
        lambda d: (d / "in/a").mkdir(parents=True) or (d / "in/b").symlink_to(d / "in/a"), ["native:in"], "lake",
        "in/b is a link to .*in/a, which is read already",
    ),
    "a link to a file that is read": (
        lambda d: (d / "in").mkdir() or (d / "in/1.jsonl").touch() or (d / "in/latest.jsonl").symlink_to("1.jsonl"),
        ["native:in"], "lake", "in/latest.jsonl is a link to",
    ),
    "a link to the lake": (
        lambda d: [(d / "in").mkdir(), lake_in(d / "lake"), (d / "in/l").symlink_to(d / "lake")], ["native:in"],
        "lake", "in/l is a link to .*is the lake",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_source_that_would_be_read_for_ever_or_twice_is_refused_with_the_way_out(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail as it was: `--source native:.` with the default lake read the lake's own tables without end."""
    make, sources, lake, said = CASES[case]
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    with pytest.raises(SourceError, match=said):
        require_apart([parse_source(text) for text in sources], Path(lake))


def test_folders_apart_and_links_to_elsewhere_are_read(tmp_path: Path) -> None:
    for name in ("in", "in-2", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    require_apart([parse_source(f"native:{tmp_path / name}") for name in ("in", "in-2")], tmp_path / "lake")


def test_the_command_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--source", "native:.", "--once"]) == 2
    assert "is inside it, and the stream would read its own tables" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()


def test_outputs_are_not_written_into_a_lake_nor_where_its_stream_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, landing, events = lake_in(tmp_path / "lake"), tmp_path / "landing", tmp_path / "e.jsonl"
    (lake / "_stitchlake").mkdir()
    (lake / "_stitchlake/stream.json").write_text(
        json.dumps({"stream": "s", "sources": ["control", f"native:{landing}"]})
    )
    events.touch()
    landing.mkdir()
    require_writable(tmp_path / "out.jsonl", lake)
    for path in (lake / "gold/x.jsonl", landing / "x.jsonl"):
        with pytest.raises(SourceError, match="write it somewhere else"):
            require_writable(path, lake)
        arguments = ["resolve", str(events), "--output", str(tmp_path / "o"), "--lake", str(lake)]
        assert main([*arguments, "--events-output", str(path)]) == 2
    assert main(["resolve", str(events), "--output", str(events)]) == 2
    assert main(["resolve", str(events), str(events), "--output", str(tmp_path / "o")]) == 2
    assert main(["backup", str(landing / "backup"), "--lake", str(lake)]) == 2
    size = ["--persons", "1", "--events", "1", "--seed", "1"]
    assert main(["generate", *size, "--out", str(lake / "bronze/new")]) == 2
    said = capsys.readouterr().err
    assert "is an input, and would be overwritten" in said
    assert "is given twice" in said
    assert not (lake / "bronze").exists()
