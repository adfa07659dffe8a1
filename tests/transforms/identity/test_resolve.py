"""The resolver without Spark: what people come out, and that order, batching and duplication cannot matter."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from random import Random

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conf.policy import Policy, policy_from_dict
from pipelines.state.identity_state import IdentityState
from tests.examples import examples
from transforms.identity.components import driver_components
from transforms.identity.evidence import gather_evidence
from transforms.identity.nodes import new_nodes, union_of
from transforms.identity.refusals import changed_refusals
from transforms.identity.resolve import resolve
from transforms.ingest.decisions import Decision

POLICY = policy_from_dict(
    {
        "namespaces": {
            "user_id": {"strength": "unique", "priority": 1},
            "email": {"strength": "strong", "limit": 2, "priority": 2},
            "device_id": {"strength": "device", "priority": 10},
            "cookie_id": {"strength": "device", "priority": 11},
        },
        "max_degree": 6,
    }
)
SHORT = {"u": "user_id", "e": "email", "d": "device_id", "c": "cookie_id"}


def node_id(key: bytes, word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), key=key, digest_size=8).digest(), "big") >> 1


def tie_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big", signed=True)


class World:
    """A resolver with its memory, fed with events written as `u1 d1 c1`; `u1 = u2` is an alias event."""

    def __init__(self, policy: Policy = POLICY, key: bytes = b"k" * 32) -> None:
        self.policy, self.key, self.state, self.batch = policy, key, IdentityState(), 0
        self.names: dict[int, str] = {}
        self.solved: list[int] = []

    def feed(self, *events: str, at: list[int] | None = None) -> World:
        return self._resolve(events, at, [])

    def decide(self, kind: str, text: str) -> World:
        """`merge` and `keep_apart` are written `u1 c1 | u2`, `undo` as the number of the decision, from 0."""
        parts = [[self._node(w) for w in part.split()] for part in text.split("|")]
        number = len(self.state.decisions)
        known = {"tenant": "t", "decision_id": str(number), "kind": kind, "decided_at": number}
        if kind == "merge":
            known["joins"] = tuple((a, b) for a in parts[0] for b in parts[1])
        elif kind == "undo":
            known["undoes"] = text
        else:
            known["sides"] = tuple((n, side) for side, part in enumerate(parts) for n in part)
        return self._resolve((), None, [Decision(sequence=(self.batch + 1, 0), **known)])

    def _node(self, word: str) -> int:
        n = node_id(self.key, word)
        if word[0] in SHORT:
            self.names[n] = word
        return n

    def _resolve(self, events: tuple[str, ...], at: list[int] | None, decisions: list[Decision]) -> World:
        self.batch += 1
        change = self.state.decisions.put(decisions)
        lists, times, kinds = [], [], []
        for i, event in enumerate(events):
            lists.append([self._node(word) for word in dict.fromkeys(event.split()) if word != "="])
            times.append(at[i] if at else i)
            kinds.append(int("=" in event))
        named = {n for ids in lists for n in ids} | {n for d in decisions for n in d.nodes}
        code_of = {namespace.name: i for i, namespace in enumerate(self.policy.namespaces)}
        facts = {n: (code_of[SHORT[self.names[n][0]]], tie_hash(self.names[n])) for n in named}
        ids = np.array(sorted(facts), np.int64)
        seen = new_nodes(
            ids,
            np.zeros(len(ids), np.int16),
            np.array([facts[i][0] for i in ids.tolist()], np.int16),
            np.array([facts[i][1] for i in ids.tolist()], np.int64),
        )
        evidence = gather_evidence(
            pa.array(lists, pa.list_(pa.int64())),
            np.zeros(len(lists), np.int16),
            np.array(kinds, np.int16),
            np.array(times, np.int64),
        )
        seen = union_of(seen, self.state.nodes(change.nodes))
        result = resolve(
            seen,
            evidence,
            self.state,
            self.policy,
            driver_components,
            self.batch,
            self.batch,
            change.nodes,
        )
        refused, lifted = changed_refusals(
            result.refusals, self.state.refusals_of(result.judged), result.judged
        )
        self.state.apply(result, self.state.with_prior(evidence), refused, lifted)
        self.solved.append(result.solved_node_count)
        self.last = result
        return self

    def owner(self) -> dict[str, int]:
        rows = self.state._nodes.all_rows(["id", "canonical"])
        return {
            self.names[n]: c
            for n, c in zip(rows["id"].to_pylist(), rows["canonical"].to_pylist(), strict=True)
        }

    def people(self) -> set[frozenset[str]]:
        groups = defaultdict(set)
        for name, canonical in self.owner().items():
            groups[canonical].add(name)
        return {frozenset(g) for g in groups.values()}

    def components(self) -> set[frozenset[str]]:
        rows = self.state._nodes.all_rows(["id", "component"])
        groups = defaultdict(set)
        for n, component in zip(rows["id"].to_pylist(), rows["component"].to_pylist(), strict=True):
            groups[component or -n].add(self.names[n])
        return {frozenset(g) for g in groups.values()}

    def redirects(self) -> dict[int, int]:
        rows = self.state._redirects.all_rows()
        return dict(zip(rows["retired"].to_pylist(), rows["successor"].to_pylist(), strict=True))

    def refused(self) -> set[tuple[str, str]]:
        rows = self.state._refusals.all_rows()
        return {
            tuple(sorted((self.names[a], self.names[b])))
            for a, b in zip(rows["left"].to_pylist(), rows["right"].to_pylist(), strict=True)
        }


def people(*groups: str) -> set[frozenset[str]]:
    return {frozenset(g.split()) for g in groups}


def test_an_anonymous_cookie_becomes_the_persons_at_login():
    assert World().feed("c1").feed("c1 u1").people() == people("c1 u1")


def test_bridge_edge_merges_two_people_and_the_older_canonical_id_survives():
    world = World().feed("d1 c1").feed("u1 d2")
    older, younger = world.owner()["d1"], world.owner()["u1"]
    world.feed("u1 d1")
    assert world.people() == people("d1 c1 u1 d2")
    assert set(world.owner().values()) == {older}
    assert world.redirects() == {younger: older}


def test_redirects_are_compressed_to_one_step():
    world = World().feed("d1").feed("d2").feed("d3")
    a, b, c = (world.owner()[d] for d in ("d1", "d2", "d3"))
    world.feed("d2 d3").feed("d1 d2")
    assert world.redirects() == {b: a, c: a}


def test_a_kiosk_joins_nobody_and_goes_to_whom_it_knows_best():
    world = World().feed("u1 d1", "u1 d1", "u1 d1", "u1 d1", "u2 d1", "u2 d2")
    assert world.people() == people("u1 d1", "u2 d2")


def test_a_device_that_becomes_shared_lets_go_of_the_second_person():
    world = World().feed("u1 d1", "u1 d1", "u1 c1").feed("d1 c2").feed("u2 c2")
    assert world.people() == people("u1 d1 c1 u2 c2") or world.refused()
    world.feed("u2 d1")
    assert world.people() == people("u1 d1 c1", "u2 c2")


def test_two_users_tied_through_a_chain_are_parted_at_the_weakest_link():
    world = World().feed("u1 d1", "u1 d1", "u2 d2", "u2 d2", "d1 d2")
    assert world.people() == people("u1 d1", "u2 d2")
    assert world.refused() == {("d1", "d2")}


def test_a_hub_stands_alone():
    world = World().feed(*(f"d{i} c1" for i in range(1, 8)))
    assert people("c1") <= world.people()


def test_a_shared_hosts_person_that_falls_apart_takes_it_along_with_its_host():
    world = World().feed("u1 d1", "u1 d1", "u2 d1", "u1 c1", "c1 c2")
    world.feed("u3 c1")
    assert any({"u1", "d1"} <= g for g in world.people())
    assert any({"u2"} == g for g in world.people())


def test_a_shared_node_looks_for_another_host_when_its_host_becomes_shared():
    first = ["d1 e1", "d1 e1", "d1 e2", "d1 e3"]
    later = ["e1 u1", "e1 u2"]
    world = World().feed(*first)
    assert people("d1 e1") <= world.people()
    world.feed(*later, at=[4, 5])
    assert people("d1 e2") <= world.people()
    assert world.people() == World().feed(*first, *later).people()


def test_people_do_not_depend_on_the_hashing_key():
    events = ["u1 d1", "u2 d2", "d1 c1", "d2 c1", "u1 e1", "u2 e1"]
    assert World(key=b"a" * 32).feed(*events).people() == World(key=b"b" * 32).feed(*events).people()


def test_only_touched_components_are_solved():
    world = World().feed(*(f"u{i} d{i}" for i in range(1, 60)))
    world.feed("u70 d70")
    assert world.solved[-1] <= 2
    assert len(world.last.nodes) == 2


def test_an_alias_of_two_users_makes_them_one_person_and_one_value():
    world = World().feed("u1 d1", "u2 d2").feed("u1 = u2")
    assert world.people() == people("u1 d1 u2 d2")
    assert not world.refused()


def test_values_joined_by_an_alias_no_longer_make_a_device_shared():
    world = World().feed("u1 d1", "u1 d1", "u2 d1", "d1 c1", "u2 d2")
    assert world.people() == people("u1 d1", "u2 d2", "c1")
    world.feed("u1 = u2")
    assert world.people() == people("u1 u2 d1 d2 c1")


def test_an_alias_lifts_the_refusals_that_it_answers():
    world = World().feed("u1 d1", "u1 d1", "u2 d2", "u2 d2", "d1 d2")
    assert world.refused() == {("d1", "d2")}
    world.feed("u1 = u2")
    assert world.refused() == set()
    assert world.people() == people("u1 d1 u2 d2")


def test_an_alias_through_a_device_does_not_join_the_values_of_strangers():
    world = World().feed("u1 = d1", "u2 = d1")
    assert len([g for g in world.people() if {"u1", "u2"} <= g]) == 0


def test_a_decided_merge_outranks_limits_and_undo_gives_everybody_back():
    world = World().feed("u1 d1", "u2 d2", "u2 c2")
    before = world.owner()
    world.decide("merge", "u1 | u2")
    assert world.people() == people("u1 d1 u2 d2 c2")
    world.decide("undo", "0")
    assert world.people() == people("u1 d1", "u2 d2 c2")
    assert world.owner() == before
    world.decide("undo", "1")
    assert world.people() == people("u1 d1 u2 d2 c2")


def test_undoing_a_merge_of_strangers_without_limits_parts_them_again():
    world = World().feed("c1 d1", "c2 d2").decide("merge", "c1 | c2")
    assert world.people() == people("c1 d1 c2 d2")
    world.decide("undo", "0")
    assert world.people() == people("c1 d1", "c2 d2")


def test_what_is_kept_apart_stays_apart_whatever_comes():
    world = World().feed("c1 d1").decide("keep_apart", "c1 | d1")
    assert world.people() == people("c1", "d1")
    world.feed("c1 d1", "c1 e1", "e1 d1")
    assert not any({"c1", "d1"} <= g for g in world.people())
    assert world.refused()
    world.decide("undo", "0")
    assert world.people() == people("c1 d1 e1")
    assert not world.refused()


def test_a_shared_device_kept_apart_from_its_hosts_person_stands_alone():
    world = World().feed("u1 d1", "u1 d1", "u2 d1").decide("keep_apart", "u1 | d1")
    assert world.people() == people("u1", "d1", "u2")


def test_a_hub_goes_to_whom_somebody_has_decided():
    world = World().feed(*(f"d{i} c1" for i in range(1, 8))).decide("merge", "c1 | d3")
    assert people("c1 d3") <= world.people()
    world.decide("undo", "0")
    assert people("c1", "d3") <= world.people()


class CountingState(IdentityState):
    """Counts the rows that the resolver reads."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_read = 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in ("nodes", "edges_of", "nodes_of_components", "nodes_hosted_by"):

            def counted(*args):
                rows = found(*args)
                self.rows_read += len(rows)
                return rows

            return counted
        return found


@pytest.mark.thorough
def test_a_kiosk_of_ten_thousand_users_costs_nothing_where_it_is_not_touched():
    """Solved nodes and rows read, not seconds: seen to fail when hubs are asked for their edges again."""
    with_kiosk, without = World(), World()
    for world in (with_kiosk, without):
        world.state = CountingState()
    with_kiosk.feed(*(f"u{i} d0" for i in range(10_000)))
    for world in (with_kiosk, without):
        world.feed("u99999 d9", "u99999 c9")
        world.state.rows_read = 0
        world.feed("u99999 c8")
    assert with_kiosk.solved[-1] == without.solved[-1]
    assert with_kiosk.state.rows_read == without.state.rows_read
    with_kiosk.state.rows_read = 0
    with_kiosk.feed("u5 d0", "u5 c5")
    assert with_kiosk.state.rows_read < 100


def test_no_batch_solves_more_than_the_components_that_it_touches():
    world = World().feed(*(f"u{i} d{i}" for i in range(40)), "d1 d2", "d3 d4")
    components = world.components()
    touched = {"u1", "d7", "c50"}
    world.feed("u1 c50", "d7 c50")
    assert world.solved[-1] <= sum(len(c | touched) for c in components if c & touched)


WORDS = [f"{kind}{i}" for kind, count in (("u", 3), ("e", 3), ("d", 4), ("c", 3)) for i in range(count)]
PAIRS = st.lists(st.sampled_from(WORDS), min_size=2, max_size=2, unique=True)
EVENTS = st.lists(
    st.one_of(PAIRS.map(" ".join), PAIRS.map(" ".join), PAIRS.map(" ".join), PAIRS.map(" = ".join)),
    max_size=20,
)
DECISIONS = st.lists(
    st.tuples(st.sampled_from(["merge", "keep_apart", "undo"]), PAIRS.map(" | ".join), st.integers(0, 5)),
    max_size=4,
)


@settings(max_examples=examples(60), deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_order_and_any_batching_give_the_same_people_and_refusals(events, random, parts):
    """Seen to fail where _cut_shared() judges by the batch's own evidence alone."""
    at = list(range(len(events)))
    whole = World().feed(*events, at=at)
    order = at.copy()
    random.shuffle(order)
    cuts = sorted(random.randint(0, len(events)) for _ in range(parts))
    split = World()
    for a, b in itertools.pairwise([0, *cuts, len(events)]):
        split.feed(*(events[i] for i in order[a:b]), at=order[a:b])
    assert split.people() == whole.people()
    assert split.refused() == whole.refused()
    live = set(split.owner().values())
    assert all(successor in live and retired not in live for retired, successor in split.redirects().items())


@pytest.mark.thorough
@settings(max_examples=examples(40), deadline=None)
@given(EVENTS, DECISIONS, st.randoms(use_true_random=False))
@example(["c1 d1"], [("keep_apart", "c1 | d1", 0), ("undo", "c1 | d1", 0)], Random(0))
def test_decisions_give_the_same_people_before_between_and_after_the_events(events, decisions, random):
    """Seen to fail with `decided` or `requested` left out of the groups that resolve() solves again."""
    at = list(range(len(events)))
    early = decided(World(), decisions).feed(*events, at=at)
    late = decided(World().feed(*events, at=at), decisions)
    order = at.copy()
    random.shuffle(order)
    cut = random.randint(0, len(events))
    between = decided(World().feed(*(events[i] for i in order[:cut]), at=order[:cut]), decisions)
    between.feed(*(events[i] for i in order[cut:]), at=order[cut:])
    assert early.people() == late.people() == between.people()
    assert early.refused() == late.refused() == between.refused()


@pytest.mark.thorough
@settings(max_examples=examples(30), deadline=None)
@given(EVENTS, DECISIONS)
@example(["u2 e2", "e1 e0"], [("merge", "e1 | u2", 0)])
def test_decisions_and_their_undo_are_the_identity(events, decisions):
    """Seen to fail where a retired id is reopened only for persons that have no other (canonical.py)."""
    plain = World().feed(*events)
    world = World().feed(*events)
    names = {w for _, text, _ in decisions for w in text.split() if w != "|"}
    world.feed(*sorted(names))
    before = world.owner()
    decided(world, decisions)
    for number in reversed(range(len(world.state.decisions))):
        world.decide("undo", str(number))
    assert world.owner() == before
    assert world.refused() == plain.refused()


def decided(world: World, decisions: list[tuple[str, str, int]]) -> World:
    for kind, text, number in decisions:
        world.decide(kind, str(number) if kind == "undo" else text)
    return world


def values(world: World, group: frozenset[str], kind: str) -> int:
    """How many values of a namespace a group holds; what an alias or a merge has joined counts as one."""
    mine = sorted(w for w in group if w[0] == kind)
    joined = nx.Graph()
    joined.add_nodes_from(mine)
    ids = np.array(sorted(node_id(world.key, w) for w in mine), np.int64)
    left, right = world.state.merge_requests_of(ids)
    names = world.names
    joined.add_edges_from(
        (names[a], names[b])
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
        if names[a][0] == names[b][0] == kind
    )
    return sum(1 for c in nx.connected_components(joined) if c & group)


@pytest.mark.thorough
@settings(max_examples=examples(30), deadline=None)
@given(EVENTS, DECISIONS)
def test_no_person_exceeds_a_limit_or_holds_both_sides_of_a_decision(events, decisions):
    """Seen to fail where constrained_clusters() accepts what a limit, or a decision, forbids."""
    world = decided(World().feed(*events), decisions)
    for group in world.people():
        assert values(world, group, "u") <= 1
        assert values(world, group, "e") <= 2
        rows = world.state.sides_of(np.array(sorted(node_id(world.key, w) for w in group), np.int64))
        sides = set(zip(rows.decision.tolist(), rows.side.tolist(), strict=True))
        assert not any((decision, 1 - side) in sides for decision, side in sides)


@pytest.mark.parametrize("shape", ["u1 d1|d1 c1|c1 c2", "u1 e1|u2 e2"])
def test_feeding_the_same_evidence_again_changes_nobody(shape):
    world = World().feed(*shape.split("|"))
    before = world.owner()
    world.feed(*shape.split("|"))
    assert world.owner() == before
    assert not len(world.last.nodes)
