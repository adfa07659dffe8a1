"""Do several executors give the same tables, and at which speed? Two workers of their own beside the laptop setting.

`local-cluster[2,1,1024]`: a driver and two executors, each a process of its own on this machine; Spark commits every
write, and every look-up is a join with the tables. The same files through both, one file a batch.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks.live.oracle import require_right
from benchmarks.live.stream import Stream
from benchmarks.live.world import World, arrive, make_world
from benchmarks.report.harness import run_alone
from benchmarks.report.measured import Measured, Scale
from conf.settings import ENVIRONMENT_FOLDER
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES
from pipelines.lake.hashing_key import key_path
from pipelines.lake.snapshot import Snapshot
from pipelines.runtime.process_end import run_and_end
from tests.direct_lake import KEY
from transforms.compare.reconciliation import compare_states

NAME = "cluster"
MASTER = "local-cluster[2,1,1024]"
LONGEST_SECONDS = 1_800.0
ONE_FILE: dict[str, Any] = {"max_files_per_trigger": 1}


@dataclass(frozen=True)
class Plan:
    """Records in a file, and files: one batch each, of which the first warms up."""

    records: int
    files: int


PLANS: dict[Scale, Plan] = {
    "quick": Plan(200, 2),
    "usual": Plan(20_000, 3),
    "large": Plan(100_000, 5),
}


def measure(scale: Scale, folder: Path) -> list[Measured]:
    plan = PLANS[scale]
    world = make_world(folder, plan.records * plan.files, events_per_file=plan.records)
    sent = [file.read_bytes() for file in world.history]
    cluster = yaml.safe_load((ENVIRONMENT_FOLDER / "cluster.yaml").read_text(encoding="utf-8"))
    settings = {"laptop": ONE_FILE, "cluster": cluster | ONE_FILE | {"master": MASTER, "driver_memory": "2g"}}
    found = {name: _run(folder, name, sent, changed, world) for name, changed in settings.items()}
    _require_same(found["cluster"][0], found["laptop"][0])
    seconds = {name: [r["seconds"] for r in reports[1:]] for name, (_, reports) in found.items()}
    rate = {name: plan.records / statistics.median(values) * 60 for name, values in seconds.items()}
    conditions = {"master": MASTER, "records_per_batch": plan.records, "batches": plan.files - 1}
    steps = {s: round(v, 3) for s, v in found["cluster"][1][-1]["steps"].items()}
    return [
        Measured(
            f"{NAME}.batch_seconds",
            statistics.median(seconds["cluster"]),
            "s",
            (min(seconds["cluster"]), max(seconds["cluster"])),
            len(seconds["cluster"]),
            baseline={"laptop": round(statistics.median(seconds["laptop"]), 3)},
            conditions=conditions,
            note=f"same tables; the last batch's steps: {steps}",
        ),
        Measured(
            f"{NAME}.events_per_minute",
            rate["cluster"],
            "events/min",
            baseline={"laptop": round(rate["laptop"])},
            conditions=conditions,
        ),
    ]


def _run(
    folder: Path, name: str, files: list[bytes], changed: dict[str, Any], world: World
) -> tuple[Snapshot, list[dict[str, Any]]]:
    """Everything through one setting: (the published state, known to be right, a report a batch)."""
    made = folder / f"{name}-made"
    made.mkdir()
    (folder / name).mkdir()
    key_path(folder / name).write_bytes(KEY)  # one key for both, so that their nodes compare
    for n, content in enumerate(files):
        (made / f"{n:04d}.jsonl").write_bytes(content)
    landing = folder / "landing"  # one name for both: it is part of a record's origin
    shutil.rmtree(landing, ignore_errors=True)
    arrive(sorted(made.iterdir()), landing)
    stream = Stream(folder, name, landing, changed).start(once=True)
    try:
        stream.wait_end(LONGEST_SECONDS)
    finally:
        stream.kill()
    reports = stream.reports()
    assert len(reports) == len(files), f"{len(reports)} batches of {len(files)} files"
    return require_right(stream.lake, world.truth, world.history_count), reports


def _require_same(left: Snapshot, right: Snapshot) -> None:
    def state(snapshot: Snapshot) -> dict[TableSpec, pa.Table]:
        return {spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES}

    different = [str(d.table) for d in compare_states(state(left), state(right)) if not d.is_equal]
    assert not different, f"the cluster has other rows than the laptop in {', '.join(different)}"


if __name__ == "__main__":
    run_and_end(partial(run_alone, __name__))
