"""Which Spark the tests run on: one process, unless `make test-cluster` asks for executors of their own."""

from __future__ import annotations

import os

MASTER = os.environ.get("STITCHLAKE_TEST_MASTER", "local[2]")
ENVIRONMENT = os.environ.get(
    "STITCHLAKE_TEST_ENV", "laptop"
)  # of conf/environments: who writes, who looks up
IS_CLUSTER = MASTER.startswith("local-cluster")
