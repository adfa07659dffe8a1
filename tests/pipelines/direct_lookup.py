"""`lookup: tables` without a JVM: what a batch asks is looked up in the published tables by Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.table_spec import TableSpec
from conf.tables import IDENTITY_DECISIONS, IDENTITY_MAP
from pipelines.state.decision_rows import rows_to_decisions
from pipelines.state.identity_state import pair_key
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from pipelines.state.table_state import PAIR, NothingPublished, TableState
from pipelines.tables.snapshot import Snapshot


class DirectLookUp:
    """A `LookUp` over one published snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self.batch_id = snapshot, snapshot.batch_id

    def rows(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: tuple[str, datetime, datetime] | None = None,
    ) -> pa.Table:
        rows = self._snapshot.arrow(spec)
        is_found = np.zeros(rows.num_rows, bool)
        for name, values in asked.items():
            if name == PAIR:
                has = pair_key(numpy_of(rows["left_node_id"]), numpy_of(rows["right_node_id"]))
            else:
                has = numpy_of(rows[name])
            is_found |= np.isin(has, values)
        if between is not None:
            name, low, high = between
            is_near = pc.and_(pc.greater_equal(rows[name], low), pc.less_equal(rows[name], high))
            is_found &= is_near.to_numpy()
        return rows.filter(pa.array(is_found)).select(columns)


def state_in_tables(snapshot: Snapshot | None, policy: Policy) -> LakeState:
    """As `open_state.state_opener("tables", …)` opens it."""
    if snapshot is None:
        return TableState(policy, NothingPublished())
    decisions = rows_to_decisions(snapshot.arrow(IDENTITY_DECISIONS))
    tenants = set(snapshot.arrow(IDENTITY_MAP, ["tenant"])["tenant"].to_pylist())
    return TableState(policy, DirectLookUp(snapshot), decisions, tenants)
