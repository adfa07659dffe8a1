"""Claims: the values of an event, apart from its user, that could be one person's own, and the sessions they separate.

Two runs of activity at one anchor are parted where the next event names somebody else. That is judged by values and
never by persons, so that a merge of persons cuts nothing anew:

    named so far             next event               cut before it?
    user_id 1                user_id 2                yes: another value of a unique namespace
    user_id 1, e-mail a      user_id 1, e-mail b      no: they share a unique value
    e-mail a                 e-mail b                 yes: another value of a strong namespace
    e-mail a                 e-mails a and b          no: one event that names both makes them one person's
    user_id 1                e-mail a                 no: nothing to compare
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables.silver import SESSIONS
from transforms.arrays.grouped import Flags, Longs, changes, longs, offsets, previous, whole
from transforms.arrays.integers import distinct_first

NO_USER = 0  # a node_id is never 0
_LISTS = SESSIONS.arrow.field("claims").type


@dataclass(frozen=True)
class Claims:
    """One row: a value that the first event of a unit names. By unit, and in it best first.

    space: place among `names`, the namespaces. rank: of each namespace its place among the unique ones, -1 for strong
    ones.
    """

    unit: Longs
    space: Longs
    node: Longs
    names: pa.Array
    rank: Longs

    def __len__(self) -> int:
        return len(self.unit)

    def placed(self, places: Longs) -> Claims:
        """Those of the units that have a place (not -1), by that place in place of the unit."""
        unit = places[self.unit] if len(self) else self.unit
        rows = np.flatnonzero(unit >= 0)
        rows = rows[np.argsort(unit[rows], kind="stable")]
        return replace(self, unit=unit[rows], space=self.space[rows], node=self.node[rows])

    def first_in(self, session_of_unit: Longs) -> Flags:
        """Which of them are the first ones to name their value in their unit's session."""
        session = session_of_unit[self.unit]
        by = np.lexsort((self.node, self.space, session))
        is_first = np.empty(len(self), np.bool_)
        is_first[by] = changes(session[by], self.space[by], self.node[by])
        return is_first

    def users(self, session_of_unit: Longs, sessions: int) -> Longs:
        """Of each session its value of the best unique namespace, NO_USER for none."""
        users = np.full(sessions, NO_USER, np.int64)
        rows = np.flatnonzero(self.rank[self.space] >= 0) if len(self) else self.unit
        session = session_of_unit[self.unit[rows]]
        by = np.lexsort((self.rank[self.space[rows]], session))
        found, first = distinct_first(session[by])
        users[found] = self.node[rows][by][first]
        return users

    def of_spans(self, begins_span: Flags, session_of_unit: Longs, first_span: Longs) -> pa.Array:
        """The column `claims` of sessions: what the first events of their spans name. `first_span`: the number of the
        first span of each."""
        rows = np.flatnonzero(begins_span[self.unit])
        session = session_of_unit[self.unit[rows]]
        span = (np.cumsum(begins_span) - 1)[self.unit[rows]] - first_span[session]
        namespace = self.names.take(pa.array(self.space[rows])).cast(pa.string())
        columns = [pa.array(span), namespace, pa.array(self.node[rows])]
        values = pa.StructArray.from_arrays(columns, fields=list(_LISTS.value_type))
        is_none = np.ones(len(first_span), np.bool_)
        is_none[session] = False
        where = offsets(session, len(first_span))
        return pa.ListArray.from_arrays(where, values, type=_LISTS, mask=pa.array(is_none))


def claims_of(events: pa.Array, sessions: pa.Array, first_span: Longs, unique: tuple[str, ...]) -> Claims:
    """The columns `claims` of events, which are the first units, and of sessions, whose spans begin at unit
    `first_span`."""
    named, kept = whole(events), whole(sessions)
    of_events, of_spans = named.flatten(), kept.flatten()
    held = np.repeat(first_span, longs(_lengths(kept))) + longs(of_spans.field("span"))
    by = np.argsort(held, kind="stable")
    of_spans = of_spans.take(pa.array(by))
    unit = np.concatenate((np.repeat(np.arange(len(named)), longs(_lengths(named))), held[by]))
    spaces = pa.concat_arrays([of_events.field("namespace"), of_spans.field("namespace")]).dictionary_encode()
    place = {name: rank for rank, name in enumerate(unique)}
    return Claims(
        unit=unit,
        space=longs(spaces.indices),
        node=np.concatenate((longs(of_events.field("node_id")), longs(of_spans.field("node_id")))),
        names=spaces.dictionary,
        rank=np.array([place.get(name, -1) for name in spaces.dictionary.to_pylist()], np.int64),
    )


def _lengths(lists: pa.Array) -> pa.Array:
    """How many values each list has; none of them is null."""
    return pc.fill_null(pc.list_value_length(lists), 0)


@dataclass(frozen=True)
class SpanClaims:
    """What spans, the last units, have been named by the end of each: `claims`, and the unit's user."""

    claims: Claims
    user: Longs
    session: Longs  # row of the session that a unit is a span of, -1 for an event
    first_span: Longs  # of each session

    def leaning(self) -> Flags:
        """The spans whose first event does not name all that their session has been named by then. What is inside such
        a span may be separated from its beginning where it is not joined to the spans before it."""
        is_leaning = np.zeros(len(self.user), np.bool_)
        rows = np.flatnonzero(self.session >= 0)
        if not len(rows) or not len(self._of_spans):
            return is_leaning
        claims, first_unit = self._of_spans, self.first_span[self.session[rows]]
        named, new = np.zeros((2, len(self.user)), np.int64)
        np.add.at(named, claims.unit, 1)
        np.add.at(new, claims.unit[claims.first_in(self.session)], 1)
        is_users = self.user[rows] != NO_USER
        named[rows] += is_users
        new[rows] += is_users & (self._earlier_user(rows, first_unit) == NO_USER)
        total = np.cumsum(new)
        is_leaning[rows] = total[rows] - total[first_unit] + new[first_unit] > named[rows]
        return is_leaning

    def know(self, event: Longs, span: Longs) -> Flags:
        """Whether all that an event names, each inside a span, has been named in its session by then."""
        if not len(event):
            return np.zeros(0, np.bool_)
        first_unit = self.first_span[self.session[span]]
        known = np.where(self.user[span] != NO_USER, self.user[span], self._earlier_user(span, first_unit))
        fits = (self.user[event] == NO_USER) | (self.user[event] == known)
        place = np.full(len(self.user), -1, np.int64)
        place[event] = np.arange(len(event))
        asked = self.claims.placed(place)
        if not len(asked):
            return fits
        since: dict[tuple[int, int, int], int] = {}
        kept = self._of_spans
        wanted = np.zeros(len(self.first_span), np.bool_)
        wanted[self.session[span]] = True
        kept_rows = np.flatnonzero(wanted[self.session[kept.unit]])
        for unit, session, space, node in zip(
            *(a[kept_rows].tolist() for a in (kept.unit, self.session[kept.unit], kept.space, kept.node)),
            strict=True,
        ):
            since.setdefault((session, space, node), unit)
        columns = (asked.unit, self.session[span[asked.unit]], asked.space, asked.node, span[asked.unit])
        for row, session, space, node, unit in zip(*(c.tolist() for c in columns), strict=True):
            if since.get((session, space, node), unit + 1) > unit:
                fits[row] = False
        return fits

    @property
    def _of_spans(self) -> Claims:
        rows = self.session[self.claims.unit] >= 0 if len(self.claims) else np.zeros(0, np.bool_)
        claims = self.claims
        return replace(claims, unit=claims.unit[rows], space=claims.space[rows], node=claims.node[rows])

    def _earlier_user(self, span: Longs, first_unit: Longs) -> Longs:
        """The user that the spans before each in its session name, NO_USER for none."""
        is_span_of_user = (self.user != NO_USER) & (self.session >= 0)
        last = np.append(-1, previous(is_span_of_user)[:-1])[span]
        return np.where(last >= first_unit, self.user[last], NO_USER)


def cut_by_names(run: Flags, user: Longs, claims: Claims) -> Flags:
    """Which of units in order begin a session: where a run begins (`run`), and where somebody else is named.

    `user` is NO_USER where the claims say it. Sums go over whole columns; a unit is looked at by itself only in runs
    where something else than users distinguishes people.
    """
    has_user = user != NO_USER
    earlier = last_before(has_user)
    # Inside a run sessions change only where the user does, so the last user seen is the session's.
    starts = run | ((earlier >= previous(run)) & has_user & (user != user[earlier]))
    if not len(claims):
        return starts
    run_of_unit = np.cumsum(run) - 1
    run_of = run_of_unit[claims.unit]
    by = np.lexsort((claims.space, run_of))
    same = (run_of[by][1:] == run_of[by][:-1]) & (claims.space[by][1:] == claims.space[by][:-1])
    is_mixed, is_alone = np.zeros((2, int(run_of_unit[-1]) + 1), np.bool_)
    is_mixed[run_of[by][1:][same & (claims.node[by][1:] != claims.node[by][:-1])]] = True
    is_alone[run_of[~has_user[claims.unit]]] = (
        True  # elsewhere it is the same person exactly if it is the same user
    )
    is_walked = (is_mixed & is_alone)[run_of_unit]
    if is_walked.any():
        starts[is_walked] = run[is_walked]
        starts[_walk(np.flatnonzero(is_walked), run, user, claims)] = True
    return starts


def last_before(is_marked: Flags) -> Longs:
    """For each row the last marked row before it, -1 where there is none."""
    earlier = np.full(len(is_marked), -1, np.int64)
    earlier[1:] = previous(is_marked)[:-1]
    return earlier


def _walk(units: Longs, run: Flags, user: Longs, claims: Claims) -> list[int]:
    """Those of the units before which somebody else is named, one unit after the other."""
    first = np.searchsorted(claims.unit, units).tolist()
    end = np.searchsorted(claims.unit, units, "right").tolist()
    space, node, rank = claims.space.tolist(), claims.node.tolist(), claims.rank.tolist()
    cuts: list[int] = []
    unique: dict[int, int] = {}
    strong: dict[int, set[int]] = {}
    for unit, begins, of_user, a, b in zip(
        units.tolist(), run[units].tolist(), user[units].tolist(), first, end, strict=True
    ):
        if begins:
            unique, strong = {}, {}
        if not of_user and a == b:
            continue
        is_own: dict[int, int] = {_USER: of_user} if of_user else {}
        values: dict[int, set[int]] = {}
        for at in range(a, b):
            if rank[space[at]] >= 0:
                is_own[space[at]] = node[at]
            else:
                values.setdefault(space[at], set()).add(node[at])
        if _is_another(is_own, values, unique, strong):
            cuts.append(unit)
            unique, strong = {}, {}
        unique |= is_own
        for kind, nodes in values.items():
            strong.setdefault(kind, set()).update(nodes)
    return cuts


_USER = -1  # the only unique namespace, which claims do not repeat


def _is_another(
    is_own: dict[int, int], values: dict[int, set[int]], unique: dict[int, int], strong: dict[int, set[int]]
) -> bool:
    """Whether an event with these unique and strong values is of somebody else than a session with those."""
    shared = [node == unique[kind] for kind, node in is_own.items() if kind in unique]
    if shared:
        return not all(shared)
    return any(kind in strong and not (nodes & strong[kind]) for kind, nodes in values.items())
