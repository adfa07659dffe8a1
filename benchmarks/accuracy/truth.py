"""How right is it? Generated events through the real stream, held against the generator's truth and three baselines.

`python -m benchmarks.accuracy.truth` prints the table and writes benchmarks/results/latest.jsonl. Exit code 1 when a
person whose evidence is complete is not exactly right.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from benchmarks.accuracy.pairs import Assignment, read_truth
from benchmarks.accuracy.scoring import Measurement, as_rows, measure, measure_baselines, report
from benchmarks.report.record import record
from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.apps.results import connect
from pipelines.apps.run_stream import run_stream
from pipelines.generator import generate
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.stream.source import Source

OWNERS = """
SELECT i.tenant, i.namespace, i.value, m.canonical_id
FROM silver.identity_map_live m JOIN silver.identifiers i USING (node_id)
"""
# What a shared device saw when nobody was logged in is nobody's: null, and not a person of its own.
EVENT_OWNERS = """
SELECT tenant, event_id, CASE WHEN owner_node_id < 0 THEN NULL ELSE canonical_id END AS canonical_id FROM gold.events
"""
EVENTS = (
    "SELECT tenant, event_id, event_at, platform, anchor_node_id, user_node_id, node_ids FROM silver.events"
)
IDENTIFIERS = "SELECT tenant, node_id, namespace, value FROM silver.identifiers"


def measure_lake(lake: Path, truth_file: Path) -> list[Measurement]:
    """Stitchlake's people and the baselines', over the same events of a lake."""
    truth = read_truth(truth_file)
    with connect(lake) as db:

        def rows(sql: str) -> pa.Table:
            return db.sql(sql).to_arrow_table()

        ours = measure(
            truth,
            Assignment("stitchlake", rows(OWNERS), rows(EVENT_OWNERS)),
            rows("SELECT * FROM gold.profiles_live"),
        )
        return [ours, *measure_baselines(truth, rows(EVENTS), rows(IDENTIFIERS))]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.truth", description=__doc__)
    p.add_argument("--persons", type=int, default=8_000)
    p.add_argument("--events", type=int, default=100_000)
    p.add_argument("--seed", type=int, default=7)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="stitchlake-truth-") as scratch:
        folder = Path(scratch)
        generate(args.persons, args.events, args.seed, folder / "events", truth=folder / "truth.jsonl")
        settings = replace(load_settings(), max_files_per_trigger=1)
        spark = build_session("stitchlake truth", settings.master, driver_memory=settings.driver_memory)
        source = Source("native", str(folder / "events"), "file", "native:truth")
        run_stream(spark, folder / "lake", [source], load_policy(), settings, once=True)
        measured = measure_lake(folder / "lake", folder / "truth.jsonl")
    print(report(measured))
    record("accuracy.", [{**row, "conditions": vars(args)} for row in as_rows(measured)])
    exact = measured[0].exact
    return 0 if exact is not None and exact.is_exact else 1


if __name__ == "__main__":
    run_and_end(main)
