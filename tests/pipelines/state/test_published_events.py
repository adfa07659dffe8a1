"""Events that have been published, for a session that has to be cut again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from conf.tables import EVENTS
from pipelines.state.published_events import PublishedEvents
from tests.direct_lake import DirectLake
from transforms.activity.sessions import EXPANSIONS
from transforms.activity.spans import EVENT_COLUMNS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def window(lake: DirectLake, start: datetime, end: datetime) -> pa.Table:
    anchors = lake.lake.open(EVENTS).to_pyarrow_table(columns=["anchor_node_id"])["anchor_node_id"].unique()
    row = {"anchor_node_id": anchors[0].as_py(), "start_at": start, "end_at": end}
    return pa.Table.from_pylist([row], EXPANSIONS)


@pytest.mark.thorough
def test_only_the_window_is_read_and_only_what_is_published(tmp_path: Path) -> None:
    """Both ends belong to it, to the microsecond; a commit that no batch has published is not there."""
    lake = DirectLake(tmp_path / "lake")
    assert PublishedEvents(lake.lake).inside(EXPANSIONS.empty_table(), None).num_rows == 0
    times = [NOON + timedelta(hours=n, microseconds=999_999) for n in range(4)]
    for n, at in enumerate(times):
        lake.feed([{"event_id": str(n), "timestamp": at.isoformat(), "identifiers": {"device_id": "d-1"}}])
    events, version = PublishedEvents(lake.lake), lake.lake.version(EVENTS)
    found = events.inside(window(lake, times[1], times[2]), version)
    assert (found.column_names, sorted(found["event_id"].to_pylist())) == (list(EVENT_COLUMNS), ["1", "2"])
    later = window(lake, times[3], times[3])
    assert events.inside(later, version)["event_id"].to_pylist() == ["3"]
    assert events.inside(later, version - 1).num_rows == 0
    assert events.inside(window(lake, NOON - timedelta(days=9), NOON), version).num_rows == 0
