"""The fold of a person's sessions: one row, updated without reading all sessions again.

`WAYS` says of each column how it follows from sessions, and so how it changes when some are taken away and others
added. A sum always does. A least or greatest value does unless the session that had it is taken away and no added one
covers it; then her sessions have to be folded again. So is it where her first login is another instant than before:
which of her anonymous sessions come before it, no sum shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables.silver import SESSIONS
from transforms.arrays.grouped import (
    EARLIEST,
    LATEST,
    Flags,
    Longs,
    changes,
    codes,
    conformed,
    flags,
    longs,
    nullable,
    offsets,
    places,
    whole,
)  # fmt: skip
from transforms.arrays.integers import distinct_first, distinct_pairs, places_in

Way = Literal["sum", "sum_before_login", "least", "most", "uses", "first_touch", "last_touch"]
WAYS: Mapping[str, Way] = {
    "session_count": "sum",
    "anonymous_session_count": "sum",
    "anonymous_session_count_before_first_login": "sum_before_login",
    "authenticated_session_count": "sum",
    "login_count": "sum",
    "event_count": "sum",
    "first_seen_at": "least",
    "last_seen_at": "most",
    "first_login_at": "least",
    "last_login_at": "most",
    "platforms": "uses",
    "first_touch": "first_touch",
    "last_touch": "last_touch",
}
SESSION_COLUMNS = (
    "start_at", "end_at", "is_anonymous", "event_count", "login_event_count", "first_authenticated_at",
    "last_login_event_at", "platforms", "first_touch", "last_touch",
)  # fmt: skip
_AT = SESSIONS.arrow.field("start_at").type
_USE = pa.struct([("platform", pa.string()), ("session_count", pa.int64())])
_TYPES: Mapping[Way, pa.DataType] = {
    "sum": pa.int64(),
    "sum_before_login": pa.int64(),
    "least": _AT,
    "most": _AT,
    "uses": pa.list_(_USE),
    "first_touch": SESSIONS.arrow.field("first_touch").type,
    "last_touch": SESSIONS.arrow.field("last_touch").type,
}
# One row is one person. `platforms`: those used, ascending, and in how many sessions each.
PERSON_FOLDS = pa.schema(
    [("canonical_id", pa.int64()), ("tenant", pa.string()), *((n, _TYPES[way]) for n, way in WAYS.items())]
)
_MISSING = {"least": LATEST, "first_touch": LATEST, "most": EARLIEST, "last_touch": EARLIEST}


def fold_sessions(sessions: pa.Table) -> pa.Table:
    """PERSON_FOLDS of the persons that have one of `sessions`, ascending; these are all of their sessions.

    sessions: SESSION_COLUMNS, tenant, and canonical_id, the person that owner_node_id belongs to.
    """
    person = longs(sessions["canonical_id"])
    persons, first_row = distinct_first(person)
    tenants = whole(sessions["tenant"]).cast(pa.string()).take(pa.array(first_row))
    return _folded(sessions, places_in(persons, person), persons, tenants, None)


def folds_after(known: pa.Table, removed: pa.Table, added: pa.Table) -> tuple[pa.Table, Flags]:
    """(folds, is_sure), one row per row of `known`, which is ascending: these persons' folds once the sessions
    `removed` are taken away and `added` are there. Both have what `fold_sessions` takes, of these persons alone. Where
    it is not sure, all sessions of the person have to be folded."""
    persons, tenants = longs(known["canonical_id"]), whole(known["tenant"])
    login = longs(known["first_login_at"], LATEST)
    old = conformed(known, PERSON_FOLDS, tuple(PERSON_FOLDS.names))
    was, new = (
        _folded(s, places_in(persons, longs(s["canonical_id"])), persons, tenants, login)
        for s in (removed, added)
    )
    is_sure = np.ones(len(persons), np.bool_)
    columns = {"canonical_id": old["canonical_id"], "tenant": old["tenant"]}
    for name, way in WAYS.items():
        columns[name], is_kept = _AFTER[way](whole(old[name]), whole(was[name]), whole(new[name]), way)
        is_sure &= is_kept
    is_sure &= longs(columns["first_login_at"], LATEST) == login
    return pa.Table.from_arrays([columns[n] for n in PERSON_FOLDS.names], schema=PERSON_FOLDS), is_sure


def _folded(
    sessions: pa.Table, person: Longs, persons: Longs, tenants: pa.Array, first_login_at: Longs | None
) -> pa.Table:
    """The folds of `persons`; `person`: the place of each session's. Anonymous sessions are counted that start before
    `first_login_at`: by default, before the first login in `sessions`."""
    by_person = np.argsort(person, kind="stable")
    person = person[by_person]
    rows = conformed(sessions, SESSIONS.arrow, SESSION_COLUMNS)
    fold = _Fold(person, len(persons))

    def column(name: str, missing: int = 0) -> Longs:
        return longs(rows[name], missing)[by_person]

    is_anonymous = flags(rows["is_anonymous"])[by_person]
    start_at, first_authenticated_at = column("start_at"), column("first_authenticated_at", LATEST)
    first_login = fold.least(first_authenticated_at)
    before = first_login if first_login_at is None else first_login_at
    login_at = column("last_login_event_at", EARLIEST)
    login_at = np.where(login_at == EARLIEST, first_authenticated_at, login_at)
    before_login = is_anonymous & (before[person] != LATEST) & (start_at < before[person])
    logins = column("login_event_count")
    unwritten_login = ~is_anonymous & (logins == 0)
    columns = {
        "canonical_id": pa.array(persons),
        "tenant": tenants,
        "session_count": pa.array(fold.count(np.ones(len(person), np.bool_))),
        "anonymous_session_count": pa.array(fold.count(is_anonymous)),
        "anonymous_session_count_before_first_login": pa.array(fold.count(before_login)),
        "authenticated_session_count": pa.array(fold.count(~is_anonymous)),
        "login_count": pa.array(fold.total(logins + unwritten_login)),
        "event_count": pa.array(fold.total(column("event_count"))),
        "first_seen_at": nullable(fold.least(start_at), _AT, LATEST),
        "last_seen_at": nullable(fold.most(column("end_at")), _AT, EARLIEST),
        "first_login_at": nullable(first_login, _AT, LATEST),
        "last_login_at": nullable(fold.most(np.where(is_anonymous, EARLIEST, login_at)), _AT, EARLIEST),
        "platforms": _uses(whole(rows["platforms"]), person, by_person, len(persons)),
        "first_touch": _touch("first_touch", whole(rows["first_touch"]), fold, by_person),
        "last_touch": _touch("last_touch", whole(rows["last_touch"]), fold, by_person),
    }
    return pa.Table.from_arrays([columns[n] for n in PERSON_FOLDS.names], schema=PERSON_FOLDS)


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


def _uses(lists: pa.Array, person: Longs, by_person: Longs, persons: int) -> pa.Array:
    person_of_row = np.empty(len(person), np.int64)
    person_of_row[by_person] = person
    person_of_use = np.repeat(person_of_row, longs(pc.list_value_length(lists)))
    code, platforms = codes(lists.flatten())
    is_known = code >= 0
    return _use_lists(
        *distinct_pairs(person_of_use[is_known], code[is_known], len(platforms)), platforms, persons
    )


def _use_lists(person: Longs, code: Longs, count: Longs, platforms: pa.Array, persons: int) -> pa.Array:
    """One list per person from rows that are in the order of (person, platform)."""
    names = platforms.take(pa.array(code)).cast(pa.string())
    uses = pa.StructArray.from_arrays([names, pa.array(count)], fields=list(_USE))
    return pa.ListArray.from_arrays(offsets(person, persons), uses, type=_TYPES["uses"])


def _touch(way: Way, touches: pa.Array, fold: _Fold, by_person: Longs) -> pa.Array:
    """Each person's first or last touch, by instant and event id."""
    is_known = flags(touches.is_valid())
    known = np.flatnonzero(is_known)
    width, missing = max(1, len(touches)), _MISSING[way]
    encoded = np.full(len(touches), missing, np.int64)
    encoded[known] = _touch_places(touches, known) * width + known
    chosen = (fold.least if way == "first_touch" else fold.most)(encoded[by_person])
    is_missing = chosen == missing
    return touches.take(pa.array(np.where(is_missing, 0, chosen % width), mask=is_missing))


def _touch_places(touches: pa.Array, rows: Longs) -> Longs:
    """The place of each touch in these rows, all of which have one, in the order of instant and event id."""
    parts = dict(zip((f.name for f in touches.type), touches.flatten(), strict=True))
    taken = pa.array(rows)
    return places(longs(parts["at"].take(taken)), parts["event_id"].take(taken))


# -- what becomes of a column: (values after, whether they are sure) from those known, taken away and added ----------

_After = Callable[[pa.Array, pa.Array, pa.Array, Way], tuple[pa.Array, Flags]]


def _sum_after(known: pa.Array, removed: pa.Array, added: pa.Array, way: Way) -> tuple[pa.Array, Flags]:
    total = longs(known) - longs(removed) + longs(added)
    return pa.array(total), total >= 0


def _extreme_after(known: pa.Array, removed: pa.Array, added: pa.Array, way: Way) -> tuple[pa.Array, Flags]:
    old, was, new = (longs(c, _MISSING[way]) for c in (known, removed, added))
    is_covered, is_other = (new <= old, was > old) if way == "least" else (new >= old, was < old)
    after = np.minimum(old, new) if way == "least" else np.maximum(old, new)
    return nullable(after, _AT, _MISSING[way]), is_covered | is_other


def _touch_after(known: pa.Array, removed: pa.Array, added: pa.Array, way: Way) -> tuple[pa.Array, Flags]:
    count, touches = len(known), pa.concat_arrays([known, removed, added])
    there = np.flatnonzero(flags(touches.is_valid()))
    place = np.full(len(touches), _MISSING[way], np.int64)
    place[there] = _touch_places(touches, there)
    old, was, new = place[:count], place[count : 2 * count], place[2 * count :]
    is_covered, is_other = (new <= old, was > old) if way == "first_touch" else (new >= old, was < old)
    rows = np.arange(count)
    return touches.take(pa.array(np.where(is_covered, rows + 2 * count, rows))), is_covered | is_other


def _uses_after(known: pa.Array, removed: pa.Array, added: pa.Array, way: Way) -> tuple[pa.Array, Flags]:
    persons = len(known)
    person = np.concatenate(
        [np.repeat(np.arange(persons), longs(pc.list_value_length(c))) for c in (known, removed, added)]
    )
    old, was, new = (c.flatten() for c in (known, removed, added))
    uses = pa.concat_arrays([old, was, new])
    code, platforms = codes(uses.field("platform"))
    change = longs(uses.field("session_count")).copy()
    change[len(old) : len(old) + len(was)] *= -1
    width = max(1, len(platforms))
    totals = np.zeros(persons * width, np.int64)
    np.add.at(totals, person * width + code, change)
    used = np.flatnonzero(totals > 0)
    is_sure = np.logical_and.reduce(totals.reshape(persons, width) >= 0, axis=1)
    return _use_lists(used // width, used % width, totals[used], platforms, persons), is_sure


_AFTER: Mapping[Way, _After] = {
    "sum": _sum_after,
    "sum_before_login": _sum_after,
    "least": _extreme_after,
    "most": _extreme_after,
    "uses": _uses_after,
    "first_touch": _touch_after,
    "last_touch": _touch_after,
}
