"""In the batch: every event has one outcome or the line stops, and what is odd about events is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from conf.tables import ALL, BATCHES
from pipelines.lake.lake import with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.stream.batch import judged
from quality.punctuality import AHEAD_BY_SECONDS, LATE_AFTER_SECONDS, punctuality
from tests.quality.conftest import feed, line, processor_of
from transforms.ingest.deduplication import (
    ConservationError,
    DeduplicationOutcome,
    judge_duplicates,
    require_conservation,
)


def outcome(
    valid: list[int], duplicate: list[int], conflicting: list[int], refused: list[int]
) -> DeduplicationOutcome:
    return DeduplicationOutcome(*(np.array(mask, bool) for mask in (valid, duplicate, conflicting, refused)))


def test_each_event_has_exactly_one_standing():
    require_conservation(3, outcome([1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]))


@pytest.mark.parametrize(
    "broken",
    [
        outcome([1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]),  # one has none
        outcome([1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]),  # one has two
        outcome([1, 0], [0, 1], [0, 0], [0, 0]),  # one is gone
        # Two wrongs that add up: three received, and one valid, one duplicate, one refused.
        outcome([1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]),
    ],
    ids=["none", "two", "gone", "the sums agree"],
)
def test_anything_else_is_an_error(broken):
    with pytest.raises(ConservationError, match=r"3 events received, \d of them accounted for exactly once"):
        require_conservation(3, broken)


@pytest.mark.thorough
def test_a_broken_outcome_stops_the_stream_and_nothing_is_written(clean_lake, copy_of, monkeypatch):
    """Seen to fail: without `require_conservation` in the batch, batch 5 is published with an event less."""
    lake = copy_of(clean_lake)
    processor = processor_of(lake)
    before = published(lake).batch_id
    versions = {spec.full_name: lake.version(spec) for spec in with_hot_parts(ALL)}
    lines = [line(20, 400, "page_view", device_id="dev-ada"), line(21, 401, "page_view", device_id="dev-bob")]

    def forgetful(*given: np.ndarray) -> DeduplicationOutcome:
        outcome = judge_duplicates(*given)
        outcome.valid[0] = False
        return outcome

    monkeypatch.setattr(judged, "judge_duplicates", forgetful)
    with pytest.raises(ConservationError, match="2 events received, 1 of them"):
        feed(processor, lines, 9)
    assert isinstance(processor.failure, ConservationError)
    assert published(lake).batch_id == before
    assert {spec.full_name: lake.version(spec) for spec in with_hot_parts(ALL)} == versions

    monkeypatch.undo()
    feed(processor, lines, 9)
    assert published(lake).batch_id == before + 1
    assert published(lake).row["valid_count"] == 2


def test_late_and_future_events_are_counted_from_their_limits_on():
    received = datetime(2026, 3, 1, 12, tzinfo=UTC)
    batch_at = received + timedelta(minutes=10)
    late, ahead = timedelta(seconds=LATE_AFTER_SECONDS), timedelta(seconds=AHEAD_BY_SECONDS)
    tick = timedelta(microseconds=1)
    at = [received - late, received - late - tick, batch_at + ahead, batch_at + ahead + tick, received]
    rows = pa.table({"event_at": at, "received_at": [received] * 4 + [None]})
    micros = int(batch_at.timestamp() * 1_000_000)
    assert punctuality(rows, micros) == {"late_event_count": 1, "future_event_count": 1}
    assert punctuality(rows.slice(0, 0), micros) == {"late_event_count": 0, "future_event_count": 0}


@pytest.mark.thorough
def test_ops_batches_counts_what_is_odd(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    far_ahead = (datetime.now(UTC) + timedelta(days=3)).timestamp()
    feed(
        processor_of(lake),
        [
            line(30, 0, "page_view", device_id="dev-ada", shoe_size="44"),  # a namespace that nobody knows
            line(31, int(far_ahead - 1_760_000_000) // 60, "page_view", device_id="dev-ada"),
            line(32, -10_000, "page_view", device_id="dev-ada"),
            line(1, 7, "page_view", device_id="dev-bob"),  # e1 again, with other content
            b"{",
        ],
        9,
    )
    batches = published(lake).arrow(BATCHES).sort_by("batch_id")
    metrics = dict(batches["metrics"][-1].as_py())
    assert metrics["future_event_count"] == 1
    assert metrics["late_event_count"] >= 1
    assert metrics["conflicting_duplicate_count"] == 1
    assert [name for name in metrics if name.startswith("flag_")]
    assert sum(count for name, count in metrics.items() if name.startswith("reason_")) == 1
