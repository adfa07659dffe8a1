"""The soak's verdicts, and five hundred batches without a JVM."""

from __future__ import annotations

import gc
import random

import pytest

from benchmarks.soak import LIMITS, resident_megabytes, slope, verdicts
from conf.tables import ALL
from pipelines.lake.lake import with_hot_parts
from tests.pipelines.operations.upkeep.worlds import do_upkeep, filled, options


def samples(**series) -> list:
    return [
        (10 * n, {name: values[n] for name, values in series.items()})
        for n in range(len(next(iter(series.values()))))
    ]


def test_a_leak_is_found_and_noise_is_not():
    chance = random.Random(1)
    noisy = [200 + chance.uniform(-20, 20) for _ in range(40)]
    noisy[7] = 900  # one collection that came late
    leaking = [v + n * 3 for n, v in enumerate(noisy)]
    growing = [n / 10 for n in range(40)]
    found = {
        r["name"]: r["passed"]
        for r in verdicts(samples(heap_after_gc=noisy, python_memory=leaking, cached_blocks=growing))
    }
    assert found == {
        "soak.heap_after_gc_per_100_batches": True,
        "soak.python_memory_per_100_batches": False,
        "soak.cached_blocks_per_100_batches": False,
    }


def test_the_slope_is_that_of_a_line_and_ignores_a_few_odd_points():
    line = [(float(x), 2.0 * x + 1) for x in range(20)]
    assert slope(line) == 2
    assert slope([*line, (20.0, 10**6)]) == 2
    assert slope(line[:1]) == 0
    assert all(limit.amount > 0 for limit in LIMITS.values())


def _visits(batch: int) -> list[dict]:
    """The same people on the same devices, again and again: what the driver remembers of them does not grow."""
    return [
        {
            "event_id": f"{batch}-{n}",
            "timestamp": 1_700_000_000 + batch * 60 + n,
            "identifiers": {"user_id": f"u{n}", "device_id": f"d{n}"},
        }
        for n in range(5)
    ]


@pytest.mark.slow
def test_500_batches_leave_memory_and_files_as_they_are(tmp_path):
    world = filled(tmp_path / "lake", 0)
    found = []
    for batch in range(500):
        world.feed(_visits(batch))
        if batch % 20 == 19:
            world.processor.compact()
        if batch % 50 == 49:
            do_upkeep(world, options(batches=30))
            world.processor.last.refresh()
            gc.collect()
            files = [len(world.lake.open(s).file_uris()) for s in with_hot_parts(ALL)]
            on_disk = sum(1 for p in world.path.rglob("*") if p.is_file())
            values = {
                "python_memory": resident_megabytes(),
                "table_files": sum(files),
                "largest_table_files": max(files),
                "files_on_disk": on_disk,
            }
            found.append((batch, values))
    rows = verdicts(found[2:])
    assert all(row["passed"] for row in rows), rows
