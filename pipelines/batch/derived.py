"""What a batch derived from its events, as rows for the hot parts and the log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import (
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    PROFILES,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.batch import rows
from pipelines.batch.activity import Active
from pipelines.batch.intent import Intent
from pipelines.batch.resolution import Identified
from pipelines.state.lake_state import LakeState


def derived_rows(
    identified: Identified, active: Active, state: LakeState, intent: Intent
) -> dict[TableSpec, pa.Table]:
    """The second wave of a batch's writes."""
    batch_id = intent.batch_id
    map_upserts = pa.concat_tables([identified.map_upserts, rows.map_rows(active.unclaimed, state, batch_id)])
    new = np.full(len(active.unclaimed), "new", object)
    nobody = np.zeros(len(active.unclaimed), np.int64)
    log = rows.log_rows(active.unclaimed, nobody, new, intent.batch_at, state, batch_id)
    lifted = {"left_node_id": identified.lifted_left, "right_node_id": identified.lifted_right}
    hot: list[tuple[TableSpec, pa.Table, rows.Columns]] = [
        (IDENTITY_DECISIONS, identified.decisions, _no_keys(IDENTITY_DECISIONS)),
        (IDENTITY_EDGES, identified.edges, _no_keys(IDENTITY_EDGES)),
        (IDENTITY_MAP, map_upserts, {"node_id": active.unclaimed_gone}),
        (IDENTITY_REDIRECTS, identified.redirects, {"retired_canonical_id": identified.reopened}),
        (REJECTED_EDGES, identified.refused, lifted),
    ]
    return {
        IDENTIFIERS: identified.identifiers,
        IDENTITY_LOG: pa.concat_tables([identified.log, log]),
        **{spec.hot: rows.hot_rows(spec, upserts, gone, batch_id) for spec, upserts, gone in hot},
        SESSIONS.hot: active.sessions,
        PROFILES.hot: active.profiles,
    }


def _no_keys(spec: TableSpec) -> rows.Columns:
    return {k: pa.array([], spec.arrow.field(k).type) for k in spec.key}
