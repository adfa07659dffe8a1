"""The suite in small: some cases of the list, its control, and a delivery; `make test-faults` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.tables import WRITE_ORDER
from tests.faults import cases as fault_list
from tests.faults.__main__ import main
from tests.faults.cases import Case
from tests.faults.control import cases_of_control, must_fail, without_transaction_ids
from tests.faults.delivery import Delivery, run_delivery
from tests.faults.in_process import Clean, run_case
from tests.faults.injection import Kill

SEED = fault_list.declared()["seed"]
ALL = fault_list.in_process(SEED)
DRAWN = fault_list.each_point_once(ALL, SEED)[::4]


def judged(clean: Clean, case: Case, folder: Path) -> list[str]:
    return run_case(
        clean, case.kills, folder / "case", is_renumbered=case.is_renumbered, ops=case.until
    ).problems


def test_the_list_has_every_table_at_every_point_of_a_batch() -> None:
    found = {(k.point, k.table) for case in ALL for k in case.kills[:1]}
    tables = fault_list.declared()["tables"]["written"]
    assert {(f"append.{when}", t) for when in ("before", "files", "after") for t in tables} <= found


def test_the_lists_of_tables_are_in_the_order_in_which_they_are_written() -> None:
    """A second kill is drawn from the tables behind the first one; nothing would be left to write at one before it.
    Seen to fail while identity_map stood before identity_redirects."""
    order = {spec.full_name: place for place, spec in enumerate(WRITE_ORDER)}
    for name, tables in fault_list.declared()["tables"].items():
        places = [order[table.removesuffix("_hot")] for table in tables]
        assert places == sorted(places), name


def test_the_selection_has_every_point_and_table_of_the_list() -> None:
    chosen = fault_list.selection(ALL, SEED)
    assert len(chosen) < len(ALL) / 5
    for name in ("point", "table", "others", "signal", "then", "where"):
        assert {c.features[name] for c in chosen} == {c.features[name] for c in ALL}


@pytest.mark.parametrize("case", DRAWN, ids=str)
@pytest.mark.slow
def test_killed_and_opened_again_a_lake_is_as_if_nothing_had_happened(
    clean: Clean, case: Case, tmp_path: Path
) -> None:
    """Seen to fail without transaction ids, which is the control below."""
    assert judged(clean, case, tmp_path) == []


@pytest.mark.slow
def test_a_half_written_batch_is_not_published_by_the_compaction_at_the_end_of_a_run(
    clean: Clean, tmp_path: Path
) -> None:
    """A stream is killed within a batch, and the next one is stopped before it has repeated that batch.

    Seen to fail when `BatchProcessor.compact` does not look for an intent: the batch was visible half, its decisions
    were taken for done, and its retry was refused.
    """
    kill = Kill("stream 1", "append.after", "silver.sessions_hot", 1, then="stopped")
    assert judged(clean, Case("", (kill,)), tmp_path) == []


@pytest.mark.slow
def test_a_compaction_that_was_killed_before_its_row_is_published_by_the_next_run(
    clean: Clean, tmp_path: Path
) -> None:
    """Seen to fail when `_compact` asks whether it has changed a version itself: the tables were complete on disk, and
    gold.profiles as published was not, after a clean end."""
    kill = Kill("stream 1", "append.before", "ops.batches", -1)
    assert judged(clean, Case("", (kill,)), tmp_path) == []


@pytest.mark.slow
def test_a_point_that_is_never_come_to_is_a_failure(clean: Clean, tmp_path: Path) -> None:
    kill = Kill("stream 1", "append.after", "silver.no_such_table", 1)
    assert judged(clean, Case("", (kill,)), tmp_path) == ["not reached: append.after silver.no_such_table"]


@pytest.mark.parametrize("case", cases_of_control(ALL)[::6], ids=str)
@pytest.mark.slow
def test_without_transaction_ids_the_suite_fails_between_the_tables(
    clean: Clean, case: Case, tmp_path: Path
) -> None:
    with without_transaction_ids():
        assert bool(judged(clean, case, tmp_path)) == must_fail(case)


@pytest.mark.parametrize("delivery", [Delivery(7), Delivery(7, times=5, shuffled=True, late=0.05)], ids=str)
@pytest.mark.slow
def test_events_brought_otherwise_are_the_same_people(delivery: Delivery, tmp_path: Path) -> None:
    """Seen to fail when an event's second arrival is not looked up in the batches before (`_judge` without `known`)."""
    assert run_delivery(delivery, tmp_path, SEED).problems == []


@pytest.mark.parametrize(
    ("is_allowed", "code", "said"), [(False, 3, "NOT RUN on this system: disk"), (True, 0, "0 failed")]
)
def test_a_level_that_this_system_does_not_allow_is_no_pass(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_allowed: bool,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr("tests.faults.disk.is_allowed", lambda: is_allowed)
    monkeypatch.setattr("tests.faults.disk.NAMESPACE", ("true",))  # a child that has nothing to say
    assert main(["--level", "disk", "--quick", "--results", str(tmp_path / "results.jsonl")]) == code
    assert said in capsys.readouterr().out.splitlines()[-1]
