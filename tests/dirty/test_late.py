"""Late and early: an event of any moment between 1990 and 2100 changes what it is near to, and freezes nothing.

Through the real batch function into real tables, without a JVM.
"""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conf.tables import BATCHES, EVENTS, IDENTITY_EDGES, IDENTITY_MAP, PROFILES, SESSIONS
from tests.dirty.direct_lake import DirectLake
from tests.examples import examples
from transforms.activity.session_reach import apart
from transforms.activity.sessions import EXPANSIONS

FIRST, LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Record = dict[str, Any]


def event(number: object, at: datetime, kind: str = "page_view", **identifiers: str) -> Record:
    return {
        "event_id": f"e{number}",
        "timestamp": at.isoformat(),
        "event_type": kind,
        "identifiers": identifiers,
    }


def minutes(n: float) -> datetime:
    return NOON + timedelta(minutes=n)


NEAR = st.integers(0, 10).map(
    lambda quarters: minutes(quarters * 15)
)  # to one another, or there is nothing to see
AT_AN_END = st.tuples(st.booleans(), st.integers(0, 4)).map(
    lambda end: LAST - timedelta(minutes=15 * end[1]) if end[0] else FIRST + timedelta(minutes=15 * end[1])
)
ANYWHERE = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
MOMENTS = st.one_of(NEAR, NEAR, NEAR, AT_AN_END, ANYWHERE)
IDENTIFIERS = st.lists(
    st.sampled_from(
        ["device_id:d1", "device_id:d1", "device_id:d2", "user_id:u1", "user_id:u2", "email:e@x.example"]
    ),
    min_size=1,
    max_size=3,
).map(lambda names: dict(name.split(":") for name in names))
KINDS = st.sampled_from(["page_view", "page_view", "login", "logout"])


# One after the other: with this seed the later one comes alone, and the session before it has to be read.
TWO = [(minutes(15 * n), "page_view", {"device_id": "d1"}) for n in range(2)]


@pytest.mark.thorough
@settings(max_examples=examples(4), deadline=None)
@example(TWO, random.Random(0), 2, False)
@given(
    st.lists(st.tuples(MOMENTS, KINDS, IDENTIFIERS), min_size=8, max_size=16),
    st.randoms(use_true_random=False),
    st.integers(2, 5),
    st.booleans(),
)
def test_any_arrival_of_events_of_any_time_gives_what_all_at_once_gives(
    tmp_path_factory, events, chance, parts, is_compacted
):
    """Seen to fail, by its example, when `closure` takes no session before a new event."""
    records = [event(n, at, kind, **identifiers) for n, (at, kind, identifiers) in enumerate(events)]
    whole, cut = (DirectLake(tmp_path_factory.mktemp("late") / "lake") for _ in range(2))
    whole.land_records(records)
    chance.shuffle(records)
    cuts = sorted(chance.randint(0, len(records)) for _ in range(parts - 1))
    for a, b in itertools.pairwise([0, *cuts, len(records)]):
        if a < b:
            cut.land_records(records[a:b])
            if is_compacted:
                cut.processor.compact()
    specs = (EVENTS, IDENTITY_EDGES, IDENTITY_MAP, SESSIONS, PROFILES)
    assert cut.contents(*specs) == whole.contents(*specs)


def bounds(lake: DirectLake) -> list[tuple[datetime, datetime, int]]:
    return sorted((r["start_at"], r["end_at"], r["event_count"]) for r in lake.rows(SESSIONS))


@pytest.mark.thorough
def test_sessions_merge_when_a_late_event_lies_between_them_and_split_when_a_late_logout_does(tmp_path):
    lake = DirectLake(tmp_path / "lake")
    lake.land_records([event(1, minutes(0), device_id="d"), event(2, minutes(50), device_id="d")])
    assert bounds(lake) == [(minutes(0), minutes(0), 1), (minutes(50), minutes(50), 1)]
    lake.land_records([event(3, minutes(25), device_id="d")])
    assert bounds(lake) == [(minutes(0), minutes(50), 3)]
    lake.land_records([event(4, minutes(30), "logout", device_id="d")])
    assert bounds(lake) == [(minutes(0), minutes(30), 3), (minutes(50), minutes(50), 1)]
    (profile,) = lake.rows(PROFILES)
    assert (profile["session_count"], profile["event_count"]) == (2, 4)


@pytest.mark.thorough
def test_after_events_of_1990_and_2099_everything_goes_on_as_if_they_were_not_there(tmp_path):
    """No horizon is taken from the events: the ones between the extremes are valid, in their sessions, on time."""
    far, near = DirectLake(tmp_path / "far"), DirectLake(tmp_path / "near")
    far.land_records([event("last", LAST, user_id="u", device_id="d"), event("first", FIRST, device_id="d")])
    far.processor.compact()
    days = [event(n, NOON + timedelta(days=n), device_id="d", user_id="u") for n in range(5)]
    for n in (3, 0, 4, 1, 2):
        for lake in (far, near):
            lake.land_records([days[n]])
    batches = [b for b in far.rows(BATCHES) if b["kind"] == "batch"]
    assert sum(b["valid_count"] for b in batches) == 7
    assert [b for b in bounds(far) if b[0] not in (FIRST, LAST)] == bounds(near)
    (profile,) = far.rows(PROFILES)
    assert (profile["first_seen_at"], profile["last_seen_at"]) == (FIRST, LAST)
    assert profile["session_count"] == 7
    far.processor.compact()
    assert [b for b in bounds(far) if b[0] not in (FIRST, LAST)] == bounds(near)


@pytest.mark.thorough
def test_an_event_of_1990_or_2099_at_an_anchor_with_a_long_history_reads_none_of_it(tmp_path):
    """The first batch of extremes parts no session, so no old event is read; the second parts one at either end, and
    of thirty years between them none is. Seen to fail with one window from the earliest start to the latest end, and
    when only the first group of windows is fetched."""
    lake = DirectLake(tmp_path / "lake")
    history = [event(n, NOON + timedelta(hours=n), device_id="d") for n in range(3000)]
    edges = [
        event(f"{year}-{n}", datetime(year, 5, 1, 12, n * 10, tzinfo=UTC), device_id="d")
        for year in (1990, 2099)
        for n in range(3)
    ]
    lake.land_records(history)
    read: list[pa.Table] = []
    fetch = lake.processor.last.events_in

    def counted(windows: pa.Table) -> pa.Table:
        read.append(fetch(windows))
        return read[-1]

    lake.processor.last.events_in = counted
    lake.land_records(edges)
    assert read == []
    written = lake.snapshot.arrow(SESSIONS, ["updated_batch_id"])["updated_batch_id"].to_numpy()
    assert (written == lake.processor.last.batch_id).sum() == 2
    lake.land_records(
        [
            event(f"out-{y}", datetime(y, 5, 1, 12, 15, tzinfo=UTC), "logout", device_id="d")
            for y in (1990, 2099)
        ]
    )
    assert [found.num_rows for found in read] == [3, 3]
    assert len(bounds(lake)) == 3000 + 4


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30)), min_size=1, max_size=40))
def test_windows_far_apart_are_read_apart_and_all_are_read(windows):
    start = np.array([s for s, _ in windows], np.int64)
    end = start + np.array([length for _, length in windows], np.int64)
    at = EXPANSIONS.field("start_at").type
    columns = [pa.array(np.arange(len(start))), pa.array(start, at), pa.array(end, at)]
    table = pa.Table.from_arrays(columns, schema=EXPANSIONS)
    groups = apart(table, pause_us=20, parts=4)
    assert 1 <= len(groups) <= 4
    together = pa.concat_tables(groups)
    assert sorted(together["anchor_node_id"].to_pylist()) == list(range(len(windows)))
    ends = [pa.compute.max(g["end_at"]).value for g in groups]
    starts = [pa.compute.min(g["start_at"]).value for g in groups]
    for before, after in zip(ends, starts[1:], strict=False):
        assert after - before > 20
