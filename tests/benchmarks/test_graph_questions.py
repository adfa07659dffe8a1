"""The questions about the graph, at tiny size and without a JVM: what is right passes, what is wrong does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import map_growth, naive, stitch
from benchmarks.baselines.graph import (
    CapReached,
    Graph,
    read_labels,
    same_partition,
    shown,
    timed_or_capped,
    union_find,
    write_labels,
)
from benchmarks.bootstrap import joined_visitors
from benchmarks.direct import copies
from benchmarks.direct.batches import Batches
from benchmarks.live.stream import Stream
from benchmarks.questions import QUESTIONS
from benchmarks.report.targets import verdict
from pipelines.lake.snapshot import published
from tests.examples import examples
from transforms.identity.components import driver_components

TINY = stitch.Plan((400,), new_edges=20, rounds=2, cap_seconds=30.0)


def solved(graph: Graph) -> np.ndarray:
    return driver_components(graph.node_count, graph.left, graph.right)


@settings(max_examples=examples(100))
@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))
    )
)
def test_the_plain_union_find_and_scipy_find_the_same(given_: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = given_
    left, right = (np.array([e[i] for e in edges], np.int64) for i in (0, 1))
    graph = Graph(count, left, right)
    assert same_partition(union_find(graph), solved(graph))


@pytest.mark.parametrize(
    "a, b, is_same",
    [
        ([1, 1, 2], [9, 9, 4], True),
        ([1, 1, 2], [9, 4, 4], False),
        ([1, 1, 1], [9, 9, 4], False),
        ([1, 2, 3], [9, 9, 4], False),
        ([], [], True),
        ([1], [1, 2], False),
    ],
)
def test_partitions_are_the_same_whatever_their_labels(a: list[int], b: list[int], is_same: bool) -> None:
    assert same_partition(np.array(a, np.int64), np.array(b, np.int64)) == is_same


def test_past_its_cap_a_baseline_has_no_figure() -> None:
    def late() -> float:
        raise CapReached

    assert timed_or_capped(late, 60) is None
    assert timed_or_capped(lambda: 61.0, 60) is None
    assert shown(timed_or_capped(lambda: 59.0, 60), 60) == 59.0
    assert shown(None, 1_800).startswith(">1,800")
    with pytest.raises(CapReached):
        union_find(joined_visitors(40), cap_seconds=-1)


def test_labels_are_durable(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", np.array([3, 1, 3]))
    assert read_labels(tmp_path / "labels").tolist() == [3, 1, 3]


def by_scipy(spark, edges: Path, node_count: int, labels: Path, cap: float) -> float:
    from deltalake import DeltaTable

    rows = DeltaTable(str(edges)).to_pyarrow_table()
    write_labels(labels, driver_components(node_count, rows["src"].to_numpy(), rows["dst"].to_numpy()))
    return 1.0


@pytest.mark.thorough
def test_all_sides_stitch_the_same_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitch, "graphframes_job", by_scipy)
    rows = {row.name: row for row in stitch._measure_size(400, TINY, None, tmp_path)}
    ours = rows["stitch.seconds_400"]
    assert set(ours.baseline) == {"scipy", "graphframes", "union_find"}
    assert ours.repetitions == 2
    assert rows["stitch.times_graphframes_400"].value == pytest.approx(1.0 / ours.value, rel=0.5)
    assert not rows["stitch.times_graphframes_400"].note


@pytest.mark.thorough
def test_a_side_with_other_persons_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_is_one(spark, edges: Path, node_count: int, labels: Path, cap: float) -> float:
        write_labels(labels, np.arange(node_count))
        return 1.0

    monkeypatch.setattr(stitch, "graphframes_job", nobody_is_one)
    with pytest.raises(AssertionError, match="graphframes finds other persons"):
        stitch._measure_size(400, TINY, None, tmp_path)


def test_a_baseline_at_its_cap_gives_a_lower_bound() -> None:
    sides = stitch._Sides([0.5, 0.25], [5.0, 5.0], [None], [None])
    _, graphframes, scipy = stitch.rows_of("10m", sides, 1_800.0, {})
    assert graphframes.value == 5_400
    assert "at least" in graphframes.note
    assert graphframes.baseline["graphframes_s"].startswith(">1,800")
    assert verdict(graphframes.name, graphframes.value) == "met"
    assert scipy.value == 15
    assert verdict(scipy.name, scipy.value) == "met"


@pytest.mark.thorough
def test_growth_counts_only_where_every_identifier_is_its_persons(tmp_path: Path) -> None:
    grown = map_growth._Grown(tmp_path, persons=50)
    copies.fill(tmp_path / "lake", copies.customer(0), grown.persons, tmp_path)
    lake, rng = Batches(tmp_path / "lake"), np.random.default_rng(1)
    plan = map_growth.Plan((200,), events=40, batches=2, warm_up=0, rounds=1)
    for n in range(plan.batches):
        lake.stitch(map_growth.batch(grown, plan.events, 0, n, rng))
        grown.batch_count += 1
    map_growth.require_right(published(lake.lake), grown, plan)
    grown.batch_count += 1
    with pytest.raises(AssertionError, match="records were sent"):
        map_growth.require_right(published(lake.lake), grown, plan)
    grown.batch_count -= 1
    # Two of them turn out to be one: no longer whose the numbers say.
    first, second = copies.number(1), copies.number(2)
    lake.feed(
        [copies.event("j", copies.AT, "page_view", {"cookie_id": f"c{first}", "device_id": f"z{second}"})]
    )
    with pytest.raises(AssertionError):
        map_growth.require_right(published(lake.lake), grown, plan)


class InProcess:
    """A stream without Spark: what has landed becomes batches when somebody waits for it."""

    def __init__(self, folder: Path, name: str, landing: Path) -> None:
        self.lake, self.landing = Batches(folder / name), landing
        self.lake.batches = 10 * len(list(landing.iterdir()))  # numbers that no earlier one has used
        self.done = {f.name for f in landing.iterdir()}

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.lake.processor.compact()

    def wait_received(self, count: int) -> None:
        for file in sorted(f for f in self.landing.iterdir() if f.name not in self.done):
            self.lake.feed(file.read_bytes(), name=file.name)
            self.done.add(file.name)
        assert sum(r.received for r in self.lake.reports) == count

    def reports(self) -> list[dict[str, Any]]:
        return [vars(r) for r in self.lake.reports]


@pytest.mark.thorough
def test_growth_is_measured_at_every_size_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_growth, "Stream", InProcess)
    plan = map_growth.Plan((200, 400), events=40, batches=2, warm_up=1, rounds=2)
    monkeypatch.setitem(map_growth.PLANS, "quick", plan)
    rows = {r.name: r for r in map_growth.measure("quick", tmp_path)}
    assert rows["map_growth.cost_ratio_400"].repetitions == 2
    assert rows["map_growth.batch_seconds_200"].baseline["identity"] >= 0


def test_growth_rows_compare_every_size_with_the_smallest() -> None:
    sizes = [
        map_growth._Grown(Path(), 25_000, [1.0, 2.0], [{"write": 0.1, "rows": 1}]),
        map_growth._Grown(Path(), 250_000, [1.2, 3.0], [{"write": 0.1, "rows": 30}]),
    ]
    rows = {r.name: r for r in map_growth.rows_of(sizes, map_growth.PLANS["usual"], limit=10)}
    assert rows["map_growth.cost_ratio_1m"].value == pytest.approx(1.35)
    assert rows["map_growth.cost_ratio_1m"].conditions["look_up_at_1m"] == "tables"
    assert rows["map_growth.batch_seconds_100k"].conditions["look_up_at_100k"] == "driver"
    assert "map_growth.cost_ratio_100k" not in rows


class Slow(Stream):
    """A pipeline that publishes the first file and no other."""

    def command(self, once: bool) -> list[str]:
        said = '{"batch_id": 0, "received": 2, "seconds": 0.5}'
        return [sys.executable, "-c", f"import time; print({said!r}, flush=True); time.sleep(60)"]


@pytest.mark.thorough  # waits for its cap
def test_past_its_cap_a_stream_is_killed_and_what_it_did_before_counts(tmp_path: Path) -> None:
    files = [[b"1", b"2"], [b"3"], [b"4"]]
    run = naive.follow(Slow(tmp_path, "slow", tmp_path / "landing"), files, history=0, cap_seconds=2.0)
    assert run.seconds == [0.5]
    assert len(run.fresh) == 1
    none = naive.follow(Slow(tmp_path, "slow", tmp_path / "landing"), files, history=1, cap_seconds=2.0)
    assert none == naive.Run([], [])


def textbook_lake(folder: Path, owners: dict[str, str]) -> None:
    write_deltalake(str(folder / "events"), pa.table({"event_id": ["1", "2"]}))
    rows = {"id": list(owners), "canonical_id": list(owners.values())}
    write_deltalake(str(folder / "identity_map"), pa.table(rows))
    write_deltalake(str(folder / "profiles"), pa.table({"canonical_id": sorted(set(owners.values()))}))


def test_the_textbooks_result_is_checked_too(tmp_path: Path) -> None:
    a, b, c = "device_id:a", "user_id:b", "cookie_id:c"
    together = b'{"event_id":"1","identifiers":{"device_id":"a","user_id":"b","email":null}}'
    alone = b'{"event_id":"2","identifiers":{"cookie_id":"c","unknown":"d"}}'
    files = [[together, alone, together]]
    textbook_lake(tmp_path / "right", {a: a, b: a, c: c})
    naive.require_textbook_right(tmp_path / "right", files)
    textbook_lake(tmp_path / "wrong", {a: a, b: b, c: c})
    with pytest.raises(AssertionError, match="other persons"):
        naive.require_textbook_right(tmp_path / "wrong", files)
    with pytest.raises(AssertionError, match="events of"):
        naive.require_textbook_right(tmp_path / "right", [[together]])
    write_deltalake(str(tmp_path / "right" / "profiles"), pa.table({"canonical_id": [a]}), mode="overwrite")
    with pytest.raises(AssertionError, match="one profile a person"):
        naive.require_textbook_right(tmp_path / "right", files)


def test_every_question_is_a_module_that_says_what_it_asks() -> None:
    from importlib import import_module

    for name in ("stitch", "bootstrap", "map_growth", "driver_memory", "naive", "cluster"):
        module = import_module(f"benchmarks.{name}")
        assert (module.NAME, name in QUESTIONS) == (name, True)
        assert "?" in module.__doc__.splitlines()[0]
