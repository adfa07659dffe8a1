"""Every scenario through the real stream, into one lake per policy: a case is a tenant, a batch of it a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from conf.tables import EVENTS, IDENTIFIERS, IDENTITY_MAP, PROFILES, QUARANTINE, REJECTED_EDGES, SESSIONS
from pipelines.lake.views import register_duckdb
from tests.pipelines.conftest import TestLake
from tests.scenarios.cases import all_cases, arrivals, cases_of, policy_of
from tests.scenarios.outcome import check, outcomes_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ALWAYS = {"default", "attach_weak"}
POLICIES = [
    pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow)
    for name in sorted({case.policy for case in all_cases()})
]


@pytest.mark.parametrize("policy", POLICIES)
def test_scenarios_through_a_stream(spark: SparkSession, tmp_path: Path, policy: str) -> None:
    cases = cases_of(policy)
    world = TestLake(spark, tmp_path / "world", policy=policy_of(policy), max_files_per_trigger=1)
    for number, records in enumerate(arrivals(cases), 1):
        world.drop(f"{number:03}.jsonl", records)
    world.once()
    with duckdb.connect() as db:
        register_duckdb(db, world.lake)
        intervals = db.sql("SELECT * FROM silver.device_ownership").to_arrow_table().to_pylist()
    found = outcomes_of(
        identifiers=world.rows(IDENTIFIERS),
        owners=world.rows(IDENTITY_MAP),
        refusals=world.rows(REJECTED_EDGES),
        events=world.rows(EVENTS),
        sessions=world.rows(SESSIONS),
        quarantine=world.rows(QUARANTINE),
        profiles=world.rows(PROFILES),
        intervals=intervals,
    )
    for case in cases:
        check(case, found[case.name])
