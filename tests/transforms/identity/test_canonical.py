"""Canonical ids from batch to batch: which id a person keeps, which redirect, and which come back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.identity.test_resolve import tie_hash
from transforms.identity.canonical import (
    ORDINAL_BITS,
    CanonicalIds,
    TooManyPersons,
    assign_canonical_ids,
    minted_ids,
)

BATCH = 9
NEW = BATCH << ORDINAL_BITS
LETTERS = "abcdefgh"


@dataclass
class Persons:
    """Nodes, each a letter, with the ids they carry and first carried, and the redirects in force."""

    current: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    redirects: dict[int, int] = field(default_factory=dict)
    batch: int = BATCH

    def regroup(self, *groups: str, rows: str | None = None) -> CanonicalIds:
        """Make each group, `ab`, one person. `rows`: the letters in the order in which they are given."""
        letters = rows or "".join(groups)
        of = {letter: number for number, group in enumerate(groups) for letter in group}
        ids = assign_canonical_ids(
            np.array([of[letter] for letter in letters], np.int64),
            np.array([self.current.get(letter, 0) for letter in letters], np.int64),
            np.array([self.first.get(letter, 0) for letter in letters], np.int64),
            np.array([tie_hash(letter) for letter in letters], np.int64),
            (np.array(list(self.redirects), np.int64), np.array(list(self.redirects.values()), np.int64)),
            self.batch,
        )
        self.current = dict(zip(letters, ids.canonical.tolist(), strict=True))
        self.first = self.current | self.first
        self.redirects |= dict(zip(ids.retired.tolist(), ids.successor.tolist(), strict=True))
        for reopened in ids.reopened.tolist():
            del self.redirects[reopened]
        self.batch += 1
        return ids

    def owners(self, *groups: str) -> list[int]:
        """The id of each group, whose nodes must all carry it."""
        found = [{self.current[letter] for letter in group} for group in groups]
        assert all(len(ids) == 1 for ids in found)
        return [ids.pop() for ids in found]


def known(*groups: tuple[int, str], redirects: dict[int, int] | None = None, **first: int) -> Persons:
    """Persons by id and letters; `first`: who first carried another id than the present one."""
    current = {letter: number for number, group in groups for letter in group}
    return Persons(current, current | first, redirects or {})


def test_new_persons_get_ids_in_the_order_of_their_hashes_whatever_the_order_of_rows():
    by_hash = sorted("abc", key=tie_hash)
    for groups in (("a", "b", "c"), ("c", "a", "b")):
        persons = Persons()
        persons.regroup(*groups)
        assert persons.owners(*by_hash) == [NEW, NEW + 1, NEW + 2]


def test_an_id_is_the_batch_and_a_number_so_the_smaller_one_is_the_older():
    assert minted_ids(3, 0, 2).tolist() == [3 << 28, (3 << 28) + 1]
    assert minted_ids(3, 2, 1).tolist() == [(3 << 28) + 2]
    assert minted_ids(2, 2**28 - 1, 1)[0] < minted_ids(3, 0, 1)[0]


def test_a_batch_that_has_no_more_ids_is_refused():
    with pytest.raises(TooManyPersons, match="more than 268,435,456 new persons"):
        minted_ids(3, (1 << 28) - 1, 2)


def test_persons_that_stay_as_they_are_keep_their_ids():
    persons = known((7, "ab"), (8, "c"), redirects={9: 7}, b=9)
    ids = persons.regroup("ab", "c")
    assert persons.owners("ab", "c") == [7, 8]
    assert (len(ids.retired), len(ids.reopened)) == (0, 0)


def test_a_new_node_takes_the_id_of_the_person_it_joins():
    persons = known((7, "a"))
    persons.regroup("ab")
    assert persons.owners("ab") == [7]
    assert persons.first["b"] == 7


def test_the_older_id_survives_a_merge_though_its_person_is_the_smaller_one():
    persons = known((3, "a"), (7, "bcd"))
    persons.regroup("abcd")
    assert persons.owners("abcd") == [3]
    assert persons.redirects == {7: 3}


def test_redirects_are_led_on_in_one_step():
    persons = known((3, "a"), (7, "bc"), redirects={8: 7}, c=8)
    persons.regroup("abc")
    assert persons.redirects == {7: 3, 8: 3}


def test_a_split_leaves_the_id_with_most_of_those_who_first_carried_it():
    """c, d and e came later, from other persons: they are more, and have no vote."""
    persons = known((7, "abcde"), redirects={8: 7, 9: 7}, c=8, d=8, e=9)
    persons.regroup("ab", "cde")
    assert persons.owners("ab", "cde") == [7, 8]


def test_the_larger_part_of_those_who_first_carried_an_id_keeps_it_whatever_the_hashes():
    for larger, smaller in (("abc", "d"), ("bcd", "a"), ("acd", "b")):
        persons = known((7, "abcd"))
        persons.regroup(smaller, larger)
        assert persons.owners(larger, smaller) == [7, NEW]


def test_a_split_in_equal_parts_leaves_the_id_with_the_smaller_hash():
    persons = known((7, "abcd"))
    halves = sorted(("ab", "cd"), key=lambda half: min(map(tie_hash, half)))
    persons.regroup("ab", "cd")
    assert persons.owners(*halves) == [7, NEW]


def test_a_retired_id_reopens_where_its_own_nodes_part_again():
    persons = known((3, "a"), (7, "b"))
    persons.regroup("ab")
    ids = persons.regroup("a", "b")
    assert persons.owners("a", "b") == [3, 7]
    assert ids.reopened.tolist() == [7]
    assert persons.redirects == {}


def test_an_id_that_was_retired_into_somebody_else_is_not_reopened():
    """9 redirects to a person who is not here, so b, who first carried it, gets a new id."""
    persons = known((7, "ab"), b=9)
    persons.regroup("a", "b")
    assert persons.owners("a", "b") == [7, NEW]


def test_an_id_whose_first_carriers_are_elsewhere_follows_those_who_carry_it():
    persons = known((7, "ab"), (8, "cd"), a=1, b=1)
    persons.regroup("ab", "cd")
    assert persons.owners("ab", "cd") == [7, 8]


def test_a_redirect_without_nodes_of_its_own_follows_its_successor():
    persons = known((4, "a"), (7, "b"), redirects={5: 7})
    persons.regroup("ab")
    assert persons.redirects == {5: 4, 7: 4}


def test_a_redirect_without_nodes_of_its_own_is_not_reopened_though_it_is_the_oldest():
    persons = known((7, "a"), redirects={5: 7})
    persons.regroup("ab")
    assert persons.owners("ab") == [7]
    assert persons.redirects == {5: 7}


# Each letter's group number: any partition of eight nodes.
partitions = st.lists(st.integers(0, 4), min_size=len(LETTERS), max_size=len(LETTERS)).map(
    lambda numbers: [
        "".join(letter for letter, number in zip(LETTERS, numbers, strict=True) if number == group)
        for group in sorted(set(numbers))
    ]
)


@given(st.lists(partitions, min_size=1, max_size=6))
def test_ids_name_persons_and_redirects_lead_to_living_ones_in_one_step(history: list[list[str]]):
    persons, given_out = Persons(), set()
    for groups in history:
        persons.regroup(*groups)
        owners = persons.owners(*groups)
        assert len(set(owners)) == len(groups)
        given_out |= set(owners)
        assert given_out == {*owners, *persons.redirects}
        assert set(persons.redirects.values()) <= set(owners)
        assert not set(persons.redirects) & set(owners)


@given(st.lists(partitions, min_size=1, max_size=4))
def test_the_same_persons_again_change_nothing(history: list[list[str]]):
    persons = Persons()
    for groups in history:
        persons.regroup(*groups)
    before, redirects = dict(persons.current), dict(persons.redirects)
    persons.regroup(*history[-1])
    assert (persons.current, persons.redirects) == (before, redirects)


@given(partitions, st.lists(partitions, max_size=5))
def test_whatever_came_between_the_first_persons_get_their_first_ids_back(groups, between):
    persons = Persons()
    persons.regroup(*groups)
    before = dict(persons.current)
    for others in between:
        persons.regroup(*others)
    persons.regroup(*groups)
    assert persons.current == before


@given(st.lists(partitions, min_size=1, max_size=5), st.data())
def test_neither_the_order_of_rows_nor_the_numbers_of_clusters_matter(history, data: st.DataObject):
    one, other = Persons(), Persons()
    for groups in history:
        one.regroup(*groups)
        rows = "".join(data.draw(st.permutations(LETTERS)))
        other.regroup(*data.draw(st.permutations(groups)), rows=rows)
        assert (other.current, other.redirects) == (one.current, one.redirects)
