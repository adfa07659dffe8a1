"""Which identifiers are shared, which are hubs, and to whom a shared one is given."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.policy import Policy
from tests.transforms.identity.graphs import ATTACHING, LETTERS, Graph, Pair
from tests.transforms.identity.test_resolve import POLICY
from transforms.identity.evidence import MERGE_CODE
from transforms.identity.joined import NOTHING_JOINED, Joined
from transforms.identity.shared import choose_hosts, judge_shared, without_weak_pairs

OWN_PROFILE = replace(POLICY, shared_identifier="own_profile")


def judged(
    *pairs: str, policy: Policy = POLICY, names: tuple[str, ...] = (), one: str = ""
) -> tuple[set[str], set[str]]:
    """(shared, hubs): the names that are so among all. `one`: names whose values are one."""
    graph = Graph(pairs, names, policy)
    member = np.sort(graph.ids(*one.split()))
    joined = Joined(member, np.full(len(member), member[0])) if one else NOTHING_JOINED
    marks = judge_shared(graph.nodes.id, graph.pairs, graph.nodes, joined, policy)
    shared, hubs = (set(graph.named(graph.nodes.id[mark])) for mark in marks)
    return shared, hubs


def star(centre: str, *others: str) -> list[str]:
    return [f"{centre} {other}" for other in others]


class TestShared:
    def test_a_device_seen_with_two_users_is_shared(self):
        assert judged("u1 d1", "u2 d1") == ({"d1"}, set())

    def test_a_device_that_has_met_one_user_and_many_devices_is_not(self):
        assert judged("u1 d1", "c1 d1", "c2 d1", "d1 d2") == (set(), set())

    def test_what_is_two_steps_away_does_not_count(self):
        assert judged("u1 d1", "d1 d2", "d2 u2") == (set(), set())

    def test_a_strong_limit_counts_the_identifiers_own_value(self):
        """A person may have two e-mail addresses: one of three that were seen together is one too many."""
        assert judged("e1 e2") == (set(), set())
        assert judged("e1 e2", "e1 e3") == ({"e1"}, set())
        assert judged("e1 d1", "e2 d1") == (set(), set())
        assert judged("e1 d1", "e2 d1", "e3 d1") == ({"d1"}, set())

    def test_a_unique_identifier_is_never_shared_by_a_limit(self):
        assert judged("u1 u2", "u1 u3") == (set(), set())

    def test_values_that_were_joined_count_as_one(self):
        assert judged("u1 d1", "u2 d1", one="u1 u2") == (set(), set())
        assert judged("u1 d1", "u2 d1", "u3 d1", one="u1 u2") == ({"d1"}, set())


class TestHubs:
    def test_a_hub_has_more_neighbours_than_the_policy_allows_and_is_shared(self):
        six = star("d0", "d1", "d2", "d3", "d4", "d5", "d6")
        assert judged(*six) == (set(), set())
        assert judged(*six, "d0 d7") == ({"d0"}, {"d0"})

    def test_a_unique_identifier_may_be_a_hub(self):
        assert judged(*star("u0", *(f"d{n}" for n in range(7)))) == ({"u0"}, {"u0"})

    def test_a_namespaces_own_maximum_counts_before_the_policys(self):
        spaces = tuple(replace(n, max_degree=2) if n.name == "cookie_id" else n for n in POLICY.namespaces)
        policy = replace(POLICY, namespaces=spaces)
        assert judged(*star("c0", "d1", "d2", "d3"), policy=policy) == ({"c0"}, {"c0"})
        assert judged(*star("d0", "d1", "d2", "d3"), policy=policy) == (set(), set())

    def test_weak_neighbours_make_nobody_a_hub(self):
        assert judged(*star("u0", *(f"i{n}" for n in range(20))), policy=ATTACHING) == (set(), set())


class TestAttachedWeakIdentifiers:
    def test_one_is_judged_by_the_attach_limit_and_so_more_strictly(self):
        met_one, met_two, met_three = (star("b1", *(f"e{n}" for n in range(count))) for count in (1, 2, 3))
        for met, expected in ((met_one, set()), (met_two, set()), (met_three, {"b1"})):
            assert judged(*met, policy=ATTACHING)[0] == expected
        assert judged("d1 e0", "d1 e1", "d1 e2", policy=ATTACHING)[0] == set()

    def test_a_namespace_without_an_attach_limit_counts_as_a_person_may_have(self):
        assert judged("b1 u1", "b1 u2", policy=ATTACHING)[0] == {"b1"}
        assert judged("b1 c1", "b1 c2", "b1 c3", policy=ATTACHING)[0] == set()

    def test_pairs_of_two_weak_ones_are_no_evidence(self):
        graph = Graph(["b1 i1", "b1 u1", "u1 d1"], policy=ATTACHING)
        kept = without_weak_pairs(graph.pairs, graph.nodes, ATTACHING)
        assert {*graph.named(kept.left), *graph.named(kept.right)} == {"b1", "u1", "d1"}

    def test_a_policy_that_attaches_nothing_keeps_the_evidence_as_it_is(self):
        graph = Graph(["u1 d1"])
        assert without_weak_pairs(graph.pairs, graph.nodes, POLICY) is graph.pairs


WORDS = [
    f"{letter}{number}"
    for letter, count in (("u", 3), ("e", 4), ("d", 3), ("c", 2))
    for number in range(count)
]
WEAK_WORDS = [*WORDS, "b0", "b1", "i0"]


def pairs_among(words: list[str]) -> st.SearchStrategy[list[str]]:
    pairs = [" ".join(pair) for pair in itertools.combinations(words, 2)]
    return st.lists(st.sampled_from(pairs), unique=True, max_size=30)


def by_counting(pairs: list[str], words: list[str], policy: Policy) -> tuple[set[str], set[str]]:
    """The rule in plain sets, one identifier at a time."""
    space = {word: policy.by_name[LETTERS[word[0]]] for word in words}
    shared, hubs = set(), set()
    for word in words:
        met = {other for pair in pairs if word in pair.split() for other in pair.split()} - {word}
        if sum(not space[other].attaches for other in met) > policy.max_degree:
            hubs.add(word)
        for namespace in policy.namespaces:
            limit = namespace.company_limit if space[word].attaches else namespace.value_limit
            if not namespace.is_linking or limit is None:
                continue
            values = {other for other in met | {word} if space[other] == namespace}
            if len(values) > limit and (space[word].strength in ("strong", "device") or space[word].attaches):
                shared.add(word)
    return shared | hubs, hubs


@pytest.mark.parametrize(
    "policy, words", [(POLICY, WORDS), (ATTACHING, WEAK_WORDS)], ids=["linking", "attaching"]
)
@given(data=st.data())
def test_any_graph_is_judged_as_counting_says_whatever_the_order_of_rows_and_ids(policy, words, data):
    pairs = data.draw(pairs_among(words))
    names = data.draw(st.permutations(words))
    assert judged(*pairs, policy=policy, names=tuple(names)) == by_counting(pairs, words, policy)


@given(pairs_among(WORDS), st.sets(st.sampled_from(WORDS)))
def test_the_verdict_on_some_needs_only_the_pairs_that_touch_them(pairs, asked):
    graph = Graph(pairs, WORDS)
    ids = np.sort(graph.ids(*asked))
    near = graph.pairs.select(np.isin(graph.pairs.left, ids) | np.isin(graph.pairs.right, ids))
    of_all = judge_shared(graph.nodes.id, graph.pairs, graph.nodes, NOTHING_JOINED, POLICY)
    of_some = judge_shared(ids, near, graph.nodes, NOTHING_JOINED, POLICY)
    for some, all_of_them in zip(of_some, of_all, strict=True):
        assert some.tolist() == all_of_them[graph.nodes.at(ids)].tolist()


def host(
    *pairs: Pair | str, of: str = "d1", shared: str = "d1", hubs: str = "", policy: Policy = POLICY
) -> str:
    """Whose `of` is: the name of the neighbour that it is given to, "" for nobody."""
    graph = Graph(pairs, policy=policy)
    found = choose_hosts(graph.ids(of), graph.pairs, graph.marked(shared, hubs), policy)
    return graph.named(found)[0]


class TestHosts:
    def test_a_shared_identifier_goes_to_the_neighbour_it_is_tied_to_most(self):
        assert host(Pair("u1 d1", 2), Pair("u2 d1", 9)) == "u2"

    def test_the_order_of_evidence_says_which_tie_is_the_strongest(self):
        assert host(Pair("u1 d1", 2, 5), Pair("u2 d1", 3, 1)) == "u2"  # of one power of two: seen earlier
        assert host(Pair("u1 d1", 1), Pair("c1 d1", 99)) == "u1"  # the better namespace

    def test_a_neighbour_that_is_shared_itself_hosts_nobody(self):
        assert host(Pair("e1 d1", 9), Pair("u1 e1"), Pair("c1 d1"), shared="d1 e1") == "c1"
        assert host("e1 d1", shared="d1 e1") == ""

    def test_a_hub_stands_alone(self):
        assert host("u1 d1", "u2 d1", hubs="d1") == ""

    def test_under_own_profile_every_shared_identifier_stands_alone(self):
        assert host("u1 d1", "u2 d1", policy=OWN_PROFILE) == ""

    def test_an_attached_weak_identifier_is_given_to_nobody_and_hosts_nobody(self):
        assert host("u1 b1", "u2 b1", of="b1", shared="b1", policy=ATTACHING) == ""
        assert host(Pair("d1 b1", 99), Pair("d1 c1"), policy=ATTACHING) == "c1"
        assert host("d1 b1", policy=ATTACHING) == ""

    def test_what_somebody_has_decided_counts_against_all_of_this(self):
        decided = Pair("u2 d1", kind=MERGE_CODE)
        assert host(Pair("u1 d1", 99), decided) == "u2"
        assert host(Pair("u1 d1", 99), decided, hubs="d1") == "u2"
        assert host(Pair("u1 d1", 99), decided, policy=OWN_PROFILE) == "u2"

    def test_of_nothing_there_are_no_hosts(self):
        graph = Graph(["u1 d1"])
        assert choose_hosts(graph.ids(), graph.pairs, graph.nodes, POLICY).tolist() == []

    @given(pairs_among(WORDS), st.data())
    def test_hosts_depend_neither_on_the_order_of_rows_nor_on_node_ids(self, pairs, data):
        supported = [Pair(pair, data.draw(st.integers(1, 4))) for pair in pairs]
        shared = " ".join(by_counting(pairs, WORDS, POLICY)[0])
        found = []
        for rows, names in (
            (supported, WORDS),
            (data.draw(st.permutations(supported)), data.draw(st.permutations(WORDS))),
        ):
            graph = Graph(rows, names)
            ids = np.sort(graph.ids(*shared.split()))
            hosts = choose_hosts(ids, graph.pairs, graph.marked(shared), POLICY)
            found.append(dict(zip(graph.named(ids), graph.named(hosts), strict=True)))
        assert found[0] == found[1]
