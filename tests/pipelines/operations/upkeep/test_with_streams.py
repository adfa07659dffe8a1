"""Upkeep beside writers: at random moments, in a stream's own thread, and asked for by the command."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from conf.tables import BATCHES
from pipelines.apps.cli.__main__ import main
from pipelines.lake.snapshot import oldest_readable_batch, published, published_as
from pipelines.lake.writing import compaction
from pipelines.operations.upkeep import pause as pause_module
from pipelines.operations.upkeep import schedule
from pipelines.operations.upkeep.schedule import own_upkeep, seconds_until_due
from tests.pipelines.operations.upkeep.worlds import (
    content,
    copy_of,
    do_upkeep,
    filled,
    options,
    pinned,
    records,
    seen,
)

pytestmark = pytest.mark.thorough  # lakes of several batches


@pytest.fixture(autouse=True)
def joined_early(monkeypatch):
    monkeypatch.setattr(compaction, "FROM_FILES", 3)
    monkeypatch.setattr(pause_module, "CHECKPOINT_FROM_COMMITS", 2)


def kinds(lake) -> list[str]:
    return lake.open(BATCHES).to_pyarrow_dataset().to_table(columns=["kind"])["kind"].to_pylist()


@pytest.mark.parametrize("steps", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_batches_compactions_and_upkeeps_in_any_order_never_change_a_pinned_batch(tmp_path, steps):
    """Seen to fail with the log's entries removed up to the newest checkpoint, as delta-rs does it."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    world, plain = filled(tmp_path / "lake", 1), filled(tmp_path / "plain", 1)
    pins = {}
    for _ in range(steps):
        what = chance.choice(["batch", "batch", "batch", "compact", "upkeep"])
        if what == "batch":
            rows = records(world.batches, 3)
            world.feed(rows)
            plain.feed(rows)
        elif what == "compact":
            world.processor.compact()
        else:
            do_upkeep(world, options(batches=chance.choice([1, 3, 6])))
            world.processor.last.refresh()
        last = published(world.lake).batch_id
        pins.setdefault(last, seen(pinned(world.lake, last)))
        oldest = oldest_readable_batch(world.lake)
        for batch, rows_seen in pins.items():
            if batch >= oldest:
                published_as(world.lake, batch)
                assert seen(pinned(world.lake, batch)) == rows_seen, f"seed {seed}, batch {batch}"
    assert content(world) == content(plain), f"seed {seed}"


def test_a_streams_own_upkeep_runs_between_its_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "LOOKS_EVERY_SECONDS", 0.01)
    world = filled(tmp_path / "lake", 3)
    plain = copy_of(world, tmp_path / "plain")
    troubles = []
    settings = replace(world.settings, upkeep_every_hours=1e-6, history_batches=2)
    with own_upkeep(world.processor, settings, troubles.append):
        until = time.monotonic() + 300
        while "upkeep" not in kinds(world.lake) and time.monotonic() < until:
            time.sleep(0.01)
        world.feed(records(world.batches))
    assert not [t for t in threading.enumerate() if t.name == "upkeep"]
    plain.feed(records(plain.batches))
    assert (kinds(world.lake).count("upkeep") > 0, troubles) == (True, [])
    assert content(world) == content(plain)


def test_upkeep_is_due_some_time_after_the_last_one(tmp_path):
    world = filled(tmp_path / "lake", 1)
    at = published(world.lake).published_at
    assert seconds_until_due(world.lake, 2.0, at) == 7200
    assert seconds_until_due(world.lake, 2.0, at + timedelta(hours=3)) == -3600
    do_upkeep(world, options(days=0))
    assert seconds_until_due(world.lake, 2.0, datetime.now(UTC)) > 7100


def test_the_command_says_what_it_did(tmp_path, capsys):
    world = filled(tmp_path / "lake", 3)
    lake = ["--lake", str(world.path)]
    assert main(["upkeep", *lake, "--dry-run"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert main(["upkeep", *lake, "--retain-hours", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["oldest_readable_batch_id"] == report["batch_id"] >= 4
    assert sum(t["removed_files"] for t in report["tables"]) > 20
    assert main(["upkeep", *lake]) == 0
    assert f"batches can be read back to {report['batch_id']}" in capsys.readouterr().out
    assert main(["upkeep", *lake, "--archive-to", str(tmp_path)]) == 2
    assert "go together" in capsys.readouterr().err
    assert main(["upkeep", "--lake", str(tmp_path / "none")]) == 1
    empty = filled(tmp_path / "empty", 0)
    for words in ([], ["--dry-run"]):
        assert main(["upkeep", "--lake", str(empty.path), *words]) == 1
        assert "has no published batch yet" in capsys.readouterr().err
    assert main(["upkeep", *lake, "--restore-archive"]) == 1
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"stitchlake upkeep: nothing of the lake {world.path} has been archived, so there is nothing to bring back"
    )
