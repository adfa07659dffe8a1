"""What the program writes is its user's alone: folders 0700, files 0600; or its group's to read, when that is asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from conf.settings import SettingsError
from pipelines.apps.cli.__main__ import main
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.operations.decisions.inbox import put
from pipelines.operations.requests import requests as requests
from pipelines.operations.upgrade import ready_to_write
from pipelines.runtime.private_files import VARIABLE, keep_files_private, mask
from tests.direct_lake import DirectLake
from tests.pipelines.operations.upkeep.worlds import do_upkeep, options, records


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Everything in a folder that somebody but its owner may do something with."""
    found = [folder, *folder.rglob("*")]
    return {str(p): stat.filemode(p.stat().st_mode) for p in found if p.stat().st_mode & 0o077}


def test_who_may_read_is_said_by_a_variable_and_by_default_nobody() -> None:
    assert (mask({}), mask({VARIABLE: "027"}), mask({VARIABLE: "0027"})) == ("077", "027", "027")
    for wrong in ("", "27", "099", "777", "u=rwx", "0777"):
        with pytest.raises(SettingsError, match=f"{VARIABLE}: must be three octal digits"):
            mask({VARIABLE: wrong})


@pytest.mark.thorough
def test_lakes_errands_decisions_backups_archives_and_exports_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail while nothing set a umask: everybody could read all of it."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    lake, backup = home / "lake", home / "backup"
    generating = ["--persons", "2", "--events", "20", "--seed", "1", "--out", str(home / "generated")]
    assert main(["generate", *generating]) == 0  # whatever command comes first
    ready_to_write(Lake(lake), lambda line: None)
    world = DirectLake(lake)
    key_path(lake).chmod(0o600)  # the test's own hand wrote it
    for batch in range(2):
        world.feed(records(batch))
    world.processor.compact()
    do_upkeep(world, options(archive_days=0.0, archive_to=str(home / "cheap")))
    put(lake, {"decision": "merge"})
    requests._ask(lake, "upkeep", {})
    for words in (
        ["quality", "--lake", str(lake)],
        ["backup", str(backup), "--lake", str(lake), "--with-key"],
        ["restore", str(backup), str(home / "again")],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert modes(home) == {}


def test_a_group_may_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "027")
    keep_files_private()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "folder" / "file").stat().st_mode) == 0o640


def test_a_mask_that_is_none_is_a_mistake_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "rw")
    assert main(["mapping", "--list"]) == 2
    assert capsys.readouterr().err.startswith(f"stitchlake mapping: {VARIABLE}: must be three octal digits")


@pytest.mark.parametrize("writer", ["spark", "auto"])
def test_what_the_jvm_and_its_workers_write_is_private_too(make_lake, writer: str) -> None:
    """Tables by Spark, checkpoints, graph checkpoints: the JVM gives a file its mode by a mask of its own."""
    keep_files_private()
    world = make_lake(writer=writer)
    world.folder.chmod(0o700)
    os.chmod(key_path(world.path), 0o600)
    event = {
        "event_id": "a",
        "timestamp": "2026-01-01T00:00:00Z",
        "identifiers": {"user_id": "u", "email": "a@b.de"},
    }
    world.drop("1.jsonl", [event])
    world.once()
    assert len(list(world.path.rglob("*"))) > 50
    assert modes(world.path) == {}
