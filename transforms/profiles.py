"""Profiles: what the sessions of a person's nodes, and these nodes, say of the person.

Always folded from session rows and never counted on: a merge of two persons can change "anonymous sessions before the
first login" in ways that no sum of the two shows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.tables.gold import PLATFORM_FLAGS, PROFILES
from conf.tables.silver import SESSIONS
from transforms.grouped import (
    EARLIEST,
    LATEST,
    Flags,
    Longs,
    changes,
    codes,
    conformed,
    distinct_lists,
    distinct_pairs,
    flags,
    longs,
    nullable,
    offsets,
    places,
    whole,
)  # fmt: skip
from transforms.integers import distinct_first, places_in

_AT = SESSIONS.arrow.field("start_at").type
SESSION_COLUMNS = (
    "start_at", "end_at", "is_anonymous", "event_count", "login_event_count", "first_authenticated_at",
    "last_login_event_at", "platforms", "first_touch", "last_touch",
)  # fmt: skip
TOUCH_PARTS = ("source", "medium", "campaign", "referrer")


def fold_profiles(sessions: pa.Table, nodes: pa.Table, policy: Policy, batch_id: int) -> pa.Table:
    """One row is one person: every canonical_id of `nodes` or `sessions`, ascending.

    sessions: all sessions of these persons, SESSIONS' columns and canonical_id, the person that owner_node_id belongs
    to. nodes: all nodes of these persons, each once: canonical_id, tenant, node_id, namespace. A person may have no
    session (an e-mail only seen in sessions of others), and no identifier (an anchor's unclaimed node).
    """
    person_of_session, person_of_node = longs(sessions["canonical_id"]), longs(nodes["canonical_id"])
    both = np.concatenate((person_of_node, person_of_session))
    persons, first_row = distinct_first(both)
    tenants = pa.concat_arrays([whole(t["tenant"]).cast(pa.string()) for t in (nodes, sessions)])
    columns = {
        "tenant": tenants.take(pa.array(first_row)),
        "canonical_id": pa.array(persons),
        **_from_sessions(sessions, places_in(persons, person_of_session), len(persons)),
        **_from_nodes(nodes, places_in(persons, person_of_node), len(persons), policy),
        "updated_batch_id": pa.array(np.full(len(persons), batch_id, np.int64)),
    }
    return pa.Table.from_arrays([columns[n] for n in PROFILES.names], schema=PROFILES.arrow)


def _from_sessions(sessions: pa.Table, person: Longs, persons: int) -> dict[str, pa.Array]:
    by_person = np.argsort(person, kind="stable")
    person = person[by_person]
    rows = conformed(sessions, SESSIONS.arrow, SESSION_COLUMNS)
    fold = _Fold(person, persons)

    def column(name: str, missing: int = 0) -> Longs:
        return longs(rows[name], missing)[by_person]

    is_anonymous = flags(rows["is_anonymous"])[by_person]
    start_at, first_authenticated_at = column("start_at"), column("first_authenticated_at", LATEST)
    first_login_at = fold.least(first_authenticated_at)
    login_at = column("last_login_event_at", EARLIEST)
    login_at = np.where(login_at == EARLIEST, first_authenticated_at, login_at)
    last_login_at = fold.most(np.where(is_anonymous, EARLIEST, login_at))
    has_login = first_login_at[person] != LATEST
    before_login = is_anonymous & has_login & (start_at < first_login_at[person])
    logins = column("login_event_count")
    unwritten_login = ~is_anonymous & (logins == 0)
    return {
        **_platforms(whole(rows["platforms"]), person, by_person, persons),
        "session_count": pa.array(fold.count(np.ones(len(person), np.bool_))),
        "anonymous_session_count": pa.array(fold.count(is_anonymous)),
        "anonymous_session_count_before_first_login": pa.array(fold.count(before_login)),
        "authenticated_session_count": pa.array(fold.count(~is_anonymous)),
        "login_count": pa.array(fold.total(logins + unwritten_login)),
        "event_count": pa.array(fold.total(column("event_count"))),
        "first_seen_at": nullable(fold.least(start_at), _AT, LATEST),
        "last_seen_at": nullable(fold.most(column("end_at")), _AT, EARLIEST),
        "first_login_at": nullable(first_login_at, _AT, LATEST),
        "last_login_at": nullable(last_login_at, _AT, EARLIEST),
        **_touch_columns("first_touch", whole(rows["first_touch"]), fold, by_person),
        **_touch_columns("last_touch", whole(rows["last_touch"]), fold, by_person),
    }


class _Fold:
    """Sums, least and greatest values per person 0 … persons-1 of rows that are sorted by person."""

    def __init__(self, person: Longs, persons: int) -> None:
        self.starts = np.flatnonzero(changes(person))
        self.present = person[self.starts]
        self.persons = persons

    def total(self, values: Longs) -> Longs:
        return self._spread(np.add, values, 0)

    def count(self, is_counted: Flags) -> Longs:
        return self.total(is_counted.astype(np.int64))

    def least(self, values: Longs) -> Longs:
        return self._spread(np.minimum, values, LATEST)

    def most(self, values: Longs) -> Longs:
        return self._spread(np.maximum, values, EARLIEST)

    def _spread(self, merge: np.ufunc, values: Longs, without_rows: int) -> Longs:
        folded = np.full(self.persons, without_rows, np.int64)
        if len(self.present):
            folded[self.present] = merge.reduceat(values, self.starts)
        return folded


def _platforms(lists: pa.Array, person: Longs, by_person: Longs, persons: int) -> dict[str, pa.Array]:
    person_of_row = np.empty(len(person), np.int64)
    person_of_row[by_person] = person
    person_of_use = np.repeat(person_of_row, longs(pc.list_value_length(lists)))
    code, platforms = codes(lists.flatten())
    is_known = code >= 0
    person_of_use, code = person_of_use[is_known], code[is_known]
    all_used = distinct_lists(person_of_use, code, persons, platforms, PROFILES.arrow.field("platforms").type)
    columns = {"platforms": all_used}
    names = platforms.to_pylist()
    for platform in PLATFORM_FLAGS:
        has_used = np.zeros(persons, np.bool_)
        if platform in names:
            has_used[person_of_use[code == names.index(platform)]] = True
        columns[f"has_used_{platform}"] = pa.array(has_used)
    return columns


def _touch_columns(name: str, touches: pa.Array, fold: _Fold, by_person: Longs) -> dict[str, pa.Array]:
    """The parts of each person's first or last touch, by instant and event id."""
    parts = dict(zip((f.name for f in touches.type), touches.flatten(), strict=True))
    is_known = flags(touches.is_valid())
    known = np.flatnonzero(is_known)
    width = max(1, len(touches))
    is_first = name == "first_touch"
    missing = LATEST if is_first else EARLIEST
    encoded = np.full(len(touches), missing, np.int64)
    taken = pa.array(known)
    encoded[known] = places(longs(parts["at"].take(taken)), parts["event_id"].take(taken)) * width + known
    chosen = (fold.least if is_first else fold.most)(encoded[by_person])
    is_missing = chosen == missing
    rows = pa.array(np.where(is_missing, 0, chosen % width), mask=is_missing)
    return {f"{name}_{part}": parts[part].take(rows) for part in TOUCH_PARTS}


def _from_nodes(nodes: pa.Table, person: Longs, persons: int, policy: Policy) -> dict[str, pa.Array]:
    """Identifiers are counted; an anchor's unclaimed node (negative) is none."""
    code, namespaces = codes(whole(nodes["namespace"]).cast(pa.string()))
    is_identifier = (longs(nodes["node_id"]) > 0) & (code >= 0)
    person, code, count = distinct_pairs(person[is_identifier], code[is_identifier], len(namespaces))
    names = namespaces.to_pylist()

    def count_of(namespace: str) -> pa.Array:
        counts = np.zeros(persons, np.int64)
        if namespace in names:
            is_it = code == names.index(namespace)
            counts[person[is_it]] = count[is_it]
        return pa.array(counts)

    unique = {n.name for n in policy.namespaces if n.strength == "unique"}
    is_unique = np.array([name in unique for name in names], np.bool_)
    is_identified = np.zeros(persons, np.bool_)
    is_identified[person[is_unique[code]]] = True
    counts = pa.MapArray.from_arrays(
        offsets(person, persons),
        namespaces.take(pa.array(code)),
        pa.array(count),
        type=PROFILES.arrow.field("identifier_counts").type,
    )
    return {
        "is_identified": pa.array(is_identified),
        "device_count": count_of("device_id"),
        "cookie_count": count_of("cookie_id"),
        "identifier_counts": counts,
    }
