"""What earlier batches have left: their rows in ops.batches, and the events that a session is cut from again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import BATCHES, EVENTS
from pipelines.state.lake_state import LakeState
from pipelines.state.table_state import TableState
from pipelines.tables.lake import Lake
from pipelines.tables.snapshot import published


def last_published_of(lake: Lake, stream: str) -> int:
    """The last of `stream`'s own batches that is published; -1 for none."""
    rows = lake.open(BATCHES).to_pyarrow_dataset()
    numbers = rows.to_table(columns=["stream_batch_id"], filter=pc.field("stream") == stream)
    return max((b for b in numbers["stream_batch_id"].to_pylist() if b is not None), default=-1)


def kinds_after(lake: Lake, batch_id: int) -> list[str]:
    """The kinds of the batches that were published after `batch_id`."""
    rows = lake.open(BATCHES).to_pyarrow_dataset()
    return rows.to_table(columns=["kind"], filter=pc.field("batch_id") > batch_id)["kind"].to_pylist()


def events_in(windows: pa.Table, lake: Lake, state: LakeState | None) -> pa.Table:
    """Published events of the windows' anchors between the earliest start and the latest end."""
    if isinstance(state, TableState):
        return state.events_in(windows)
    snapshot = published(lake)
    if snapshot is None:
        return EVENTS.arrow.empty_table()
    at = pc.field("event_at")
    return snapshot.dataset(EVENTS).to_table(
        filter=pc.field("anchor_node_id").isin(windows["anchor_node_id"].unique())
        & (at >= pc.min(windows["start_at"]))
        & (at <= pc.max(windows["end_at"]))
    )
