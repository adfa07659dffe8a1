"""Persons resolved from nothing keep the ids that people know."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.policy import Policy
from conf.tables import IDENTITY_MAP
from tests.examples import examples
from tests.transforms.identity.test_resolve import EVENTS, POLICY, World
from transforms.identity.kept_ids import KeptIds, keep_ids
from transforms.identity.renamed import Renamed, rename_persons

BATCH = 9
NEW = BATCH << 28


def kept(
    anew: str,
    before: dict[int, str],
    redirects: dict[int, int] | None = None,
    earlier: dict[int, str] | None = None,
) -> tuple[list[int], KeptIds]:
    """`anew`: persons as groups of letters, `ab c`. before: id → its letters. earlier: id → who had it first."""
    groups = anew.split()
    letters = [x for g in groups for x in g]
    person = np.array([i for i, g in enumerate(groups) for _ in g], np.int64)
    of = {x: i for i, g in before.items() for x in g}
    first = {**of, **{x: i for i, g in (earlier or {}).items() for x in g}}
    redirects = redirects or {}
    found = keep_ids(
        person,
        np.array([of.get(x, 0) for x in letters], np.int64),
        np.array([first.get(x, 0) for x in letters], np.int64),
        np.array(sorted(before), np.int64),
        (np.array(list(redirects), np.int64), np.array(list(redirects.values()), np.int64)),
        BATCH,
    )
    return found.canonical.tolist(), found


def written(found: KeptIds) -> dict[int, int]:
    return dict(zip(found.retired.tolist(), found.successor.tolist(), strict=True))


def test_the_same_persons_keep_their_ids_and_no_redirect_is_touched():
    ids, found = kept("ab c", {7: "ab", 8: "c"}, {5: 7, 6: 8}, {5: "a", 6: "a"})
    assert ids == [7, 8]
    assert not written(found)
    assert not len(found.dropped)


def test_a_split_leaves_the_id_with_the_larger_part_and_the_other_gets_a_new_one():
    ids, found = kept("ab cde", {7: "abcde"})
    assert ids == [NEW, 7]
    assert not written(found)


def test_a_tie_goes_to_the_person_that_comes_first():
    assert kept("ab cd", {7: "abcd"})[0] == [7, NEW]


def test_in_a_merge_the_older_id_survives_and_the_other_redirects():
    ids, found = kept("abcd", {7: "a", 3: "bcd"})
    assert ids == [3]
    assert written(found) == {7: 3}


def test_redirects_to_an_id_that_retires_are_led_on_in_one_step():
    _, found = kept("ab", {7: "a", 3: "b"}, {5: 7})
    assert written(found) == {5: 3, 7: 3}


def test_a_part_that_once_had_an_id_of_its_own_takes_it_back():
    ids, found = kept("ab c", {7: "abc"}, {9: 7}, {9: "c"})
    assert ids == [7, 9]
    assert found.dropped.tolist() == [9]


def test_an_id_that_somebody_bears_is_not_taken_back_though_none_of_its_nodes_is_left():
    ids, _ = kept("a b", {7: "ab", 9: "z"}, earlier={9: "b"})
    assert ids == [7, NEW]


def test_a_redirect_follows_the_nodes_that_first_carried_its_id_when_they_move():
    ids, found = kept("ab cde", {7: "abc", 8: "de"}, {5: 7}, {5: "c"})
    assert ids == [7, 8]
    assert written(found) == {5: 8}


def test_a_redirect_to_somebody_who_is_no_more_is_dropped():
    ids, found = kept("a", {7: "a", 8: "z"}, {5: 8})
    assert ids == [7]
    assert found.dropped.tolist() == [5]


def test_identifiers_that_come_back_bring_the_id_that_left_with_them():
    ids, found = kept("a bc", {7: "a"}, earlier={4: "bc"})
    assert ids == [7, 4]
    assert not written(found)


def owners(world: World) -> pa.Table:
    rows = world.state._nodes.all_rows()
    columns = {
        "tenant": pa.array(["default"] * rows.num_rows),
        "node_id": rows["id"],
        "namespace": pa.array([""] * rows.num_rows),
        "canonical_id": rows["canonical"],
        "component_id": _null_zero(rows["component"]),
        "is_shared": rows["is_shared"],
        "is_hub": rows["is_hub"],
        "host_node_id": _null_zero(rows["host"]),
        "first_canonical_id": rows["first_canonical"],
        "since_at": rows["since"].cast(pa.timestamp("us", "UTC")),
        "updated_batch_id": pa.array(np.zeros(rows.num_rows, np.int64)),
    }
    return pa.table([columns[n] for n in IDENTITY_MAP.names], schema=IDENTITY_MAP.arrow).sort_by("node_id")


def _null_zero(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, 0), None, column)


def rebuilt(world: World, policy: Policy, events: list[str]) -> tuple[World, Renamed]:
    """The world's events resolved from nothing under `policy`, and under the ids that persons have in `world`."""
    anew = World(policy).feed(*events)
    redirects = world.redirects()
    none = np.empty(0, np.int64)
    ends = (np.array(list(redirects), np.int64), np.array(list(redirects.values()), np.int64))
    nodes = anew.state._nodes.all_rows(["id", "tie"])
    ties = tuple(nodes[name].to_numpy() for name in ("id", "tie"))
    return anew, rename_persons(
        owners(anew), ties, owners(world), ends, (none, none), world.batch + 1, world.batch + 1
    )


def in_batches(events: list[str], random, parts: int) -> World:
    """The events in any order and any batches, each at its own instant."""
    order = list(range(len(events)))
    random.shuffle(order)
    cuts = sorted(random.randint(0, len(events)) for _ in range(parts))
    world = World()
    for a, b in itertools.pairwise([0, *cuts, len(events)]):
        world.feed(*(events[i] for i in order[a:b]), at=order[a:b])
    return world


# Seen to fail when a live id's first carriers outvote its present ones. That redirects stay where nobody moves is too
# rare a case for it: the first test above fails when they are led home all the same.
@settings(max_examples=examples(80), deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 8))
def test_a_rebuild_under_the_same_policy_changes_nothing(events, random, parts):
    world = in_batches(events, random, parts)
    anew, renamed = rebuilt(world, POLICY, events)
    assert renamed.owners.equals(owners(world))
    assert anew.refused() == world.refused()
    assert not len(renamed.ids.retired)
    assert not len(renamed.ids.dropped)


OTHER_POLICIES = (
    replace(POLICY, max_degree=2),
    replace(POLICY, shared_identifier="own_profile"),
    replace(
        POLICY,
        namespaces=tuple(replace(n, limit=1) if n.name == "email" else n for n in POLICY.namespaces),
    ),
    replace(
        POLICY,
        namespaces=tuple(replace(n, limit=None) if n.name == "email" else n for n in POLICY.namespaces),
    ),
)


@settings(max_examples=examples(60), deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 8), st.sampled_from(OTHER_POLICIES))
def test_under_another_policy_persons_are_those_of_a_fresh_lake_and_ids_stay_with_most_of_their_nodes(
    events, random, parts, policy
):
    world = in_batches(events, random, parts)
    anew, renamed = rebuilt(world, policy, events)
    before, after = _groups(owners(world)), _groups(renamed.owners)
    assert set(after.values()) == set(_groups(owners(anew)).values())
    redirects = {**world.redirects(), **written(renamed.ids)}
    for gone in renamed.ids.dropped.tolist():
        del redirects[gone]
    assert all(to in after and retired not in after for retired, to in redirects.items())
    for person, nodes in before.items():
        heir = person if person in after else redirects[person]
        largest = max(len(nodes & g) for g in after.values())
        assert len(nodes & after[heir]) == largest
    for person, nodes in after.items():
        known = person in before or person in world.redirects()
        assert known != (person >> 28 == world.batch + 1)
        if person in before:
            assert nodes & before[person]


def _groups(table: pa.Table) -> dict[int, frozenset[int]]:
    groups = defaultdict(set)
    for node, person in zip(table["node_id"].to_pylist(), table["canonical_id"].to_pylist(), strict=True):
        groups[person].add(node)
    return {person: frozenset(nodes) for person, nodes in groups.items()}
