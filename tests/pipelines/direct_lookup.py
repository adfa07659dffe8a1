"""`lookup: tables` without a JVM."""

from __future__ import annotations

from conf.policy import Policy
from pipelines.lake.snapshot import Snapshot
from pipelines.state.lake_state import LakeState
from pipelines.state.open_state import state_opener


def state_in_tables(snapshot: Snapshot | None, policy: Policy) -> LakeState:
    """The state as a process without Spark opens it."""
    return state_opener("tables", policy, None, 0)(snapshot)
