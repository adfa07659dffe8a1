"""kill -9 at random moments, five times, then `--once`: the tables of a run that was never disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from conf.tables import BATCHES, BRONZE_EVENTS
from pipelines.generator import generate

KILLS = 5


@pytest.mark.slow
def test_a_stream_killed_five_times_ends_like_one_that_was_not(make_lake, tmp_path, capsys):
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    generate(300, 6_000, seed=5, out=tmp_path / "events", events_per_file=100)
    parts = sorted((tmp_path / "events").iterdir())

    clean = make_lake(max_files_per_trigger=2)
    killed = make_lake(max_files_per_trigger=2)
    for world in (clean, killed):
        for part in parts:
            world.drop(part.name, part.read_bytes())
    clean.once()

    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "max_files_per_trigger: 2\nengine: driver\nmaster: local[2]\ncompact_every_seconds: 2.0\n"
    )
    command = [
        sys.executable, "-m", "pipelines.apps.cli", "run", "--source", f"native:{killed.landing}", "--once",
        "--lake", str(killed.path), "--env", str(settings), "--json",
    ]  # fmt: skip
    log = (tmp_path / "killed.log").open("wb")
    published_between = []
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        assert process.stdout is not None
        if process.stdout.readline():  # it has published something, so it is in the middle
            time.sleep(moments.uniform(0.0, 2.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        published_between.append(len(killed.rows(BATCHES)))
    with capsys.disabled():
        print(f"\nseed {seed}: batches published before each kill {published_between}")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.decode()

    assert killed.contents() == clean.contents()
    for world in (clean, killed):
        batches = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
        received = sum(b["received_count"] for b in batches)
        assert received == 6_000 == len(world.rows(BRONZE_EVENTS))
        for b in batches:
            assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
        assert len({b["batch_id"] for b in world.rows(BATCHES)}) == len(world.rows(BATCHES))
