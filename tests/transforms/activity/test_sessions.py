"""Sessions: how activity is cut, and that order, batching, late events and what is read cannot matter."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.policy import load_policy
from conf.tables.silver import EVENTS, SESSIONS
from tests.examples import examples
from transforms.activity.session_reach import closure
from transforms.activity.sessions import (
    CutResult,
    SessionsError,
    after_cut,
    cut_all,
    cut_fetching,
    cut_sessions,
    session_gap_us,
)
from transforms.activity.spans import EVENT_COLUMNS

GAP = 30 * 60 * 1_000_000
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
EVENT_SCHEMA = pa.schema([EVENTS.arrow.field(c) for c in EVENT_COLUMNS])
Row = dict[str, Any]
Claims = tuple[tuple[str, int], ...]
UNIQUE = {"customer", "member"}  # of a policy with several; best first in alphabetical order, as it happens


def event(
    event_id: str,
    minute: float,
    user: int | None = None,
    kind: str = "page_view",
    anchor: int = 7,
    platform: str | None = "web",
    touch: tuple[str | None, ...] = (None,) * 4,
    micros: int = 0,
    claims: Claims = (),
) -> Row:
    at = NOON + timedelta(minutes=minute, microseconds=micros)
    named = [{"namespace": space, "node_id": node} for space, node in claims] or None
    values = ("acme", event_id, kind, at, platform, user, anchor, *touch, named)
    return dict(zip(EVENT_COLUMNS, values, strict=True))


def named_by(e: Row) -> dict[str, set[int]]:
    """Values by namespace; an event's user stands for the only unique namespace where no claim says which it is."""
    named: dict[str, set[int]] = defaultdict(set)
    for claim in e["claims"] or ():
        named[claim["namespace"]].add(claim["node_id"])
    if e["user_node_id"] is not None and not UNIQUE & named.keys():
        named["user"].add(e["user_node_id"])
    return named


def both(one: dict[str, set[int]], other: dict[str, set[int]]) -> dict[str, set[int]]:
    return {space: one.get(space, set()) | other.get(space, set()) for space in one.keys() | other.keys()}


def parts_of(session: list[Row]) -> list[list[Row]]:
    """The session's spans: each begins with an event that names something new."""
    parts: list[list[Row]] = []
    so_far: dict[str, set[int]] = {}
    for e in session:
        named = both(so_far, named_by(e))
        if not parts or named != so_far:
            parts.append([])
        parts[-1].append(e)
        so_far = named
    return parts


def user_of(session: list[Row]) -> int | None:
    """A session's user: of its best unique namespace."""
    claims = [(c["namespace"], c["node_id"]) for e in session for c in e["claims"] or ()]
    best = sorted(((space, node) for space, node in claims if space in UNIQUE), key=lambda claim: claim[0])
    return best[0][1] if best else next((u for e in session if (u := e["user_node_id"]) is not None), None)


def is_somebody_else(e: Row, so_far: dict[str, set[int]]) -> bool:
    """Whether an event names another person than a session's events so far, by their values."""
    met = {space: bool(values & so_far[space]) for space, values in named_by(e).items() if so_far.get(space)}
    unique = [same for space, same in met.items() if space in {*UNIQUE, "user"}]
    return not all(unique) if unique else not all(met.values())


def table(events: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(events, schema=EVENT_SCHEMA)


# The oracle: walk the sorted list.


def walk(events: list[Row]) -> list[list[Row]]:
    sessions: list[list[Row]] = []
    by_anchor = defaultdict(list)
    for e in events:
        by_anchor[e["anchor_node_id"]].append(e)
    for anchor in sorted(by_anchor):
        so_far: dict[str, set[int]] = {}
        last: Row | None = None
        for e in sorted(by_anchor[anchor], key=lambda e: (e["event_at"], e["event_id"])):
            if (
                last is None
                or e["event_at"] - last["event_at"] > timedelta(minutes=30)
                or last["event_type"] == "logout"
                or is_somebody_else(e, so_far)
            ):
                sessions.append([])
                so_far = {}
            sessions[-1].append(e)
            so_far = both(so_far, named_by(e))
            last = e
    return sessions


def summary(events: list[Row]) -> Row:
    def touch(e: Row) -> Row:
        parts = {name: e[f"touch_{name}"] for name in ("source", "medium", "campaign", "referrer")}
        return {"at": e["event_at"], "event_id": e["event_id"], **parts}

    users = [e for e in events if e["user_node_id"] is not None]
    logins = [e for e in users if e["event_type"] == "login"]
    touched = [e for e in events if any(v is not None for k, v in e.items() if k.startswith("touch_"))]
    return {
        "user_node_id": events[0]["user_node_id"],
        "start_at": events[0]["event_at"],
        "start_event_id": events[0]["event_id"],
        "end_at": events[-1]["event_at"],
        "end_event_id": events[-1]["event_id"],
        "event_count": len(events),
        "login_event_count": len(logins),
        "first_authenticated_at": users[0]["event_at"] if users else None,
        "last_login_event_at": logins[-1]["event_at"] if logins else None,
        "is_ended_by_logout": events[-1]["event_type"] == "logout",
        "platforms": sorted({e["platform"] for e in events} - {None}),
        "first_touch": touch(touched[0]) if touched else None,
        "last_touch": touch(touched[-1]) if touched else None,
    }


def expected(events: list[Row]) -> list[Row]:
    rows = []
    for cut in walk(events):
        row = summary(cut)
        parts = parts_of(cut)
        anchor = cut[0]["anchor_node_id"]
        user = user_of(cut)
        claims = [{"span": i, **c} for i, part in enumerate(parts) for c in part[0]["claims"] or ()]
        row |= {
            "tenant": "acme",
            "anchor_node_id": anchor,
            "user_node_id": user,
            "owner_node_id": user or anchor,
            "is_anonymous": user is None,
            "spans": [summary(part) for part in parts] if len(parts) > 1 else [],
            "claims": claims or None,
        }
        rows.append(row)
    return rows


def content(sessions: pa.Table) -> list[Row]:
    rows = sorted(
        sessions.to_pylist(), key=lambda r: (r["anchor_node_id"], r["start_at"], r["start_event_id"])
    )
    return [{k: v for k, v in r.items() if k not in ("session_id", "updated_batch_id")} for r in rows]


def ids(sessions: pa.Table) -> list[int]:
    return sorted(sessions["session_id"].to_pylist())


def cut(events: list[Row]) -> list[Row]:
    return content(cut_all(table(events), GAP, 1))


def ids_per_session(events: list[Row]) -> list[list[str]]:
    assert cut(events) == expected(events)
    return [[e["event_id"] for e in s] for s in walk(events)]


@dataclass
class Store:
    """What a batch finds: the sessions and events of the batches before it."""

    read: str = "closure"
    unique: tuple[str, ...] = ()
    events: list[Row] = field(default_factory=list)
    sessions: pa.Table = field(default_factory=SESSIONS.arrow.empty_table)
    expanded: int = 0

    def existing(self, batch: pa.Table) -> pa.Table:
        if self.read == "closure":
            return self.sessions.take(pa.array(closure(self.sessions, batch, GAP)))
        return self.sessions

    def fetch(self, expansions: pa.Table, also: list[Row]) -> pa.Table:
        """As a join by time does: an event as often as spans want it, and those of `also` if they are written."""
        wanted = expansions.to_pylist()
        return table(
            [
                e
                for w in wanted
                for e in [*self.events, *also]
                if e["anchor_node_id"] == w["anchor_node_id"]
                and w["start_at"] <= e["event_at"] <= w["end_at"]
            ]
        )

    def add(self, batch: list[Row], batch_id: int, is_batch_written: bool = False) -> CutResult:
        new = table(batch)
        existing = self.existing(new)

        def fetch(expansions: pa.Table) -> pa.Table:
            self.expanded += 1
            return self.fetch(expansions, batch if is_batch_written else [])

        result = cut_fetching(new, existing, GAP, batch_id, fetch, self.unique)
        assert result.expansions.num_rows == 0
        self.check_that_only_changes_are_written(result)
        self.sessions = after_cut(self.sessions, result)
        self.events += batch
        return result

    def check_that_only_changes_are_written(self, result: CutResult) -> None:
        before = {r["session_id"]: r | {"updated_batch_id": 0} for r in self.sessions.to_pylist()}
        after = {r["session_id"]: r | {"updated_batch_id": 0} for r in result.upserts.to_pylist()}
        assert all(before.get(i) != row for i, row in after.items())
        assert set(result.removed.tolist()) <= before.keys() - after.keys()


def test_a_pause_of_exactly_the_gap_continues_and_one_microsecond_more_cuts() -> None:
    assert ids_per_session([event("a", 0), event("b", 30)]) == [["a", "b"]]
    assert ids_per_session([event("a", 0), event("b", 30, micros=1)]) == [["a"], ["b"]]


def test_an_anonymous_run_that_ends_in_a_login_is_one_session_of_that_user() -> None:
    events = [event("a", 0), event("b", 1), event("c", 2, user=5, kind="login"), event("d", 3)]
    (session,) = cut(events)
    assert (session["user_node_id"], session["owner_node_id"], session["is_anonymous"]) == (5, 5, False)
    assert [(s["user_node_id"], s["event_count"]) for s in session["spans"]] == [(None, 2), (5, 2)]


def test_a_logout_belongs_to_the_session_it_ends_even_in_the_same_instant() -> None:
    events = [
        event("a", 0, user=5),
        event("b", 1, user=5, kind="logout"),
        event("c", 1),
        event("d", 2, user=5),
    ]
    assert ids_per_session(events) == [["a", "b"], ["c", "d"]]


def test_another_user_cuts_and_an_event_without_a_user_does_not() -> None:
    events = [event("a", 0, user=5), event("b", 1), event("c", 2, user=5), event("d", 3, user=6)]
    assert ids_per_session(events) == [["a", "b", "c"], ["d"]]


def test_a_login_without_a_user_is_no_login() -> None:
    (session,) = cut([event("a", 0, kind="login")])
    assert (session["login_event_count"], session["last_login_event_at"], session["is_anonymous"]) == (
        0,
        None,
        True,
    )


def test_a_session_id_says_anchor_and_first_event_and_stays_what_it_is() -> None:
    events = [event("a", 0, anchor=7)]
    (first,) = ids(cut_all(table(events), GAP, 1))
    assert first == ids(cut_all(table([*events, event("b", 5, anchor=7)]), GAP, 99))[0]
    assert first != ids(cut_all(table([event("a", 0, anchor=8)]), GAP, 1))[0]
    assert first == 595_528_398_203_554_554


def test_no_events_are_no_sessions_and_change_nothing() -> None:
    assert cut_all(table([]), GAP, 1).num_rows == 0
    result = cut_sessions(table([]), cut_all(table([event("a", 0)]), GAP, 1), GAP, 2)
    assert (result.upserts.num_rows, len(result.removed), result.expansions.num_rows) == (0, 0, 0)


def test_the_gap_is_the_policys() -> None:
    assert session_gap_us(load_policy()) == GAP


def test_a_late_event_joins_two_sessions_and_one_vanishes() -> None:
    store = Store()
    store.add([event("a", 0), event("c", 50)], 1)
    result = store.add([event("b", 25)], 2)
    assert result.upserts["event_count"].to_pylist() == [3]
    assert len(result.removed) == 1


def test_a_late_event_inside_a_session_is_absorbed_without_old_events() -> None:
    store = Store()
    store.add([event("a", 0), event("c", 20, user=5), event("e", 40, user=5)], 1)
    store.add([event("b", 10), event("d", 30, user=5, kind="login", platform="mobile")], 2)
    assert store.expanded == 0
    assert content(store.sessions) == expected(store.events)


def test_a_late_logout_inside_a_session_needs_its_events_and_its_end_runs_on_into_the_next_session() -> None:
    store = Store()
    store.add([event("a", 0, user=5), event("c", 10), event("d", 35), event("e", 60, user=6)], 1)
    assert store.sessions["user_node_id"].to_pylist() == [5, 6]
    store.add([event("b", 5, user=5, kind="logout")], 2)
    assert store.expanded == 1
    assert store.sessions["event_count"].to_pylist() == [2, 3]
    assert content(store.sessions) == expected(store.events)


def test_a_late_login_inside_an_anonymous_beginning_needs_its_events() -> None:
    store = Store()
    store.add([event("a", 0), event("c", 20), event("d", 25, user=6)], 1)
    store.add([event("b", 10, user=5)], 2)
    assert store.expanded == 1
    assert [s["user_node_id"] for s in content(store.sessions)] == [5, 6]
    assert content(store.sessions) == expected(store.events)


def test_sessions_between_two_changed_ones_are_read_because_they_separate_them() -> None:
    store = Store()
    store.add([event("a", 0, user=5), event("b", 10, user=6), event("c", 20, user=5)], 1)
    store.add([event("e", -5, user=5), event("f", 30, user=5)], 2)
    assert content(store.sessions) == expected(store.events)


def test_closure_leaves_out_what_cannot_change() -> None:
    users = [event(str(m), m, user=5 + m // 5 % 2) for m in range(0, 500, 5)]
    store = Store()
    store.add(users, 1)
    assert store.sessions.num_rows == 100
    near = store.existing(table([event("x", 251, user=6)]))
    assert near["start_event_id"].to_pylist() == ["250", "255"]


EMAIL_A, EMAIL_B, PHONE_1, PHONE_2 = ("email", 31), ("email", 32), ("phone", 41), ("phone", 42)


def test_two_visitors_e_mails_are_two_sessions_and_a_users_two_e_mails_are_one() -> None:
    visitors = [event("a", 0, claims=(EMAIL_A,)), event("b", 5), event("c", 9, claims=(EMAIL_B,))]
    assert ids_per_session(visitors) == [["a", "b"], ["c"]]
    user = [event("a", 0, user=5, claims=(EMAIL_A,)), event("c", 9, user=5, claims=(EMAIL_B,))]
    assert ids_per_session([*user, event("d", 12, claims=(EMAIL_A,))]) == [["a", "c", "d"]]
    assert ids_per_session([*user, event("d", 12, claims=(("email", 33),))]) == [["a", "c"], ["d"]]


def test_values_of_other_namespaces_part_nobody_and_any_namespace_may() -> None:
    assert ids_per_session([event("a", 0, user=5), event("b", 1, claims=(EMAIL_A, PHONE_1))]) == [["a", "b"]]
    phones = [event("a", 0, claims=(EMAIL_A, PHONE_1)), event("b", 1, claims=(EMAIL_A, PHONE_2))]
    assert ids_per_session(phones) == [["a"], ["b"]]


def test_an_event_with_both_e_mails_is_of_whoever_has_one_of_them() -> None:
    events = [event("a", 0, claims=(EMAIL_A,)), event("b", 1, claims=(EMAIL_A, EMAIL_B))]
    assert ids_per_session([*events, event("c", 2, claims=(EMAIL_B,))]) == [["a", "b", "c"]]


def test_several_unique_namespaces_part_by_any_and_the_best_one_is_the_user() -> None:
    def named(event_id: str, minute: float, *claims: tuple[str, int]) -> Row:
        return event(event_id, minute, user=claims[0][1], claims=claims)

    events = [named("a", 0, ("member", 21)), named("b", 1, ("customer", 11)), named("c", 2, ("member", 22))]
    sessions = cut_all(table(events), GAP, 1, ("customer", "member"))
    assert content(sessions) == expected(events)
    assert [(s["user_node_id"], s["event_count"]) for s in content(sessions)] == [(11, 2), (22, 1)]


def test_a_late_user_before_an_e_mails_run_joins_also_what_follows_it() -> None:
    """Seen to fail where closure() takes the session after the new event and no further."""
    store = Store()
    store.add([event("b", 10, claims=(EMAIL_A,)), event("c", 20, user=5, claims=(EMAIL_B,))], 1)
    assert store.sessions.num_rows == 2
    store.add([event("a", 0, user=5)], 2)
    assert content(store.sessions) == expected(store.events)
    assert store.sessions.num_rows == 1


def test_a_span_torn_off_the_spans_before_it_is_cut_from_its_events() -> None:
    """Seen to fail where a leaning span is taken for one that stands by itself: e-mail a would stay in b's session."""
    store = Store()
    store.add(
        [
            event("a", 0, user=5, claims=(EMAIL_A,)),
            event("c", 10, user=5, claims=(EMAIL_B,)),
            event("d", 15, claims=(EMAIL_A,)),
        ],
        1,
    )
    assert [len(s["spans"]) for s in content(store.sessions)] == [2]
    store.add([event("b", 5, kind="logout")], 2)
    assert store.expanded == 1
    assert content(store.sessions) == expected(store.events)
    assert store.sessions.num_rows == 3


def test_what_a_span_does_not_know_is_not_absorbed_by_it() -> None:
    store = Store()
    store.add([event("a", 0, claims=(EMAIL_A,)), event("c", 10, claims=(EMAIL_A,))], 1)
    store.add([event("b", 5, claims=(EMAIL_B,))], 2)
    assert store.expanded == 1
    assert content(store.sessions) == expected(store.events)
    assert store.sessions.num_rows == 3


def test_an_event_that_a_session_holds_already_stops_the_line() -> None:
    store = Store()
    store.add([event("a", 0), event("b", 5), event("c", 9)], 1)
    with pytest.raises(SessionsError, match="last published batch"):
        cut_sessions(table([event("c", 9)]), store.sessions, GAP, 2)


def test_missing_events_of_an_expansion_stop_the_line() -> None:
    store = Store()
    store.add([event("a", 0, user=5), event("b", 5), event("d", 9)], 1)
    with pytest.raises(SessionsError, match=r"silver\.events does not hold"):
        cut_sessions(
            table([event("c", 7, kind="logout")]), store.sessions, GAP, 2, table([event("a", 0, user=5)])
        )


def test_other_spellings_of_the_same_types_are_read_alike() -> None:
    events = table([event("a", 0, touch=("ad", None, None, None)), event("b", 1, user=5)])
    large = events.cast(
        pa.schema(
            [f.with_type(pa.large_string()) if pa.types.is_string(f.type) else f for f in events.schema]
        )
    )
    assert cut_all(large, GAP, 1).equals(cut_all(events, GAP, 1))
    split = pa.concat_tables([events.slice(1), events.slice(0, 1)])
    assert cut_all(split, GAP, 1).equals(cut_all(events, GAP, 1))


TOUCHES = st.sampled_from(
    [
        (None,) * 4,
        (None,) * 4,
        ("ad", None, None, None),
        (None, "mail", "spring", None),
        (None, None, None, "blog"),
    ]
)
# Late events have to fall into spans, and spans have to be long enough for that: each example has its own pace.
CLAIMS: list[Claims] = [
    (),
    (),
    (),
    (("email", 31),),
    (("email", 32),),
    (("email", 31), ("email", 32)),
    (("phone", 41),),
]
CLAIMS += [(("email", 31), ("phone", 42)), (("phone", 41), ("phone", 42))]
OF_SEVERAL = [(("customer", 11),), (("customer", 12), ("member", 21)), (("member", 21),), (("member", 22),)]
PACES = st.sampled_from([5, 10, 30])
USERS = st.sampled_from([(None, None, None, None, 11), (None, 11), (None, None, 11, 11, 12), (None, 11, 12)])
KINDS = st.sampled_from(["page_view"] * 6 + ["login", "logout"])


@st.composite
def batched_events(draw: st.DrawFn, of_several: bool = False) -> list[list[Row]]:
    """Events in any order, cut into any batches; their ids have nothing to do with either. `of_several`: under a policy
    with several unique namespaces, where claims say who the user is."""
    pace, users, count = draw(PACES), draw(USERS), draw(st.integers(0, 18))
    names = draw(st.permutations([f"{chr(97 + i)}{'é' if i % 3 else ''}" for i in range(count)]))
    strong = draw(st.sampled_from([CLAIMS[:1], CLAIMS[:5], CLAIMS]))
    unique = [(), (), *OF_SEVERAL] if of_several else [()]
    batches: dict[int, list[Row]] = defaultdict(list)
    for name in names:
        own = draw(st.sampled_from(unique))
        e = event(
            name,
            draw(st.integers(0, 12)) * pace,
            user=(own[0][1] if own else None) if of_several else draw(st.sampled_from(users)),
            kind=draw(KINDS),
            anchor=draw(st.sampled_from([7, 7, 7, 8])),
            platform=draw(st.sampled_from(["web", "mobile", "ai_agent", None])),
            touch=draw(TOUCHES),
            micros=draw(st.sampled_from([0, 0, 0, 1])),
            claims=own + draw(st.sampled_from(strong)),
        )
        batches[draw(st.integers(0, 3))].append(e)
    return [batches[b] for b in sorted(batches)]


@settings(max_examples=examples(100))
@given(
    batched_events(),
    st.sampled_from(["closure", "everything"]),
    st.booleans(),
)
def test_any_order_in_any_batches_is_cut_like_one_sorted_list(
    batches: list[list[Row]], read: str, is_batch_written: bool
) -> None:
    """Seen to fail where closure() leaves out the session that follows a touched one, and where what a span does not
    know is absorbed. What follows a session with claims and what is torn off is too rare here: both have their own
    tests above."""
    is_like_one_sorted_list(Store(read), batches, is_batch_written)


@settings(max_examples=examples(60))
@given(batched_events(of_several=True), st.sampled_from(["closure", "everything"]))
def test_several_unique_namespaces_are_cut_like_one_sorted_list(batches: list[list[Row]], read: str) -> None:
    """Seen to fail where a session's user is the largest node and not the best namespace's."""
    is_like_one_sorted_list(Store(read, tuple(sorted(UNIQUE))), batches, False)


def is_like_one_sorted_list(store: Store, batches: list[list[Row]], is_batch_written: bool) -> None:
    for number, batch in enumerate(batches, 1):
        store.add(batch, number, is_batch_written)
        assert content(store.sessions) == expected(store.events)
    at_once = cut_all(table(store.events), GAP, 1, store.unique)
    assert ids(store.sessions) == ids(at_once)
    assert content(at_once) == content(store.sessions)
    assert at_once.schema == SESSIONS.arrow


def test_a_table_has_the_declared_columns_in_the_declared_types() -> None:
    sessions = cut_all(table([event("a", 0)]), GAP, 3)
    sessions.validate(full=True)
    assert sessions.schema.equals(SESSIONS.arrow)
    assert sessions["updated_batch_id"].to_pylist() == [3]
