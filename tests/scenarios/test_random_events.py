"""What comes out of any events depends neither on their order nor on how they are cut into batches.

Seen to fail when who is shared is judged from the batch's evidence alone (`_cut_shared` without the look-up's edges).
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.scenarios.cases import policy_of, record
from tests.scenarios.in_memory import outcomes_in_memory

CASE = "any"
IDENTIFIERS = [  # so few that they meet; devices and users most of all
    *["device_id:d1", "device_id:d1", "device_id:d2"],
    *["user_id:u1", "user_id:u2"],
    *["email:e1@example.org", "email:e2@example.org", "email:e3@example.org"],
    *["phone:+491701234567", "member_id:m1", "member_id:m2"],
    *["cookie_id:c1", "browser_id:b1", "browser_id:b2", "ip_address:10.0.0.7"],
]
EVENT = st.tuples(
    st.integers(0, 60),  # quarters of an hour
    st.sampled_from(["page_view", "page_view", "page_view", "login", "logout", "identify"]),
    st.lists(st.sampled_from(IDENTIFIERS), min_size=1, max_size=3),
)


def line(quarters: int, kind: str, identifiers: list[str]) -> str:
    return f"{quarters // 4:02}:{quarters % 4 * 15:02} {kind} {' '.join(identifiers)}"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "policy", ["default", "attach_weak", "last_login", "careful", "one_email", "members"]
)
@settings(max_examples=examples(12), deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=20), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_events_in_any_order_and_batching(policy: str, events: Any, random: Any, parts: int) -> None:
    records = [record(n, line(*event), CASE) for n, event in enumerate(events, 1)]
    whole = outcomes_in_memory(policy_of(policy), [records])
    random.shuffle(records)
    cuts = sorted(random.randint(0, len(records)) for _ in range(parts - 1))
    batches = [records[a:b] for a, b in itertools.pairwise([0, *cuts, len(records)])]
    assert outcomes_in_memory(policy_of(policy), batches) == whole
