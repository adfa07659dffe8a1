"""The questions about the stream, asked of one without a JVM: rows, conditions, and that only what is right counts."""

from __future__ import annotations

import math

import pytest

from benchmarks import backlog, freshness, hub, many_batches, recovery, spike
from benchmarks.live import run
from benchmarks.report.targets import TARGETS
from tests.benchmarks.direct_stream import DirectStream


@pytest.fixture(autouse=True)
def _without_a_jvm(monkeypatch):
    for module in (run, backlog, many_batches, recovery):
        monkeypatch.setattr(module, "Stream", DirectStream)
    monkeypatch.setattr(run, "EVENTS_PER_FILE", 500)
    monkeypatch.setattr(recovery, "EVENTS_PER_FILE", 500)


def figures(question, folder) -> dict:
    rows = {m.name: m for m in question.measure("quick", folder)}
    assert {name for name in TARGETS if name.startswith(f"{question.NAME}.")} <= set(rows)
    for row in rows.values():
        assert row.value is None or math.isfinite(row.value), row
        assert row.unit
        assert row.conditions
    return rows


@pytest.mark.slow
def test_freshness(tmp_path, monkeypatch):
    load = run.Load(history=500, warm_up=0.4, rate=100.0, seconds=1.0)
    monkeypatch.setitem(freshness.LOADS, "quick", load)
    rows = figures(freshness, tmp_path)
    assert 0 < rows["freshness.p50"].value <= rows["freshness.p95"].value <= rows["freshness.p99"].value
    assert rows["freshness.p50"].conditions["events_followed"] >= 80
    assert "identity" in rows["freshness.batch_seconds"].baseline


@pytest.mark.slow
def test_spike(tmp_path, monkeypatch):
    small = spike.Spike(history=500, rate=20.0, before=1.0, spike=1.0, after=2.0)
    monkeypatch.setitem(spike.SPIKES, "quick", small)
    rows = figures(spike, tmp_path)
    assert rows["spike.lost"].value == 0
    assert set(rows["spike.recovery_ratio"].baseline) >= {"backlog_events", "normal_lag_seconds"}


@pytest.mark.slow
def test_hub(tmp_path, monkeypatch):
    small = hub.Sides(history=500, rate=20.0, hub_rate=100.0, seconds=1.0)
    monkeypatch.setitem(hub.SIDES, "quick", small)
    (row,) = figures(hub, tmp_path).values()
    assert row.value > 0
    assert row.repetitions == hub.TURNS
    assert set(row.baseline) == {"with_seconds", "without_seconds"}


@pytest.mark.slow
def test_recovery(tmp_path, monkeypatch):
    small = recovery.Trial(history=100, rate=50.0, repetitions=2, load_seconds=4.0, before_kill=0.3)
    monkeypatch.setitem(recovery.TRIALS, "quick", small)
    (row,) = figures(recovery, tmp_path).values()
    assert row.value > 0
    assert row.repetitions == 2


@pytest.mark.slow
def test_many_batches(tmp_path, monkeypatch):
    small = many_batches.Run(batches=8, window=3, events=20, people=60, upkeep_every_seconds=60.0)
    monkeypatch.setitem(many_batches.RUNS, "quick", small)
    rows = figures(many_batches, tmp_path)
    assert rows["many_batches.most_files_of_a_table"].value >= 1
    assert rows["many_batches.stored_ratio"].value > 0


class _NoFloors:
    def __init__(self, folder, count) -> None:
        self.measure = lambda: {"json": 1e6, "lines": 2e6, "whole_files": 9e6}

    def stop(self) -> None:
        pass


@pytest.mark.thorough
def test_backlog(tmp_path, monkeypatch):
    monkeypatch.setattr(backlog, "Floors", _NoFloors)
    small = backlog.Sizes(records=2_000, batch=1_600, dirty_records=600, dirty_batch=800, turns=2)
    monkeypatch.setitem(backlog.SIZES, "quick", small)
    rows = figures(backlog, tmp_path)
    rate = rows["backlog.events_per_minute"].value
    assert rows["backlog.share_of_floor"].value == pytest.approx(rate / 1e6)
    assert rows["backlog.dirty_share"].repetitions == 2


@pytest.mark.thorough
def test_a_stream_that_loses_an_event_has_no_figure(tmp_path, monkeypatch):
    feed = DirectStream._run

    def loses(stream) -> None:
        stream._done.update(p.name for p in list(stream.landing.glob("*.jsonl"))[:1])
        feed(stream)

    monkeypatch.setattr(DirectStream, "_run", loses)
    monkeypatch.setattr(backlog, "Floors", _NoFloors)
    small = backlog.Sizes(records=2_000, batch=1_600, dirty_records=600, dirty_batch=800, turns=2)
    monkeypatch.setitem(backlog.SIZES, "quick", small)
    with pytest.raises(AssertionError, match="were sent"):
        backlog.measure("quick", tmp_path)
