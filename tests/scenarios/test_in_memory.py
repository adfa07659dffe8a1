"""Every scenario comes out as its file says, whatever the order of its events and however they are cut into batches."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.scenarios.cases import BUILT, Case, all_cases, policy_of
from tests.scenarios.in_memory import outcome_in_memory
from tests.scenarios.outcome import check


def built(case: Case) -> None:
    if case.needs and case.needs not in BUILT:
        pytest.skip(f"needs {case.needs}, which is not built yet")


CASES = [pytest.param(case, id=case.name) for case in all_cases()]


@pytest.mark.parametrize("case", CASES)
def test_scenario(case: Case) -> None:
    built(case)
    batches = [[case.records[n - 1] for n in batch] for batch in case.batches]
    check(case, outcome_in_memory(policy_of(case.policy), batches, bool(case.intervals)))


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=examples(8), deadline=None)
@given(random=st.randoms(use_true_random=False), parts=st.integers(1, 5), repeats=st.booleans())
def test_scenario_in_any_order_and_batching(case: Case, random, parts: int, repeats: bool) -> None:
    built(case)
    records = list(case.records) * (2 if repeats else 1)
    random.shuffle(records)
    cuts = sorted(random.randint(0, len(records)) for _ in range(parts - 1))
    batches = [records[a:b] for a, b in itertools.pairwise([0, *cuts, len(records)]) if a < b]
    check(case, outcome_in_memory(policy_of(case.policy), batches, bool(case.intervals)))


def test_there_are_sixty_scenarios_and_more() -> None:
    assert len(all_cases()) >= 60
