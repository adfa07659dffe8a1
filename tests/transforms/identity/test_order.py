"""Which evidence is believed first: five rules, each of which decides only where those before it say nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.identity.graphs import Graph, Pair
from tests.transforms.identity.test_resolve import tie_hash
from transforms.identity.evidence import ALIAS_CODE, MERGE_CODE
from transforms.identity.order import believed_order, pair_hash, support_bucket

NAMES = [f"{letter}{number}" for letter in "uedc" for number in range(3)]
ALL_PAIRS = [" ".join(pair) for pair in itertools.combinations(NAMES, 2)]


def believed(pairs: list[Pair], names: list[str] | None = None) -> list[str]:
    """The names of the pairs, most believed first."""
    graph = Graph(pairs, names or ())
    return [pairs[row].names for row in believed_order(graph.pairs, graph.nodes, graph.policy).tolist()]


# Each line is better by its own rule, and worse by every later one.
RULES = {
    "a decided merge before an alias": (Pair("c1 c2", 1, 9, MERGE_CODE), Pair("u1 e1", 99, 0, ALIAS_CODE)),
    "an alias before what was seen": (Pair("c1 c2", 1, 9, ALIAS_CODE), Pair("u1 e1", 99, 0)),
    "the better best priority": (Pair("u1 c1", 1, 9), Pair("e1 d1", 99, 0)),
    "then the better other priority": (Pair("u1 d1", 1, 9), Pair("u1 c1", 99, 0)),
    "then more support": (Pair("u1 d1", 4, 9), Pair("u2 d1", 3, 0)),
    "then seen earlier": (Pair("u1 d1", 7, 3), Pair("u2 d1", 4, 4)),
}


@pytest.mark.parametrize("better, worse", RULES.values(), ids=RULES)
def test_a_rule_decides_before_every_later_one(better: Pair, worse: Pair):
    assert believed([worse, better]) == believed([better, worse]) == [better.names, worse.names]


def test_support_within_a_power_of_two_decides_nothing():
    assert support_bucket(np.array([1, 2, 3, 4, 7, 8])).tolist() == [0, 1, 1, 2, 2, 3]
    earlier, later = Pair("u1 d1", 4, 0), Pair("u2 d1", 7, 1)
    assert believed([later, earlier]) == [earlier.names, later.names]


@given(st.integers(1, 2**52))
def test_a_bucket_is_the_number_of_the_counts_highest_bit(count: int):
    assert support_bucket(np.array([count])).tolist() == [count.bit_length() - 1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_a_pairs_hash_is_the_same_from_both_ends(ties: list[int]):
    a, b = (np.array([tie]) for tie in ties)
    assert pair_hash(a, b) == pair_hash(b, a)


def test_the_hash_tells_all_pairs_apart():
    ties = np.array([[tie_hash(name) for name in pair.split()] for pair in ALL_PAIRS])
    assert len(set(pair_hash(ties[:, 0], ties[:, 1]).tolist())) == len(ALL_PAIRS)


# Few values of each kind, so that most pairs are equal by several rules.
supported = st.lists(
    st.builds(Pair, st.sampled_from(ALL_PAIRS), st.integers(1, 4), st.integers(0, 1), st.integers(0, 2)),
    unique_by=lambda pair: pair.names,
    max_size=12,
)


@given(supported, st.data())
def test_neither_the_order_of_rows_nor_the_node_ids_matter(pairs: list[Pair], data: st.DataObject):
    """Node ids are hashes with a secret key: another key numbers the same identifiers in another order."""
    shuffled = data.draw(st.permutations(pairs))
    names = data.draw(st.permutations(NAMES))
    assert believed(shuffled, names) == believed(pairs, NAMES)
