"""The capacity page's numbers are those that one computes by hand, and figures on record come before declared ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from benchmarks.report import record
from benchmarks.report.capacity import INPUTS, PAGE, figures_of, main, page_of
from benchmarks.report.capacity_model import (
    Assumptions,
    Figure,
    Figures,
    Prices,
    Workload,
    capacity_of,
    spike_rate,
)
from benchmarks.report.page import BEGIN, END

FIGURES = Figures(
    events_per_core_minute=Figure(100_000, "events/min", ""),
    driver_events_per_minute=Figure(1_000_000, "events/min", ""),
    bytes_in_per_event=Figure(400, "bytes", ""),
    stored_ratio=Figure(2, "ratio", ""),
    driver_bytes_per_node=Figure(200, "bytes", ""),
    driver_bytes_per_event=Figure(0.001, "bytes", ""),
    cluster_core_share=Figure(0.5, "ratio", ""),
)
ASSUMPTIONS = Assumptions(
    monthly_users=10_000_000,
    nodes_per_user=4,
    utilisation=0.5,
    spike_factor=10,
    spike_minutes=1,
    recover_minutes=9,
    retention_days=100,
    executor_gib_per_core=4,
    driver_gib=8,
    driver_index_limit_gib=16,
    hours_per_month=730,
)
PRICES = Prices("2026-11", "USD", core_hour=0.05, memory_gib_hour=0.005, storage_gib_month=0.02)


def need(rate: float, scale: float = 1, **assumed: float):
    return capacity_of(Workload("w", rate, scale), FIGURES, replace(ASSUMPTIONS, **assumed), PRICES)


def test_a_spike_is_worked_off_in_the_time_to_recover() -> None:
    capacity = spike_rate(100.0, ASSUMPTIONS)
    assert capacity == pytest.approx(190.0)
    backlog = (10 * 100 - capacity) * 1
    assert backlog / (capacity - 100) == pytest.approx(9)


def test_the_steady_rate_asks_for_cores_where_spikes_do_not() -> None:
    assert need(1_000_000).cores == 20  # 1 M / 0.5 against 1.9 M of the spike, 100,000 a core
    assert need(1_000_000, utilisation=0.9).cores == 19
    assert need(1_000_000).cores_without_lag == 100
    assert need(1_000_000).cores_index_in_tables == 40


def test_one_driver_is_enough_up_to_what_it_was_measured_to_do() -> None:
    assert need(500_000).drivers == 1
    assert need(500_001).drivers == 2


def test_an_index_that_no_driver_holds_is_looked_up_in_the_tables() -> None:
    held = need(100_000)
    assert held.index_gib_of_users == pytest.approx(40e6 * 200 / 2**30)
    assert held.is_index_in_drivers
    index = held.index_gib_of_users + 100 * held.index_gib_per_day
    assert held.memory_gib == pytest.approx(held.cores * 4 + 8 + index)
    outgrown = need(100_000, scale=10)
    assert not outgrown.is_index_in_drivers
    assert outgrown.cores == outgrown.cores_index_in_tables == 2 * held.cores
    assert outgrown.memory_gib == outgrown.cores * 4 + 8


def test_history_grows_out_of_the_drivers_by_the_day() -> None:
    figures = replace(FIGURES, driver_bytes_per_event=Figure(100, "bytes", ""))
    n = capacity_of(Workload("w", 100_000), figures, ASSUMPTIONS, PRICES)
    assert n.index_gib_per_day == pytest.approx(144e6 * 100 / 2**30)
    assert n.days_in_drivers == pytest.approx((16 - n.index_gib_of_users) / n.index_gib_per_day)
    assert not n.is_index_in_drivers


def test_storage_and_money_follow_events_and_prices() -> None:
    n = need(1_000_000)
    assert n.stored_gib_per_day == pytest.approx(1.44e9 * 800 / 2**30)
    assert n.stored_gib == pytest.approx(100 * n.stored_gib_per_day)
    assert n.storage_money == pytest.approx(n.stored_gib * 0.02)
    assert n.compute_money == pytest.approx((20 * 0.05 + n.memory_gib * 0.005) * 730)
    assert n.money_per_million_events == pytest.approx(n.money / (1_440 * 365.25 / 12))


def row(name: str, value: float | None, **baseline: float) -> dict[str, Any]:
    conditions = {"scale": "usual", "cores": 4, "on": "2026-11-21"}
    return {"name": name, "value": value, "baseline": baseline, "conditions": conditions}


def test_figures_on_record_come_before_declared_ones() -> None:
    declared = yaml.safe_load(INPUTS.read_text(encoding="utf-8"))["figures"]
    rows = [
        row("backlog.events_per_minute", 2_000_000),
        row("cluster.events_per_minute", 300_000, laptop=1_000_000),
        row("driver_memory.bytes_per_node", None),
    ]
    figures = figures_of(declared, rows)
    assert figures.events_per_core_minute.value == 500_000
    assert figures.cluster_core_share.value == pytest.approx(0.3)
    assert "cluster.events_per_minute" in figures.cluster_core_share.conditions
    assert figures.driver_bytes_per_node.value == declared["driver_bytes_per_node"]["value"]


def test_figures_are_those_of_the_usual_scale_whatever_was_measured_last(
    tmp_path, monkeypatch, capsys
) -> None:
    """Seen to fail where figures came from latest.jsonl."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "latest.jsonl")
    record.record_question("driver_memory", [row("driver_memory.bytes_per_node", 321)], "usual")
    record.record_question("driver_memory", [row("driver_memory.bytes_per_node", 765)], "large")
    assert main(["--print"]) == 0
    assert "321 bytes" in (said := capsys.readouterr().out)
    assert "765" not in said


def test_the_page_has_every_workload_and_says_what_prices_are() -> None:
    inputs = yaml.safe_load(INPUTS.read_text(encoding="utf-8"))
    block = page_of(inputs, [])
    assert all(name in block for name in inputs["workloads"])
    assert "Example list price" in block
    page = PAGE.read_text(encoding="utf-8")
    assert BEGIN in page
    assert "Example list price" in page.partition(BEGIN)[2].partition(END)[0]


def test_inputs_that_lack_something_are_named(tmp_path, capsys) -> None:
    inputs = yaml.safe_load(INPUTS.read_text(encoding="utf-8"))
    del inputs["assumptions"]["utilisation"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(inputs), encoding="utf-8")
    assert main(["--inputs", str(tmp_path / "mine.yaml"), "--print"]) == 1
    assert "utilisation" in capsys.readouterr().err
