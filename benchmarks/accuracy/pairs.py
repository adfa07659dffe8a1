"""Pairs and B-cubed: how well an assignment of identifiers, or of events, to persons agrees with the truth.

A shared identifier (a kiosk's device, a family's tablet) has no single owner, so it is left out of the pairs;
what happens on it is measured by the events, each of which has one true person.

An item that the assignment leaves out, or gives to nobody (a null), stands alone: it claims no pair, and so it
costs recall and never precision.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

UTC_MICROSECONDS = pa.timestamp("us", "UTC")
IDENTIFIER_KEY = ["tenant", "namespace", "value"]
EVENT_KEY = ["tenant", "event_id"]

PERSON_FIELDS = {
    "person": pa.string(),
    "group": pa.string(),
    "is_identified": pa.bool_(),
    "platforms": pa.list_(pa.string()),
    "session_count": pa.int64(),
    "anonymous_session_count": pa.int64(),
    "anonymous_session_count_before_first_login": pa.int64(),
    "authenticated_session_count": pa.int64(),
    "login_count": pa.int64(),
    "event_count": pa.int64(),
    "first_seen_at": UTC_MICROSECONDS,
    "last_seen_at": UTC_MICROSECONDS,
    "first_login_at": UTC_MICROSECONDS,
}
FIELDS_OF_RECORD = {
    "person": PERSON_FIELDS,
    "identifier": dict.fromkeys(IDENTIFIER_KEY, pa.string()) | {"persons": pa.list_(pa.string())},
    "event": dict.fromkeys(EVENT_KEY, pa.string()) | {"person": pa.string()},
}


@dataclass(frozen=True)
class Truth:
    """The generator's truth file as three tables: persons, identifiers (with all their persons), events."""

    persons: pa.Table
    identifiers: pa.Table
    events: pa.Table

    @cached_property
    def person_groups(self) -> np.ndarray:
        return np.asarray(self.persons["group"].to_pylist(), dtype=object)

    def is_in(self, groups: Collection[str]) -> np.ndarray:
        """One flag per person: of one of these groups."""
        return np.isin(self.person_groups.astype(str), list(groups))

    def numbers_of(self, names: pa.ChunkedArray) -> np.ndarray:
        """Each person's place in `persons`."""
        return (
            pc.index_in(names, value_set=self.persons["person"].combine_chunks()).to_numpy().astype(np.int64)
        )

    def owned_identifiers(self) -> pa.Table:
        """The identifiers of one person each; the column `person` says whose."""
        owned = self.identifiers.filter(pc.equal(pc.list_value_length(self.identifiers["persons"]), 1))
        return owned.append_column("person", pc.list_element(owned["persons"], 0))


@dataclass(frozen=True)
class Assignment:
    """What a method believes: identifiers → canonical id and, if it says so, events → canonical id."""

    name: str
    owners: pa.Table
    event_owners: pa.Table | None = None


@dataclass(frozen=True)
class Score:
    """Agreement over some items. Where nothing was claimed or nothing was to be found, the share is 1."""

    item_count: int
    true_pair_count: int
    claimed_pair_count: int
    right_pair_count: int
    bcubed_precision: float
    bcubed_recall: float

    @property
    def pair_precision(self) -> float:
        return self.right_pair_count / self.claimed_pair_count if self.claimed_pair_count else 1.0

    @property
    def pair_recall(self) -> float:
        return self.right_pair_count / self.true_pair_count if self.true_pair_count else 1.0


@dataclass(frozen=True)
class Scores:
    """`overall`, and per group of persons; a group's claimed pairs are all that touch an item of the group."""

    overall: Score
    by_group: dict[str, Score]
    shared_count: int  # identifiers of several persons: left out
    unowned_count: int  # items that the assignment leaves out or gives to nobody: alone
    unknown_count: int  # items of the assignment that the truth does not know: left out


def read_truth(path: Path | str) -> Truth:
    """The truth beside generated events (`stitchlake generate --truth FILE`)."""
    schema = {"record": pa.string()} | {
        n: t for fields in FIELDS_OF_RECORD.values() for n, t in fields.items()
    }
    options = pa.json.ParseOptions(explicit_schema=pa.schema(schema), unexpected_field_behavior="ignore")
    found: dict[str, list[pa.Table]] = {record: [] for record in FIELDS_OF_RECORD}
    for batch in pa.json.open_json(path, parse_options=options):
        for record, fields in FIELDS_OF_RECORD.items():
            rows = batch.filter(pc.equal(batch["record"], record))
            found[record].append(pa.Table.from_batches([rows]).select(list(fields)))
    persons, identifiers, events = (pa.concat_tables(tables).combine_chunks() for tables in found.values())
    if not len(persons):
        raise ValueError(f"{path} has no person; give the file that `stitchlake generate --truth` wrote")
    return Truth(persons, identifiers, events)


def pair_scores(truth: Truth, assignment: Assignment, groups: Collection[str] | None = None) -> Scores:
    """Agreement on identifiers; `groups` (all of them by default) are scored one by one as well."""
    owned = truth.owned_identifiers()
    return _scores(truth, owned, truth.identifiers, assignment.owners, IDENTIFIER_KEY, groups)


def event_scores(truth: Truth, assignment: Assignment, groups: Collection[str] | None = None) -> Scores:
    """Agreement on events: whose does each event turn out to be?"""
    if assignment.event_owners is None:
        raise ValueError(f"{assignment.name} says nothing of events; give it event_owners")
    return _scores(truth, truth.events, truth.events, assignment.event_owners, EVENT_KEY, groups)


def memberships(truth: Truth, assignment: Assignment) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """One membership per identifier or event of one true person: person number, number of its canonical id.

    The third part are the canonical ids by number; numbers beyond it are of items that stand alone.
    """
    items = [(truth.owned_identifiers(), assignment.owners, IDENTIFIER_KEY)]
    if assignment.event_owners is not None:
        items.append((truth.events, assignment.event_owners, EVENT_KEY))
    found = [with_owners(true, owners, key) for true, owners, key in items]
    persons = np.concatenate([truth.numbers_of(table["person"]) for table in found])
    canonical_ids = pa.chunked_array([c for table in found for c in table["canonical_id"].chunks])
    return persons, *numbered(canonical_ids)


def with_owners(items: pa.Table, owners: pa.Table, key: list[str]) -> pa.Table:
    """The items, each with the canonical id that the assignment gives it (null: nobody's)."""
    wanted = owners.select([*key, "canonical_id"]).cast(
        pa.schema(
            [
                *((name, pa.string()) for name in key),
                ("canonical_id", owners.schema.field("canonical_id").type),
            ]
        )
    )
    lists = [name for name in items.column_names if pa.types.is_list(items.schema.field(name).type)]
    joined = items.drop_columns(lists).join(wanted, key, join_type="left outer")
    if len(joined) != len(items):
        raise ValueError(f"an assignment names a {'/'.join(key)} more than once; give one row for each")
    return joined


def numbered(canonical_ids: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """A number per row and the ids by number; every null gets a number of its own, behind those of the ids."""
    ids = pc.unique(canonical_ids.drop_null())
    numbers = pc.fill_null(pc.index_in(canonical_ids, value_set=ids), -1).to_numpy().astype(np.int64)
    alone = numbers < 0
    numbers[alone] = len(ids) + np.arange(alone.sum())
    return numbers, ids


def whole_persons(truth: Truth, assignment: Assignment) -> np.ndarray:
    """One flag per person: everything of hers has one canonical id, and nothing of another person's has it."""
    persons, clusters, _ = memberships(truth, assignment)
    pairs = np.unique(np.stack([persons, clusters], axis=1), axis=0)
    persons_per_cluster = np.bincount(pairs[:, 1])
    clusters_per_person = np.bincount(pairs[:, 0], minlength=len(truth.persons))
    holds_others = np.zeros(len(truth.persons), dtype=bool)
    holds_others[pairs[persons_per_cluster[pairs[:, 1]] > 1, 0]] = True
    return (clusters_per_person == 1) & ~holds_others


def _scores(
    truth: Truth,
    items: pa.Table,
    known: pa.Table,
    owners: pa.Table,
    key: list[str],
    groups: Collection[str] | None,
) -> Scores:
    """Scores over `items`, those of all `known` ones that have one true person."""
    found = with_owners(items, owners, key)
    persons = truth.numbers_of(found["person"])
    clusters, _ = numbered(found["canonical_id"])
    group_of_item = truth.person_groups[persons].astype(str)
    wanted = sorted(set(truth.person_groups)) if groups is None else groups
    keys = known.select(key)
    return Scores(
        overall=score(persons, clusters, np.ones(len(persons), dtype=bool)),
        by_group={group: score(persons, clusters, group_of_item == group) for group in wanted},
        shared_count=len(known) - len(items),
        unowned_count=found["canonical_id"].null_count,
        unknown_count=len(owners.select(key).cast(keys.schema).join(keys, key, join_type="left anti")),
    )


def score(persons: np.ndarray, clusters: np.ndarray, is_counted: np.ndarray) -> Score:
    """Agreement on the counted items, from the sizes of persons, clusters and their overlaps; no pair is listed.

    `is_counted` keeps persons whole. A cluster of n items, m of them counted, claims n(n-1)/2 pairs, and all but
    (n-m)(n-m-1)/2 of these touch a counted item.
    """
    cells = persons * (clusters.max(initial=0) + 1) + clusters
    _, cell_of_item, cell_sizes = np.unique(cells, return_inverse=True, return_counts=True)
    overlap = cell_sizes[cell_of_item][is_counted]
    person_size = np.bincount(persons)[persons][is_counted]
    cluster_sizes = np.bincount(clusters)
    cluster_size = cluster_sizes[clusters][is_counted]
    untouched = cluster_sizes - np.bincount(clusters[is_counted], minlength=len(cluster_sizes))
    count = len(overlap)
    return Score(
        item_count=count,
        true_pair_count=int((person_size - 1).sum()) // 2,
        claimed_pair_count=_pairs(cluster_sizes) - _pairs(untouched),
        right_pair_count=int((overlap - 1).sum()) // 2,
        bcubed_precision=float((overlap / cluster_size).mean()) if count else 1.0,
        bcubed_recall=float((overlap / person_size).mean()) if count else 1.0,
    )


def _pairs(sizes: np.ndarray) -> int:
    return int((sizes * (sizes - 1) // 2).sum())
