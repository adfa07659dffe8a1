"""A reader of the published gold: when does a person's row with her latest event in it come into sight?

It knows nothing but the lake's folder. It sees a batch once ops.batches has its row, then reads the person rows that
the batch has written, at the versions that were published; the moment at which it has them in hand is what counts.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from conf.table_spec import DELETED, TableSpec
from conf.tables import BATCHES, EVENTS, IDENTITY_LOG, PROFILES
from pipelines.lake.lake import Lake
from pipelines.lake.live_rows import UPDATED
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.writing.data_files import files_with_more

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Sight:
    """One published batch as the reader saw it: `persons` has canonical_id and last_seen_at of its upserts."""

    batch_id: int
    seen_at: float  # seconds since 1970
    persons: pa.Table


class GoldReader(threading.Thread):
    """Follows a lake from the batch after `after` until `stop`."""

    def __init__(self, lake: Path, after: int = 0) -> None:
        super().__init__(name="gold-reader", daemon=True)
        self.lake, self.sights = Lake(lake), list[Sight]()
        self.failure: BaseException | None = None
        self._last, self._stop_asked = after, threading.Event()

    def run(self) -> None:
        try:
            while not self.lake.has(BATCHES):
                if self._stop_asked.wait(POLL_SECONDS):
                    return
            version = -1
            log = self.lake.table_path(BATCHES) / "_delta_log"
            while True:
                is_last = self._stop_asked.is_set()
                if version < 0 or is_last or (log / f"{version + 1:020d}.json").exists():
                    version = self._look()
                if is_last:
                    return
                self._stop_asked.wait(POLL_SECONDS)
        except BaseException as e:
            self.failure = e

    def stop(self) -> list[Sight]:
        """Look once more, then end."""
        self._stop_asked.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        return self.sights

    def _look(self) -> int:
        """See every batch that has been published since; returns the version of ops.batches."""
        table = self.lake.open(BATCHES)
        batches = self._rows(BATCHES, table, "batch_id", self._last, ["batch_id", "kind", "table_versions"])
        for row in sorted(batches.to_pylist(), key=lambda r: r["batch_id"]):
            if row["kind"] == "batch":
                hot = self.lake.open(PROFILES.hot, dict(row["table_versions"])[PROFILES.hot.full_name])
                seen = ["canonical_id", "last_seen_at", DELETED]
                rows = self._rows(PROFILES.hot, hot, UPDATED, self._last, seen)
                persons = rows.filter(pc.invert(rows[DELETED])).drop_columns([DELETED])
                self.sights.append(Sight(row["batch_id"], time.time(), persons))
            self._last = row["batch_id"]
        return table.version()

    def _rows(
        self, spec: TableSpec, table: DeltaTable, column: str, than: int, columns: list[str]
    ) -> pa.Table:
        """The rows in which `column` is greater than that, read from the files that may have any."""
        folder = self.lake.table_path(spec)
        files = [str(folder / path) for path in files_with_more(table, column, than)]
        if not files:
            return spec.arrow.empty_table().select(columns)
        return ds.dataset(files, schema=spec.arrow).to_table(columns=columns, filter=pc.field(column) > than)


@dataclass(frozen=True)
class Freshness:
    """Per live event: its time, and how much later its person's row was in sight; both in seconds.

    `unfollowed_count` is of events whose person the reader cannot tell, such as anonymous ones on shared devices.
    """

    event_id: np.ndarray
    produced_at: np.ndarray
    seconds: np.ndarray
    batch_id: np.ndarray
    unfollowed_count: int

    def between(self, start: float, end: float) -> np.ndarray:
        """The seconds of the events produced in that span."""
        return self.seconds[(self.produced_at > start) & (self.produced_at <= end)]


def freshness_of(snapshot: Snapshot, sights: list[Sight]) -> Freshness:
    """How old every event of the sighted batches was when its person's row, with it, was seen in gold.

    The person is the owner of the event's user, or else of its anchor, as of the event's batch. Her row counts if the
    batch wrote it and it is last seen at the event's time or later; otherwise the event is unfollowed.
    """
    first = min((s.batch_id for s in sights), default=0)
    columns = ["event_id", "event_at", "user_node_id", "anchor_node_id", "batch_id"]
    events = snapshot.dataset(EVENTS).to_table(columns=columns, filter=pc.field("batch_id") >= first)
    node = pc.coalesce(events["user_node_id"], events["anchor_node_id"])
    frame = pd.DataFrame(
        {
            "event_id": events["event_id"].to_pandas(),
            "at": events["event_at"].cast(pa.int64()).to_numpy(),
            "node_id": node.to_numpy(),
            "batch_id": events["batch_id"].to_numpy(),
        }
    )
    log = snapshot.arrow(IDENTITY_LOG, ["node_id", "batch_id", "to_canonical_id"]).to_pandas()
    owned = pd.merge_asof(
        frame.sort_values("batch_id", kind="stable"),
        log[log["node_id"].isin(frame["node_id"])].sort_values("batch_id", kind="stable"),
        on="batch_id",
        by="node_id",
    ).rename(columns={"to_canonical_id": "canonical_id"})
    seen = pd.concat(
        [
            pd.DataFrame(
                {
                    "batch_id": s.batch_id,
                    "canonical_id": s.persons["canonical_id"].to_numpy(),
                    "last_seen": s.persons["last_seen_at"].cast(pa.int64()).to_numpy(),
                    "seen_at": s.seen_at,
                }
            )
            for s in sights
        ]
        or [pd.DataFrame({"batch_id": [], "canonical_id": [], "last_seen": [], "seen_at": []})]
    )
    found = owned.dropna(subset=["canonical_id"]).astype({"canonical_id": "int64"})
    found = found.merge(seen, on=["batch_id", "canonical_id"])
    found = found[found["last_seen"] >= found["at"]]
    produced = found["at"].to_numpy() / 1e6
    return Freshness(
        found["event_id"].to_numpy(object),
        produced,
        found["seen_at"].to_numpy() - produced,
        found["batch_id"].to_numpy(),
        len(frame) - len(found),
    )
