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
from tests.examples import examples

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

# No deadline anywhere: a busy machine is not a defect. No example database: a run does not depend on the one before.
# Examples are the same in every run, unless `make test-random` looks for others; a failure prints what reproduces it.
IS_RANDOM = bool(os.environ.get("STITCHLAKE_RANDOM_TESTS"))
settings.register_profile(
    "tests",
    deadline=None,
    database=None,
    print_blob=True,
    derandomize=not IS_RANDOM,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if IS_RANDOM and config.getoption("hypothesis_seed", default=None) is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("hypothesis_seed", default=None)
    if seed is None:
        return "examples: the same in every run; `make test-random` looks for others"
    again = "make test-random" if IS_RANDOM else "make test"
    return f'examples: random; these again: {again} ARGS="--hypothesis-seed={seed}"'


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # What a test draws from `random` does not depend on the tests before it.
    random.seed(f"{item.config.getoption('hypothesis_seed', default=None)} {item.nodeid}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # `fixturenames` is the closure: a test that uses `spark` through another fixture is marked as well.
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)
    # What takes no time first: most mistakes show within a minute. Files stay whole, a worker takes one at a time.
    late = {item.path for item in items if any(map(item.get_closest_marker, ("spark", "thorough", "slow")))}
    items.sort(key=lambda item: item.path in late)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of the run. Tests leave it as they found it: no settings, views or streams of theirs."""
    from pipelines.runtime.session import build_session

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
