"""Reads what earlier batches have published: rows of ops.batches, and events for sessions that are cut again."""

from __future__ import annotations

from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from conf.tables import EVENTS
from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.lake import Lake
from pipelines.runtime.contained import contained
from transforms.activity.spans import EVENT_COLUMNS

_BOUNDS = ("min.event_at", "max.event_at")
_ROUNDING = pa.scalar(1000, pa.duration("us"))


def last_published_of(lake: Lake, stream: str) -> int:
    """The last of `stream`'s own batches that is published; -1 for none."""
    mine = (pc.field("stream") == stream) & pc.field("stream_batch_id").is_valid()
    rows = BatchRows(lake).newest_first(["stream", "stream_batch_id"], where=mine)
    return next((row["stream_batch_id"] for row in rows), -1)


def kinds_after(lake: Lake, batch_id: int) -> list[str]:
    """The kinds of the batches that were published after `batch_id`."""
    return BatchRows(lake).between(["kind"], batch_id + 1)["kind"].to_pylist()


class PublishedEvents:
    """Reads the published events of one lake, for sessions that have to be cut again."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._opened: tuple[int, pa.Table] | None = None

    def inside(self, windows: pa.Table, version: int | None) -> pa.Table:
        """EVENT_COLUMNS of the windows' anchors between the earliest start and the latest end, as of a version of
        silver.events; None where nothing has been published."""
        first, last = pc.min(windows["start_at"]), pc.max(windows["end_at"])
        paths = [] if version is None else self._files(version, first, last)
        if not paths:
            return EVENTS.arrow.empty_table().select(EVENT_COLUMNS)
        at = pc.field("event_at")
        return ds.dataset(paths, schema=EVENTS.arrow, format="parquet").to_table(
            columns=list(EVENT_COLUMNS),
            filter=pc.field("anchor_node_id").isin(windows["anchor_node_id"].unique())
            & (at >= first)
            & (at <= last),
        )

    def _files(self, version: int, first: pa.Scalar, last: pa.Scalar) -> list[str]:
        """The table's files that may have events between `first` and `last`.

        Found here, because delta-rs makes a dataset of all files, at two milliseconds each.
        """
        if self._opened is None or self._opened[0] != version:  # a batch may ask for several windows
            files = pa.table(self._lake.open(EVENTS, version).get_add_actions(flatten=True))
            self._opened = version, files.select([c for c in ("path", *_BOUNDS) if c in files.column_names])
        files = self._opened[1]
        if set(_BOUNDS) <= set(files.column_names):
            low, high = (files[c] for c in _BOUNDS)
            # Spark writes bounds in whole milliseconds, the rest cut off.
            is_near = pc.and_(pc.less_equal(low, last), pc.greater_equal(high, pc.subtract(first, _ROUNDING)))
            files = files.filter(pc.fill_null(is_near, True))
        folder = self._lake.table_path(EVENTS)
        return [str(contained(folder, unquote(path))) for path in files["path"].to_pylist()]
