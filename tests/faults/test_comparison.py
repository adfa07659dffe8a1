"""The suite's own eyes: whatever is spoilt in a lake, one of its comparisons sees it.

These are the comparisons' tests of failing; `test_nothing_is_wrong_with_a_clean_lake` is that they can pass.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from conf.table_spec import TableSpec
from conf.tables import (
    BATCHES,
    BRONZE_EVENTS,
    EVENTS,
    IDENTIFIERS,
    IDENTITY_EDGES,
    IDENTITY_MAP,
    PROFILES,
    QUARANTINE,
    SESSIONS,
)
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from tests.faults import comparison
from tests.faults.in_process import Clean, base_lake, published_state

pytestmark = pytest.mark.slow
Rows = list[dict[str, Any]]


@pytest.fixture
def lake(clean: Clean, tmp_path: Path) -> Lake:
    shutil.copytree(base_lake(clean), tmp_path / "lake")
    return Lake(tmp_path / "lake")


def spoil(lake: Lake, spec: TableSpec, change: Callable[[Rows], Rows]) -> None:
    """Change a table's rows and publish them in the last batch's row, as if that batch had written them."""
    rows = change(lake.open(spec).to_pyarrow_table().to_pylist())
    write_deltalake(lake.open(spec), pa.Table.from_pylist(rows, spec.arrow), mode="overwrite")
    if spec is BATCHES:
        return
    batches = lake.open(BATCHES).to_pyarrow_table().to_pylist()
    last = max(batches, key=lambda b: b["batch_id"])
    last["table_versions"] = [
        (name, lake.version(spec) if name == spec.full_name else version)
        for name, version in last["table_versions"]
    ]
    write_deltalake(lake.open(BATCHES), pa.Table.from_pylist(batches, BATCHES.arrow), mode="overwrite")


def with_first(**changes: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [{**rows[0], **changes}, *rows[1:]]


def without_first(rows: Rows) -> Rows:
    return rows[1:]


def first_twice(rows: Rows) -> Rows:
    return [*rows, rows[0]]


def seen(lake: Lake, clean: Clean) -> tuple[list[str], list[str]]:
    """What the comparisons say: tables that differ, rules that are broken."""
    snapshot = published_state(lake)
    found = comparison.digests(comparison.rows_of(snapshot))
    return comparison.differences(found, clean.states[snapshot.batch_id]), comparison.broken_rules(lake)


def test_nothing_is_wrong_with_a_clean_lake(lake: Lake, clean: Clean) -> None:
    assert seen(lake, clean) == ([], [])
    assert comparison.base_is_complete(lake)


@pytest.mark.parametrize(
    "spec, change",
    [
        (EVENTS, with_first(event_type="something else")),
        (EVENTS, without_first),
        (IDENTIFIERS, with_first(value="somebody else")),
        (IDENTITY_EDGES, with_first(evidence_count=99)),
        (IDENTITY_MAP, with_first(is_shared=True)),
        (IDENTITY_MAP, with_first(since_at=None)),
        (SESSIONS, with_first(event_count=99)),
        (PROFILES, without_first),
        (QUARANTINE, with_first(reasons=["no reason"])),
        (BRONZE_EVENTS, with_first(payload=b"other bytes")),
    ],
)
def test_a_changed_cell_or_a_lost_row_is_another_digest(
    lake: Lake, clean: Clean, spec: TableSpec, change: Callable[[Rows], Rows]
) -> None:
    spoil(lake, spec, change)
    assert spec.full_name in seen(lake, clean)[0]


def test_persons_exchanged_are_another_partition_even_where_ids_do_not_count(
    lake: Lake, clean: Clean
) -> None:
    before = comparison.rows_of(published_state(lake))

    def exchange(rows: Rows) -> Rows:
        other = next(r["canonical_id"] for r in rows if r["canonical_id"] != rows[0]["canonical_id"])
        return [{**rows[0], "canonical_id": other}, *rows[1:]]

    spoil(lake, IDENTITY_MAP, exchange)
    after = comparison.rows_of(published_state(lake))
    assert comparison.partition(after) != comparison.partition(before)
    found, expected = (comparison.digests(rows, is_renumbered=True) for rows in (after, before))
    assert IDENTITY_MAP.full_name in comparison.differences(found, expected)


@pytest.mark.parametrize(
    "spec", [EVENTS, BRONZE_EVENTS, IDENTIFIERS, SESSIONS, PROFILES, IDENTITY_MAP, BATCHES]
)
def test_a_row_twice_is_seen(lake: Lake, clean: Clean, spec: TableSpec) -> None:
    spoil(lake, spec, first_twice)
    assert any("more than once" in problem for problem in seen(lake, clean)[1])


def test_a_count_that_does_not_add_up_is_seen(lake: Lake, clean: Clean) -> None:
    spoil(lake, BATCHES, with_first(valid_count=1))
    assert any("valid + quarantined + duplicate" in problem for problem in seen(lake, clean)[1])


@pytest.mark.parametrize("spec", [BRONZE_EVENTS, EVENTS, QUARANTINE])
def test_fewer_rows_than_were_counted_are_seen(lake: Lake, clean: Clean, spec: TableSpec) -> None:
    spoil(lake, spec, lambda rows: rows[3:])
    assert any("ops.batches says" in problem for problem in seen(lake, clean)[1])


def test_a_profile_of_nobody_and_a_session_of_nobody_are_seen(lake: Lake, clean: Clean) -> None:
    spoil(lake, PROFILES, with_first(canonical_id=7))
    spoil(lake, SESSIONS, with_first(owner_node_id=7))
    problems = "\n".join(seen(lake, clean)[1])
    assert "gold.profiles: 1 rows of a canonical_id that is nobody's" in problems
    assert "silver.sessions: 1 rows of a owner_node_id that is nobody's" in problems


def test_rows_that_nobody_published_are_seen_on_disk(lake: Lake, clean: Clean) -> None:
    snapshot = published(lake)
    assert snapshot is not None
    rows = [{**lake.open(EVENTS).to_pyarrow_table().to_pylist()[0], "batch_id": snapshot.batch_id + 1}]
    write_deltalake(lake.open(EVENTS), pa.Table.from_pylist(rows, EVENTS.arrow), mode="append")
    differing, problems = seen(lake, clean)
    assert differing == []
    assert "silver.events: 1 rows of a batch that is not published" in problems


def test_a_batch_number_left_out_is_seen(lake: Lake, clean: Clean) -> None:
    spoil(lake, BATCHES, lambda rows: [row for row in rows if row["batch_id"] != 2])
    assert any("1, 2, 3" in problem for problem in seen(lake, clean)[1])


def test_a_hot_part_that_was_not_folded_in_is_seen(lake: Lake) -> None:
    row = {**lake.open(PROFILES).to_pyarrow_table().to_pylist()[0], "is_deleted": False, "session_count": 99}
    spoil(lake, PROFILES.hot, lambda rows: [*rows, row])
    assert not comparison.base_is_complete(lake)
