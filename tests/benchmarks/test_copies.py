"""A copied lake is what the product makes of everybody's events, and a stream goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.direct import copies
from conf.tables import ALL, BATCHES, EVENTS, IDENTIFIERS, IDENTITY_MAP
from pipelines.lake.snapshot import published
from tests.direct_lake import KEY, DirectLake
from transforms.compare.reconciliation import compare_states

pytestmark = pytest.mark.thorough
PERSONS = 5


def state_of(lake):
    snapshot = published(lake)
    return {spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES}


@pytest.mark.parametrize("person", [copies.customer, copies.visitor, copies.regular])
def test_copies_are_what_the_product_makes_of_everybodys_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Callable[[int], list[copies.Record]]
) -> None:
    monkeypatch.setattr(copies, "COPIES_AT_ONCE", 2)
    copied = copies.fill(tmp_path / "copied", person(0), PERSONS, tmp_path)
    made = DirectLake(tmp_path / "made", stream="history", mappings=("native",), key=KEY)
    made.feed([r for n in range(PERSONS) for r in person(n)], name="history.jsonl")
    found = compare_states(state_of(copied), state_of(made.lake))
    # The digest of a copy's content is not its content's: nobody delivers it again.
    assert {d.table: d.changed_columns for d in found if not d.is_equal} == {
        EVENTS.full_name: {"content_digest": len(person(0)) * PERSONS}
    }
    row = published(copied).row
    assert row["received_count"] == row["valid_count"] == len(person(0)) * PERSONS


def test_a_batch_over_copies_finds_them(tmp_path: Path) -> None:
    copies.fill(tmp_path / "lake", copies.customer(0), PERSONS, tmp_path)
    lake = DirectLake(tmp_path / "lake", mappings=("native",), key=KEY)
    first, second = copies.number(1), copies.number(2)
    lake.feed(
        [
            copies.event(
                "new1", copies.AT + 9_000, "page_view", {"device_id": f"d{first}", "cookie_id": "x"}
            ),
            copies.event("new2", copies.AT + 9_000, "login", {"device_id": "y", "user_id": f"u{second}"}),
        ]
    )
    people = {frozenset(p) for p in lake.people()}
    assert len(people) == PERSONS
    assert any({"cookie_id:x", f"user_id:u{first}", f"device_id:d{first}"} <= p for p in people)
    assert any({"device_id:y", f"email:m{second}@example.com"} <= p for p in people)
    assert len(lake.rows(IDENTITY_MAP)) == len(lake.rows(IDENTIFIERS)) == 4 * PERSONS + 2
