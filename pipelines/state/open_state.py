"""Opens the state that batches ask: in the driver's memory, or over the tables themselves."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow.compute as pc
from pyspark.sql import SparkSession

from conf.policy import Policy
from conf.settings import CHOICES
from conf.tables import BATCHES, EVENTS, IDENTITY_DECISIONS, IDENTITY_EDGES, IDENTITY_MAP, SESSIONS
from pipelines.lake.snapshot import Snapshot
from pipelines.state.arrow_lookup import ArrowLookup
from pipelines.state.decision_rows import rows_to_decisions
from pipelines.state.lake_state import LakeState
from pipelines.state.spark_lookup import SparkLookup
from pipelines.state.table_state import NothingPublished, TableState

OpenState = Callable[[Snapshot | None], LakeState]


def state_opener(choice: str, policy: Policy, spark: SparkSession | None, tables_from_rows: int) -> OpenState:
    """How to get the state as of a published snapshot: `driver`, `tables`, or `auto`: tables from that many rows on.

    Without Spark the tables are read in this process, a portion at a time.
    """
    if choice not in CHOICES["lookup"]:
        raise ValueError(f"lookup: {choice!r} is none of {', '.join(CHOICES['lookup'])}")

    tenants = _Tenants()

    def from_tables(snapshot: Snapshot | None) -> LakeState:
        if snapshot is None:
            return TableState(policy, NothingPublished())
        decisions = rows_to_decisions(snapshot.arrow(IDENTITY_DECISIONS))
        look_up = ArrowLookup(snapshot) if spark is None else SparkLookup(snapshot, spark)
        return TableState(policy, look_up, decisions, tenants.of(snapshot, look_up))

    def in_driver(snapshot: Snapshot | None) -> LakeState:
        return LakeState.load(snapshot, policy, tables_from_rows if choice == "auto" else None)

    if choice == "auto":
        return _WhicheverFits(in_driver, from_tables, tables_from_rows)
    return from_tables if choice == "tables" else in_driver


class _Tenants:
    """The tenants of one lake: read from its nodes once, and then what every batch says that it has brought."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._upto = 0

    def of(self, snapshot: Snapshot, look_up: SparkLookup | ArrowLookup) -> set[str]:
        since = snapshot.lake.open(BATCHES).to_pyarrow_dataset(schema=BATCHES.arrow)
        is_new = (pc.field("batch_id") > self._upto) & (pc.field("batch_id") <= snapshot.batch_id)
        batches = since.to_table(columns=["kind", "new_tenants"], filter=is_new)
        if not self._upto or "rebuild" in batches["kind"].to_pylist():
            self._known = set(look_up.distinct(IDENTITY_MAP, "tenant"))
        else:
            self._known.update(pc.list_flatten(batches["new_tenants"]).to_pylist())
        self._upto = snapshot.batch_id
        return self._known


class _WhicheverFits:
    """The driver's memory until a lake has outgrown it; from then on the tables."""

    def __init__(self, in_driver: OpenState, from_tables: OpenState, tables_from_rows: int) -> None:
        self._in_driver, self._from_tables, self._limit = in_driver, from_tables, tables_from_rows
        self._last: LakeState | None = None
        self._is_outgrown = False

    def __call__(self, snapshot: Snapshot | None) -> LakeState:
        rows = row_count(snapshot) if snapshot is not None else 0
        self._is_outgrown |= max(rows, len(self._last) if self._last is not None else 0) > self._limit
        self._last = None  # before the next one is made, so that memory need not hold both
        if self._is_outgrown:
            return self._from_tables(snapshot)
        self._last = self._in_driver(snapshot)
        return self._last


def row_count(snapshot: Snapshot) -> int:
    """About how many rows the driver would have to hold, from the tables' logs alone."""
    specs = (
        EVENTS,
        IDENTITY_MAP,
        IDENTITY_MAP.hot,
        IDENTITY_EDGES,
        IDENTITY_EDGES.hot,
        SESSIONS,
        SESSIONS.hot,
    )
    versions = [(spec, snapshot.version(spec)) for spec in specs]
    return sum(snapshot.lake.open(spec, v).count() for spec, v in versions if v is not None)
