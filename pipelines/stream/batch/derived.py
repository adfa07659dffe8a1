"""The second and third wave of a batch: derived rows for the hot parts and the log."""

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
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import Owned
from pipelines.stream.batch.intent import Intent
from pipelines.stream.batch.resolution import Identified


def linked_rows(identified: Identified, intent: Intent) -> dict[TableSpec, pa.Table]:
    """The second wave: identifiers, decisions, edges, redirects and refused edges."""
    lifted = {"left_node_id": identified.lifted_left, "right_node_id": identified.lifted_right}
    hot: list[tuple[TableSpec, pa.Table, rows.Columns]] = [
        (IDENTITY_DECISIONS, identified.decisions, _no_keys(IDENTITY_DECISIONS)),
        (IDENTITY_EDGES, identified.edges, _no_keys(IDENTITY_EDGES)),
        (IDENTITY_REDIRECTS, identified.redirects, {"retired_canonical_id": identified.reopened}),
        (REJECTED_EDGES, identified.refused, lifted),
    ]
    return {
        IDENTIFIERS: identified.identifiers,
        **{spec.hot: rows.hot_rows(spec, upserts, gone, intent.batch_id) for spec, upserts, gone in hot},
    }


def owned_rows(
    identified: Identified, owned: Owned, state: LakeState, intent: Intent
) -> dict[TableSpec, pa.Table]:
    """The third wave: the owners of nodes and of sessions, and the log."""
    batch_id, unclaimed = intent.batch_id, owned.unclaimed
    nobody, new = np.zeros(len(unclaimed), np.int64), np.full(len(unclaimed), "new", object)
    upserts = pa.concat_tables([identified.map_upserts, rows.map_rows(unclaimed, state, batch_id)])
    log = rows.log_rows(unclaimed, nobody, new, intent.batch_at, state, batch_id)
    return {
        IDENTITY_MAP.hot: rows.hot_rows(IDENTITY_MAP, upserts, {"node_id": owned.unclaimed_gone}, batch_id),
        IDENTITY_LOG: pa.concat_tables([identified.log, log]),
        SESSIONS.hot: owned.sessions,
    }


def _no_keys(spec: TableSpec) -> rows.Columns:
    return {k: pa.array([], spec.arrow.field(k).type) for k in spec.key}
