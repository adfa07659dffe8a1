"""The resolver without Spark: what people come out, and that order, batching and duplication cannot matter."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.policy import Policy, policy_from_dict
from pipelines.state.identity_state import IdentityState
from tests.examples import examples
from transforms.identity.components import driver_components
from transforms.identity.evidence import gather_evidence
from transforms.identity.nodes import new_nodes
from transforms.identity.refusals import changed_refusals
from transforms.identity.resolve import resolve

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
    """A resolver with its memory, fed with events written as `u1 d1 c1`."""

    def __init__(self, policy: Policy = POLICY, key: bytes = b"k" * 32) -> None:
        self.policy, self.key, self.state, self.batch = policy, key, IdentityState(), 0
        self.names: dict[int, str] = {}
        self.solved: list[int] = []

    def feed(self, *events: str, at: list[int] | None = None) -> World:
        self.batch += 1
        lists, times, facts = [], [], {}
        for i, event in enumerate(events):
            ids = []
            for word in dict.fromkeys(event.split()):
                space = SHORT[word[0]]
                n = node_id(self.key, word)
                self.names[n] = word
                facts[n] = (self.policy.code_of[space], tie_hash(word))
                ids.append(n)
            lists.append(ids)
            times.append(at[i] if at else i)
        ids = np.array(sorted(facts), np.int64)
        seen = new_nodes(
            ids,
            np.zeros(len(ids), np.int16),
            np.array([facts[i][0] for i in ids.tolist()], np.int16),
            np.array([facts[i][1] for i in ids.tolist()], np.int64),
        )
        zeros = np.zeros(len(lists), np.int16)
        evidence = gather_evidence(
            pa.array(lists, pa.list_(pa.int64())), zeros, zeros, np.array(times, np.int64)
        )
        result = resolve(seen, evidence, self.state, self.policy, driver_components, self.batch, self.batch)
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


WORDS = [f"{kind}{i}" for kind, count in (("u", 3), ("e", 3), ("d", 4), ("c", 3)) for i in range(count)]
EVENTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=2, unique=True).map(" ".join), max_size=20
)


@settings(max_examples=examples(150), deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_order_and_any_batching_give_the_same_people_and_refusals(events, random, parts):
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


@settings(max_examples=examples(60), deadline=None)
@given(EVENTS)
def test_no_person_exceeds_a_limit(events):
    for group in World().feed(*events).people():
        assert sum(w[0] == "u" for w in group) <= 1
        assert sum(w[0] == "e" for w in group) <= 2


@pytest.mark.parametrize("shape", ["u1 d1|d1 c1|c1 c2", "u1 e1|u2 e2"])
def test_feeding_the_same_evidence_again_changes_nobody(shape):
    world = World().feed(*shape.split("|"))
    before = world.owner()
    world.feed(*shape.split("|"))
    assert world.owner() == before
    assert not len(world.last.nodes)
