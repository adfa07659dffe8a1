"""Every scenario comes out as its file says, whatever the order of its events and however they are cut into batches.

All scenarios of one policy are run in one lake, each as a tenant of its own: tenants never meet.
"""

from __future__ import annotations

import itertools
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.state import keyed_rows
from tests.examples import examples
from tests.scenarios.cases import Case, all_cases, arrivals, cases_of, policy_of
from tests.scenarios.in_memory import outcomes_in_memory
from tests.scenarios.outcome import Outcome, check

POLICIES = sorted({case.policy for case in all_cases()})


@cache
def outcomes(policy: str) -> dict[str, Outcome]:
    return outcomes_in_memory(policy_of(policy), arrivals(cases_of(policy)))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in all_cases()])
def test_scenario(case: Case) -> None:
    check(case, outcomes(case.policy)[case.name])


@pytest.mark.thorough
@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=examples(10), deadline=None)
@given(
    random=st.randoms(use_true_random=False),
    parts=st.integers(1, 5),
    repeats=st.booleans(),
    whole_up_to=st.sampled_from([1, keyed_rows.WHOLE_UP_TO]),
)
def test_scenarios_in_any_order_and_batching(
    policy: str, random, parts: int, repeats: bool, whole_up_to: int
) -> None:
    """Seen to fail where the session that follows a late event's is not cut anew (session_reach.closure)."""
    cases = cases_of(policy)
    batches: list[list[dict]] = [[] for _ in range(parts)]
    for case in cases:
        records = list(case.records) * (2 if repeats else 1)
        random.shuffle(records)
        cuts = sorted(random.randint(0, len(records)) for _ in range(parts - 1))
        for batch, (a, b) in zip(batches, itertools.pairwise([0, *cuts, len(records)]), strict=True):
            batch += records[a:b]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keyed_rows, "WHOLE_UP_TO", whole_up_to)
        found = outcomes_in_memory(policy_of(policy), batches)
    wrong = []
    for case in cases:
        try:
            check(case, found[case.name])
        except AssertionError as e:
            wrong.append(f"{case.name}: {e}")
    assert not wrong


def test_an_anchor_that_is_read_in_part_is_judged_again_when_its_first_claimants_person_changes() -> None:
    """Seen to fail where `activity._matters` says no: what is known of the tablet would be believed for ever."""
    case = next(
        c
        for c in all_cases()
        if c.name == "visitors who turn out to be one person elsewhere were one person at the tablet"
    )
    batches = [[case.records[n - 1] for n in batch] for batch in ((1, 2, 4, 5), (3,), (6,))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keyed_rows, "WHOLE_UP_TO", 1)
        check(case, outcomes_in_memory(policy_of(case.policy), batches)[case.name])


def test_there_are_sixty_scenarios_and_more() -> None:
    assert len(all_cases()) >= 60
