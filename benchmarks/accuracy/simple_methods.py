"""What simpler methods believe of the same events, and the two cohort questions that every method is asked.

The three baselines are as good as their ideas allow. All take silver's events (tenant, event_id, event_at,
platform, anchor_node_id, user_node_id, node_ids) and identifiers (tenant, node_id, namespace, value), junk
values already removed, and name a person after a node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmarks.accuracy.pairs import UTC_MICROSECONDS, Assignment, Truth, memberships

# Whose every session can be known: all their devices are their own and, in the end, tied together.
EXACT_GROUPS = ("connected", "anonymous_single")
MOST_EXAMPLES = 5
SESSION_GAP = timedelta(minutes=30)


def group_by_user_id(events: pa.Table, identifiers: pa.Table) -> Assignment:
    """An identifier is the first user's it was seen with, else alone; an event is its own user's.

    An event without a user is a visitor's who is only known by the event's anchor: logging in later does not
    bring the history along.
    """
    owner = _users_of_nodes(events, keep="first")
    event_owner = pc.coalesce(events["user_node_id"], events["anchor_node_id"])
    return _assignment("group_by_user_id", events, identifiers, owner, event_owner)


def last_login_wins(events: pa.Table, identifiers: pa.Table) -> Assignment:
    """An identifier is the latest user's it was seen with, and so is all that was ever done on it without one."""
    owner = _users_of_nodes(events, keep="last")
    of_anchor = _look_up(owner, events["anchor_node_id"])
    event_owner = pc.coalesce(events["user_node_id"], of_anchor, events["anchor_node_id"])
    return _assignment("last_login_wins", events, identifiers, owner, event_owner)


def plain_connected_components(events: pa.Table, identifiers: pa.Table) -> Assignment:
    """Whatever was ever seen together is one person: no limit, no shared devices, no hubs."""
    _, row, node = _seen_nodes(events)
    nodes, number = np.unique(node, return_inverse=True)
    # The nodes of one event follow each other: linking neighbours links them all.
    together = row[1:] == row[:-1]
    left, right = number[:-1][together], number[1:][together]
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    # A component is named after its smallest node, which comes first in `nodes`.
    _, first = np.unique(component, return_index=True)
    owner = pa.table({"node_id": nodes, "owner": nodes[first[component]]})
    event_owner = pc.coalesce(_look_up(owner, events["anchor_node_id"]), events["anchor_node_id"])
    return _assignment("plain_connected_components", events, identifiers, owner, event_owner)


BASELINES: tuple[Callable[[pa.Table, pa.Table], Assignment], ...] = (
    group_by_user_id,
    last_login_wins,
    plain_connected_components,
)


def simple_profiles(events: pa.Table, assignment: Assignment) -> pa.Table:
    """One row per canonical id of the events: what the two cohort questions ask for.

    Sessions are cut per canonical id and anchor at gaps longer than 30 minutes, and nothing else is considered.
    The assignment is a baseline's over these events: its event_owners are in their order.
    """
    assert assignment.event_owners is not None, "simple_profiles asks whose each event is"
    owners, is_user = assignment.event_owners, events["user_node_id"].is_valid()
    rows = pd.DataFrame(
        {
            "canonical_id": owners["canonical_id"].to_numpy(),
            "anchor": events["anchor_node_id"].to_numpy(),
            "at": events["event_at"].cast(UTC_MICROSECONDS).to_numpy(),
            "event_id": events["event_id"].to_pandas(),
            "platform": events["platform"].to_pandas(),
            "has_user": is_user.to_numpy(),
        }
    ).sort_values(["canonical_id", "anchor", "at", "event_id"], ignore_index=True)
    # Rows are compared with their predecessors as integers: `shift` would make floats, which blur node ids.
    is_start = (rows["at"].diff() > SESSION_GAP).to_numpy()
    for name in ("canonical_id", "anchor"):
        is_start[1:] |= rows[name].to_numpy()[1:] != rows[name].to_numpy()[:-1]
    rows["session"] = is_start.cumsum()
    sessions = rows.groupby("session").agg(
        canonical_id=("canonical_id", "first"), start_at=("at", "first"), has_user=("has_user", "any")
    )
    used = rows[["canonical_id", "platform"]].drop_duplicates().sort_values(["canonical_id", "platform"])
    persons = used.groupby("canonical_id").agg(platforms=("platform", list))
    persons["first_login_at"] = rows[rows["has_user"]].groupby("canonical_id")["at"].min()
    persons["login_count"] = sessions.groupby("canonical_id")["has_user"].sum()
    is_before = sessions["start_at"] < sessions["canonical_id"].map(persons["first_login_at"])
    before = (is_before & ~sessions["has_user"]).groupby(sessions["canonical_id"]).sum()
    persons["anonymous_session_count_before_first_login"] = before
    columns = ["platforms", "login_count", "anonymous_session_count_before_first_login"]
    return pa.Table.from_pandas(persons[columns].reset_index(), preserve_index=False)


@dataclass(frozen=True)
class Mismatch:
    """What is wrong with how many persons, and a few of them by their labels in the truth."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class CohortAnswer:
    """One cohort question asked of the truth and of the profiles, over the persons of the exact groups.

    A person answers if one of her profiles does; `profile_count` is the number that an analyst would read.
    """

    question: str
    truth_count: int
    profile_count: int
    missing: Mismatch
    surplus: Mismatch

    @property
    def is_equal(self) -> bool:
        return self.truth_count == self.profile_count and not self.missing.count and not self.surplus.count


def _logged_in_and_used_mobile(profiles: pa.Table) -> pa.ChunkedArray:
    platforms = profiles["platforms"].combine_chunks()
    used = pc.list_parent_indices(platforms).filter(pc.equal(pc.list_flatten(platforms), "mobile"))
    used_mobile = np.zeros(len(profiles), dtype=bool)
    used_mobile[used.to_numpy()] = True
    return pc.and_(pc.greater_equal(profiles["login_count"], 1), pa.array(used_mobile))


def _three_anonymous_sessions_then_login(profiles: pa.Table) -> pa.ChunkedArray:
    three = pc.greater_equal(profiles["anonymous_session_count_before_first_login"], 3)
    return pc.and_(three, pc.greater_equal(profiles["login_count"], 1))


COHORT_QUESTIONS = {
    "logged_in_and_used_mobile": _logged_in_and_used_mobile,
    "three_anonymous_sessions_then_login": _three_anonymous_sessions_then_login,
}


def cohort_answers(truth: Truth, assignment: Assignment, profiles: pa.Table) -> tuple[CohortAnswer, ...]:
    """The cohort questions, answered from the truth and from any profiles with the columns they ask for."""
    is_asked = truth.is_in(EXACT_GROUPS)
    persons, clusters, canonical_ids = memberships(truth, assignment)
    place = pc.fill_null(pc.index_in(profiles["canonical_id"], value_set=canonical_ids), -1).to_numpy()
    is_touched = np.isin(place, clusters[is_asked[persons]])
    answers = []
    for question, ask in COHORT_QUESTIONS.items():
        in_truth = is_asked & _flags(ask(truth.persons))
        answering = _flags(ask(profiles)) & is_touched
        in_profiles = np.zeros_like(is_asked)
        in_profiles[persons[np.isin(clusters, place[answering])]] = True
        in_profiles &= is_asked
        missing, surplus = in_truth & ~in_profiles, in_profiles & ~in_truth
        counts = int(in_truth.sum()), int(answering.sum())
        answers.append(CohortAnswer(question, *counts, mismatch(truth, missing), mismatch(truth, surplus)))
    return tuple(answers)


def mismatch(truth: Truth, is_wrong: np.ndarray) -> Mismatch:
    labels = truth.persons["person"].filter(pa.array(is_wrong)).slice(0, MOST_EXAMPLES)
    return Mismatch(int(is_wrong.sum()), tuple(labels.to_pylist()))


def _flags(answers: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(answers, False).to_numpy().astype(bool)


def _seen_nodes(events: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users, event rows, nodes) of all (event, node) pairs; the user is the event's own, or -1 without one."""
    lists = events["node_ids"].combine_chunks()
    row, node = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).to_numpy()
    user = pc.fill_null(events["user_node_id"], -1).to_numpy()
    return user[row], row, node


def _users_of_nodes(events: pa.Table, keep: str) -> pa.Table:
    """The first or the last user that each node was seen with, in the order of (event_at, event_id)."""
    ids = events["event_id"].cast(pa.string())  # Arrow does not sort string views
    in_order = events.select(["event_at", "node_ids", "user_node_id"]).append_column("event_id", ids)
    in_order = in_order.sort_by([("event_at", "ascending"), ("event_id", "ascending")])
    user, _, node = _seen_nodes(in_order.filter(in_order["user_node_id"].is_valid()))
    seen = pd.DataFrame({"node_id": node, "owner": user}).drop_duplicates("node_id", keep=keep)
    return pa.Table.from_pandas(seen, preserve_index=False)


def _look_up(owner: pa.Table, node_ids: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Each node's owner, null where it has none."""
    places = pc.index_in(node_ids, value_set=owner["node_id"].combine_chunks())
    return owner["owner"].combine_chunks().take(places)


def _assignment(
    name: str, events: pa.Table, identifiers: pa.Table, owner: pa.Table, event_owner: pa.ChunkedArray
) -> Assignment:
    """An identifier without an owner is a person of its own, named after its node."""
    canonical_id = pc.coalesce(_look_up(owner, identifiers["node_id"]), identifiers["node_id"])
    return Assignment(
        name,
        identifiers.select(["tenant", "namespace", "value"]).append_column("canonical_id", canonical_id),
        events.select(["tenant", "event_id"]).append_column("canonical_id", event_owner),
    )
