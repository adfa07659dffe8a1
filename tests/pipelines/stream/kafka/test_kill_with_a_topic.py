"""kill -9 of the stream, and of the broker, while a topic is read: the tables of a run that was never disturbed."""

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
from tests.pipelines.stream.kafka.conftest import key_of

KILLS = 3


@pytest.mark.slow
def test_a_stream_from_a_topic_killed_three_times_ends_like_one_that_was_not(
    make_lake, kafka, once, tmp_path, capsys
):
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    generate(200, 4_000, seed=5, out=tmp_path / "events", events_per_file=4_000)
    lines = [
        line for line in (tmp_path / "events" / "part-00000.jsonl").read_bytes().splitlines() if key_of(line)
    ]
    topic = kafka.topic(3)
    source = kafka.source(topic)
    clean, killed = make_lake(max_offsets_per_trigger=200), make_lake()
    kafka.send(topic, *lines)

    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "max_offsets_per_trigger: 200\nengine: driver\nmaster: local[2]\ncompact_every_seconds: 2.0\n"
    )
    command = [
        sys.executable, "-m", "pipelines.apps.cli", "run", "--source", source.name, "--once",
        "--lake", str(killed.path), "--env", str(settings), "--json",
    ]  # fmt: skip
    published_between = []
    with (tmp_path / "killed.log").open("wb") as log:
        for number in range(KILLS):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
            assert process.stdout is not None
            if process.stdout.readline():  # it has published something, so it is in the middle
                time.sleep(moments.uniform(0.0, 2.0))
            if number == 1:
                kafka.broker.kill()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            if number == 1:
                kafka.broker.start()
            published_between.append(len(killed.rows(BATCHES)))
    with capsys.disabled():
        print(f"\nseed {seed}: batches published before each kill {published_between}")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.decode()
    once(clean, source)

    assert killed.contents() == clean.contents()
    for world in (clean, killed):
        batches = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
        assert sum(b["received_count"] for b in batches) == len(lines)
        places = {(r["origin"], r["origin_ordinal"]) for r in world.rows(BRONZE_EVENTS)}
        assert len(places) == len(world.rows(BRONZE_EVENTS)) == len(lines)
        for b in batches:
            assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
