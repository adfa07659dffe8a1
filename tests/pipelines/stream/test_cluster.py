"""On a cluster: what executors share with the driver is the lake and the landing folder, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

import conf
from conf.tables import BATCHES
from pipelines.lake.snapshot import published
from pipelines.state.open_state import state_opener
from pipelines.state.table_state import TableState
from tests.engine import IS_CLUSTER, MASTER
from tests.pipelines.conftest import KEY

pytestmark = pytest.mark.skipif(
    not IS_CLUSTER, reason="needs executors in processes of their own: make test-cluster"
)


def _ask_executors(spark) -> list[dict]:
    """What a Python worker of each executor sees."""

    def look(batches):
        import time
        from pathlib import Path

        import conf

        for _ in batches:
            pass
        time.sleep(2)  # long enough for the other executor to take the other task
        environment = b"\x00".join(f"{k}={v}".encode() for k, v in os.environ.items())
        spark_home = Path(os.getcwd())
        yield pa.RecordBatch.from_pylist(
            [
                {
                    "folder": str(spark_home),
                    "program": str(Path(conf.__file__).parent.parent),
                    "environment": environment,
                }
            ]
        )

    schema = "folder string, program string, environment binary"
    return spark.range(0, 2, 1, 2).mapInArrow(look, schema).toArrow().to_pylist()


def test_executors_are_processes_of_their_own_that_run_this_program_and_are_not_told_the_key(
    spark, make_lake
):
    assert spark.sparkContext.master == MASTER
    world = make_lake()
    world.drop(
        "1.jsonl",
        [{"event_id": "a", "timestamp": 1_772_000_000, "identifiers": {"email": "ada@example.org"}}],
    )
    world.once()
    seen = _ask_executors(spark)
    assert len({row["folder"] for row in seen}) == 2
    assert {row["program"] for row in seen} == {str(Path(conf.__file__).absolute().parent.parent)}
    settings = "\n".join(f"{k}={v}" for k, v in spark.sparkContext.getConf().getAll()).encode()
    told = [settings, *(row["environment"] for row in seen)]
    # What executors print stays in their working folders.
    told += [log.read_bytes() for row in seen for log in Path(row["folder"]).glob("std*")]
    for text in told:
        for secret in (KEY, KEY.hex().encode(), b"ada@example.org"):
            assert secret not in text


def test_a_clusters_settings_keep_nothing_of_the_lake_in_the_driver(make_lake):
    world = make_lake()
    assert (world.settings.writer, world.settings.lookup) == ("spark", "tables")
    world.drop("1.jsonl", [{"event_id": "a", "timestamp": 1_772_000_000, "identifiers": {"cookie_id": "c"}}])
    world.once()
    snapshot = published(world.lake)
    state = state_opener(world.settings.lookup, world.policy, world.spark, 0)(snapshot)
    assert isinstance(state, TableState)
    assert len(state) == 0
    (batch,) = (row for row in world.rows(BATCHES) if row["kind"] == "batch")
    assert dict(batch["step_seconds"])["look_up"] >= 0
