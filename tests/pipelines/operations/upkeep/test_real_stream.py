"""Upkeep beside a real stream."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from conf.policy import load_policy
from conf.settings import load_settings
from conf.tables import BATCHES
from pipelines.apps.cli.__main__ import main
from pipelines.apps.run_stream import run_stream
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.operations.upkeep import schedule
from pipelines.stream.source import Source
from tests.engine import ENVIRONMENT
from tests.pipelines.operations.upkeep.worlds import filled, records, seen


@pytest.mark.slow  # waits for a schedule
def test_beside_a_real_stream_asked_for_and_on_schedule(spark, tmp_path, monkeypatch):
    """The stream publishes batches the whole time; the command asks it for a pause, and its own schedule is due too."""
    monkeypatch.setattr(schedule, "LOOKS_EVERY_SECONDS", 0.2)
    settings = replace(
        load_settings(ENVIRONMENT),
        engine="driver",
        upkeep_every_hours=2 / 3600,
        history_batches=4,
        compact_every_seconds=1.0,
    )
    landing, lake = tmp_path / "landing", tmp_path / "lake"
    landing.mkdir()
    stop, asked, problems, codes = threading.Event(), threading.Event(), [], []

    def land(number: int) -> None:
        hidden = landing / f".{number}"
        hidden.write_text("".join(json.dumps(r) + "\n" for r in records(number)))
        hidden.rename(landing / f"{number:03d}.jsonl")

    def ask() -> None:
        code = 1
        while code and len(done) <= 60:  # refused while the stream's own upkeep is at work
            code = main(["upkeep", "--lake", str(lake), "--json"])
        codes.append(code)
        asked.set()

    done = []

    def published_one(report) -> None:
        done.append(report)
        if len(done) == 3:
            threading.Thread(target=ask).start()
        if (len(done) >= 8 and asked.is_set()) or len(done) > 60:
            stop.set()
        else:
            land(len(done))

    land(0)
    source = Source("native", str(landing), "file", "native:test")
    run_stream(
        spark,
        lake,
        [source],
        load_policy(),
        settings,
        once=False,
        stop=stop,
        on_published=published_one,
        on_trouble=problems.append,
    )
    plain = filled(tmp_path / "plain", len(done))
    assert (codes, problems) == ([0], [])
    snapshot = published(Lake(lake))
    assert "upkeep" in snapshot.arrow(BATCHES, ["kind"])["kind"].to_pylist()
    counts = {s: n for s, (n, _) in seen(snapshot).items()}
    assert counts == {s: n for s, (n, _) in seen(published(plain.lake)).items()}
