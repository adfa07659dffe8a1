"""The real line after a disaster: what the backup does not have is in the sources, and is read once."""

from __future__ import annotations

import shutil

import pytest

from conf.tables import BATCHES, BRONZE_EVENTS
from pipelines.apps.cli.__main__ import main
from pipelines.lake.hashing_key import key_path
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import back_up
from pipelines.stream.checkpoint import CHECKPOINTS
from tests.pipelines.old_lake import part


@pytest.mark.slow  # two streams; restoring itself is in test_backup.py
def test_a_restored_lake_ends_like_one_that_was_never_destroyed(make_lake):
    """Records without an event_id are among them: known by their origin alone, they would be there twice."""
    clean, world = make_lake(), make_lake()
    for number in (1, 2, 3, 4):
        clean.drop(f"{number}.jsonl", part(number) + _nameless(number))
    clean.once()
    for number in (1, 2):
        world.drop(f"{number}.jsonl", part(number) + _nameless(number))
    world.once()
    back_up(world.path, world.folder / "backup", with_key=True)
    world.drop("3.jsonl", part(3) + _nameless(3))
    world.once()  # published, and lost with the lake
    shutil.rmtree(world.path)
    key_path(world.path).unlink()
    world.drop("4.jsonl", part(4) + _nameless(4))
    restore(world.folder / "backup", world.path)
    assert not (world.path / CHECKPOINTS).exists()
    assert world.once().received_count == sum(len(part(n).splitlines()) + 1 for n in (3, 4))
    assert world.contents() == clean.contents()
    for lake in (world, clean):
        assert sum(b["received_count"] for b in lake.rows(BATCHES)) == len(lake.rows(BRONZE_EVENTS))
    assert len(world.rows(BRONZE_EVENTS)) == len(clean.rows(BRONZE_EVENTS))
    assert world.once().received_count == 0


@pytest.mark.slow  # two streams; rebuilding itself is in test_rebuild.py
def test_an_old_lake_is_rebuilt_under_todays_policy_and_goes_on(make_lake, old, capsys):
    """The shipped policy has changed since, so a stream refuses until a rebuild has applied it."""
    clean, world = make_lake(), make_lake()
    shutil.rmtree(world.path, ignore_errors=True)
    shutil.copytree(old.path, world.path)
    for number in (1, 2, 3, 4):
        for each in (clean, world):
            each.drop(f"{number}.jsonl", part(number))
    clean.once()
    assert main(["rebuild", "--policy", "default", "--yes", "--lake", str(world.path)]) == 0, (
        capsys.readouterr().err
    )
    assert "is brought to format 2" in capsys.readouterr().err
    assert world.once().received_count == len(part(4).splitlines())
    assert world.contents() == clean.contents()


def _nameless(number: int) -> bytes:
    """A record without an event_id."""
    return b'{"timestamp":"2026-01-05T12:00:0%dZ","identifiers":{"cookie_id":"nameless"}}\n' % number
