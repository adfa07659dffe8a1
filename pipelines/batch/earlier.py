"""What earlier batches have left: their rows in ops.batches, and the events that a session is cut from again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from conf.tables import BATCHES, EVENTS
from pipelines.tables.lake import Lake
from transforms.spans import EVENT_COLUMNS


def last_published_of(lake: Lake, stream: str) -> int:
    """The last of `stream`'s own batches that is published; -1 for none."""
    rows = lake.open(BATCHES).to_pyarrow_dataset()
    numbers = rows.to_table(columns=["stream_batch_id"], filter=pc.field("stream") == stream)
    return max((b for b in numbers["stream_batch_id"].to_pylist() if b is not None), default=-1)


def kinds_after(lake: Lake, batch_id: int) -> list[str]:
    """The kinds of the batches that were published after `batch_id`."""
    rows = lake.open(BATCHES).to_pyarrow_dataset()
    return rows.to_table(columns=["kind"], filter=pc.field("batch_id") > batch_id)["kind"].to_pylist()


class PublishedEvents:
    """The events of one lake as they were last published, for whoever has to cut a session again."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._opened: tuple[int, ds.Dataset] | None = None

    def inside(self, windows: pa.Table, version: int | None) -> pa.Table:
        """EVENT_COLUMNS of the windows' anchors between the earliest start and the latest end, as of a version of
        silver.events; None where nothing has been published."""
        if version is None:
            return EVENTS.arrow.empty_table().select(EVENT_COLUMNS)
        if self._opened is None or self._opened[0] != version:  # a batch may ask for several windows
            table = self._lake.open(EVENTS, version)
            self._opened = version, table.to_pyarrow_dataset(schema=EVENTS.arrow)
        at = pc.field("event_at")
        return self._opened[1].to_table(
            columns=list(EVENT_COLUMNS),
            filter=pc.field("anchor_node_id").isin(windows["anchor_node_id"].unique())
            & (at >= pc.min(windows["start_at"]))
            & (at <= pc.max(windows["end_at"])),
        )
