"""The shipped list is the union of what the products block, with their case rules."""

from __future__ import annotations

import pytest

from conf.blocked import blocked_sources, blocklist, shipped_blocked
from conf.policy import policy_from_dict
from transforms.ingest.values.normalize import BLOCKED, usable

POLICY = policy_from_dict({"namespaces": {"user_id": {"strength": "unique"}, "ecid": {"strength": "device"}}})

# Written down a second time, from the products' own pages, so that a slip in the data is seen.
SEGMENT = ["", "0", "-", "000-000", "-1", "null", "anonymous"]
POSTHOG_ANY_CASE = [
    "anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email", "undefined", "true", "false",
]  # fmt: skip
POSTHOG_EXACT = ["[object Object]", "NaN", "None", "none", "null", "0", "undefined"]
ADOBE = ["null", "anonymous", "invalid", "", " ", "  "]
MIXPANEL = [
    "-1", "0", "00000000-0000-0000-0000-000000000000", "<nil>", "[]", "anon", "anonymous", "false", "lmy47d", "n/a",
    "na", "nil", "none", "null", "true", "undefined", "unknown", "{}",
]  # fmt: skip
RUDDERSTACK = ["", "unknown", "NaN"]


def quoted(values: list[str]) -> list[str]:
    return [q + v + q for v in values for q in ("", "'", '"')]


def is_blocked(value: str, namespace: str = "user_id") -> bool:
    return usable(value, namespace, POLICY)[1] == BLOCKED


@pytest.mark.parametrize(
    "value",
    sorted({*SEGMENT, *quoted(POSTHOG_EXACT), *ADOBE, *MIXPANEL, *RUDDERSTACK, *quoted(POSTHOG_ANY_CASE)}),
)
def test_what_any_of_the_products_blocks_is_blocked(value):
    assert is_blocked(value)


@pytest.mark.parametrize("value", quoted(POSTHOG_ANY_CASE))
def test_what_is_blocked_without_regard_to_case_is_blocked_in_any(value):
    assert is_blocked(value.upper())
    assert is_blocked(value.title())


@pytest.mark.parametrize(
    "name", ["Nan", "nan", "NAN", "NONE", "Null", "Nil", "Anon", "Na", "Invalid", "10", "x", "Nulls"]
)
def test_what_no_product_blocks_may_be_somebodys_name(name):
    assert usable(name, "user_id", POLICY) == (name, None)


def test_an_ecid_has_38_digits():
    assert usable("1" * 38, "ecid", POLICY) == ("1" * 38, None)
    for wrong in ("1" * 37, "1" * 39, "1" * 37 + "x"):
        assert is_blocked(wrong, "ecid")
        assert not is_blocked(wrong, "user_id")


def test_every_entry_names_its_sources_and_every_source_an_entry():
    assert all(entry.sources for entry in shipped_blocked())
    assert {s for entry in shipped_blocked() for s in entry.sources} == set(blocked_sources())


def test_a_policy_adds_to_the_list_or_replaces_it_and_nothing_is_never_an_identifier():
    spaces = {"user_id": {"strength": "unique"}}
    own = ["Root", {"value": "Test", "case": "exact"}, None, True]
    added = policy_from_dict({"namespaces": spaces, "blocked_values": own})
    alone = policy_from_dict({"namespaces": spaces, "blocked_values": own, "blocked_values_replace": True})
    for policy in (added, alone):
        assert [usable(v, "user_id", policy)[1] for v in ("ROOT", "Test", "NULL", "true")] == [BLOCKED] * 4
        assert usable("test", "user_id", policy) == ("test", None)
        assert usable("  ", "user_id", policy) == (None, BLOCKED)
    assert usable("guest", "user_id", added) == (None, BLOCKED)
    assert usable("guest", "user_id", alone) == ("guest", None)


def test_a_list_of_a_namespace_holds_there_only():
    spaces = {"a": {"strength": "device", "blocked_values": ["x"], "blocked_patterns": ["^t-"]}}
    policy = policy_from_dict({"namespaces": {**spaces, "b": {"strength": "device"}}})
    assert [usable(v, "a", policy)[1] for v in ("X", "t-1")] == [BLOCKED, BLOCKED]
    assert [usable(v, "b", policy)[1] for v in ("X", "t-1")] == [None, None]


def test_a_blocklist_has_what_holds_for_its_namespace():
    patterns = blocklist(shipped_blocked(), "ecid").patterns
    assert set(blocklist(shipped_blocked(), "user_id").patterns) < set(patterns)
