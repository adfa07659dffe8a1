"""What every test may ask for. The Spark session is lazy: a run without Spark tests starts no JVM and takes seconds."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.engine import MASTER
from tests.examples import IS_QUICK, examples

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TEST_SETTINGS = {
    "spark.sql.shuffle.partitions": "2",  # two cores, tiny frames
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "false",  # replanning costs more than any of these queries
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    # Every test runs cold code: without the second compiler the first queries take half the time.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}

# No deadline anywhere: a busy machine is not a defect. A failure prints what reproduces it.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile(
    "ci", deadline=None, print_blob=True, derandomize=False, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", deadline=None, print_blob=True, max_examples=examples(100))
settings.load_profile("quick" if IS_QUICK else "ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_seed", default=None) is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    return f"to repeat this run's random choices: --hypothesis-seed={config.option.hypothesis_seed}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # `fixturenames` is the closure: a test that uses `spark` through another fixture is marked as well.
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of the run. Tests leave it as they found it: no settings, views or streams of theirs."""
    from pipelines.session import build_session

    session = build_session(
        "stitchlake-tests",
        MASTER,
        extra=TEST_SETTINGS,
        driver_memory="3g",
        checkpoint_dir=tmp_path_factory.mktemp("checkpoints"),
    )
    yield session
    session.stop()


@pytest.fixture
def lake_dir(tmp_path: Path) -> Path:
    """An empty folder for a lake of the test's own."""
    lake = tmp_path / "lake"
    lake.mkdir()
    return lake
