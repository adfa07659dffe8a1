"""Sessions: the events of an anchor, in the order of (event_at, event_id), cut where one run of activity ends.

A session ends at a gap longer than the policy's, after a logout, and before an event that names somebody else (see
`claims`; an event that names nobody never cuts). So an anonymous run that ends in a login is that user's.

Old events are not read again. A session row keeps its spans, and the spans and the new events are cut like events:

    existing    [a─────a][b──────b]         a span is one unit: nothing outside it can separate its events
    new              a       L              a: inside a span and like it, absorbed; L, a logout: needs expansion
    expanded    [a─────a] b  L  b  b        that span is replaced by its events, once, and all is cut again
    result      [a─────a  b  L] b──b

A span that *leans* on those before it (user 1 with e-mail a; then user 1 with e-mail b, and e-mail a alone) stays what
it is only while it is joined to them. Where it is torn off, the anchor's leaning spans are expanded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from conf.errors import Refusal
from conf.policy import Policy
from conf.tables.silver import SESSIONS
from transforms.activity.claims import NO_USER, SpanClaims, cut_by_names, last_before
from transforms.activity.spans import (
    EVENT_COLUMNS,
    FROM_EVENT,
    Pools,
    Units,
    measures,
    span_counts,
    stored_spans,
    units_of,
)
from transforms.arrays.grouped import (
    LATEST,
    Flags,
    Longs,
    changes,
    conformed,
    filled,
    in_schema,
    longs,
    nullable,
    previous,
)
from transforms.arrays.integers import is_in, union

_AT = pa.timestamp("us", tz="UTC")
_EMPTY = blake2b(digest_size=8)
EXPANSIONS = pa.schema([("anchor_node_id", pa.int64()), ("start_at", _AT), ("end_at", _AT)])


class SessionsError(Refusal, ValueError):
    """The events and the sessions do not belong together; the message says why and what to do."""


@dataclass(frozen=True)
class CutResult:
    """What changes. The anchors of `expansions` are not cut yet: fetch those events and cut these anchors with them.

    upserts: new and changed sessions; removed: ids of sessions that are no more; expansions: one row per span whose
    events are needed (anchor_node_id, start_at, end_at; both ends belong to it).
    """

    upserts: pa.Table
    removed: Longs
    expansions: pa.Table


def session_gap_us(policy: Policy) -> int:
    """The longest pause inside a session, in microseconds."""
    return round(policy.session_gap_minutes * 60_000_000)


def cut_all(events: pa.Table, gap_us: int, batch_id: int, unique: tuple[str, ...] = ()) -> pa.Table:
    """One row is one session. All events of the anchors in, all their sessions out: what a rebuild does."""
    return cut_sessions(events, None, gap_us, batch_id, unique=unique).upserts


def cut_fetching(
    events: pa.Table,
    existing: pa.Table,
    gap_us: int,
    batch_id: int,
    fetch: Callable[[pa.Table], pa.Table],
    unique: tuple[str, ...] = (),
) -> CutResult:
    """As `cut_sessions`, with no expansions left: `fetch` has the events for them.

    Of the many anchors of a batch, those few are cut a second time.
    """
    result = cut_sessions(events, existing, gap_us, batch_id, unique=unique)
    if not result.expansions.num_rows:
        return result
    anchors, fetched = longs(result.expansions["anchor_node_id"]), fetch(result.expansions)
    again = cut_sessions(_at(anchors, events), _at(anchors, existing), gap_us, batch_id, fetched, unique)
    return CutResult(
        pa.concat_tables([result.upserts, again.upserts]),
        np.concatenate((result.removed, again.removed)),
        again.expansions,
    )


def _at(anchors: Longs, rows: pa.Table) -> pa.Table:
    """The events or sessions of these anchors."""
    return rows.filter(pa.array(is_in(longs(rows["anchor_node_id"]), anchors)))


def cut_sessions(
    events: pa.Table,
    existing: pa.Table | None,
    gap_us: int,
    batch_id: int,
    expanded_events: pa.Table | None = None,
    unique: tuple[str, ...] = (),
) -> CutResult:
    """What new events change in the sessions of their anchors.

    events: valid and not in any session yet; EVENT_COLUMNS. existing: of each anchor a run of neighbouring sessions
    that holds at least those of `session_reach.closure`. expanded_events: the anchors' events inside the expansions
    that a first call asked for; further rows, rows that are in `events` too and repeated rows do no harm. unique: see
    claims.unique_namespaces. Owners are provisional: the user, else the anchor (see transforms.activity.ownership).
    """
    if existing is None:
        existing = SESSIONS.arrow.empty_table()
    new_count = events.num_rows
    if expanded_events is not None:
        events = pa.concat_tables([events.select(EVENT_COLUMNS), expanded_events.select(EVENT_COLUMNS)])
    units, pools = units_of(events, existing, unique)
    span_claims = _span_claims(units, pools, bool(unique))
    # Spans first among equals: an event at a span's edge belongs to the span. New events before expanded ones.
    order = np.lexsort((units.session == FROM_EVENT, units.start_place, units.anchor))
    holder = _holders(units, order)
    is_new = np.arange(len(order)) < new_count
    broken = _broken_spans(units, span_claims, holder, is_new)
    leaning = span_claims.leaning()
    expansions = EXPANSIONS.empty_table()
    if expanded_events is not None:
        broken |= leaning

    is_event = units.session == FROM_EVENT
    is_repeated = np.zeros(len(is_event), np.bool_)
    is_repeated[order] = ~changes(units.anchor[order], units.start_place[order], is_event[order])
    is_held = holder >= 0
    if expanded_events is None:
        unclear = units.anchor[broken]
        if leaning.any():
            is_head = ~is_in(units.anchor, unclear) & (~is_event | (is_new & ~is_held & ~is_repeated))
            heads = order[is_head[order]]
            unclear = union(unclear, units.anchor[_torn(units, heads, pools, span_claims, leaning, gap_us)])
        if len(unclear):
            is_unclear = is_in(units.anchor, unclear)
            expansions = _expansions(units, broken | (leaning & is_unclear))
            order = order[~is_unclear[order]]
        broken = np.zeros(len(broken), np.bool_)
    is_expanded = is_event & ~is_new & is_held & broken[holder] & ~is_repeated
    _check_expanded(units, holder, broken, is_expanded)
    is_absorbed = is_new & is_held & ~broken[holder]
    order = order[np.where(is_event, (is_new & ~is_repeated) | is_expanded, ~broken)[order]]
    upserts, removed = _assemble(
        units, pools, span_claims, existing, order, is_absorbed, broken, gap_us, batch_id
    )
    if (broken & leaning).any():
        upserts = _that_differ(upserts, existing)
    return CutResult(upserts, removed, expansions)


def _span_claims(units: Units, pools: Pools, claims_say_all: bool) -> SpanClaims:
    user = np.full(len(units.user), NO_USER, np.int64) if claims_say_all else units.user
    return SpanClaims(pools.claims, user, units.session, pools.first_span)


def _torn(units: Units, heads: Longs, pools: Pools, named: SpanClaims, leaning: Flags, gap_us: int) -> Longs:
    """Those of the leaning spans that are cut off from the first span of their session."""
    session_of_unit = np.full(len(units.anchor), -1, np.int64)
    session_of_unit[heads] = np.cumsum(_cuts(units, heads, named, gap_us)) - 1
    rows = np.flatnonzero(leaning & (session_of_unit >= 0))
    return rows[session_of_unit[rows] != session_of_unit[pools.first_span[units.session[rows]]]]


def _that_differ(upserts: pa.Table, existing: pa.Table) -> pa.Table:
    """Those of the sessions that are not among the existing ones as they are: expansion does not change all of them."""
    compared = [n for n in SESSIONS.names if n != "updated_batch_id"]
    ids = longs(upserts["session_id"])
    same = is_in(longs(existing["session_id"]), ids)
    before = {row["session_id"]: row for row in existing.filter(pa.array(same)).select(compared).to_pylist()}
    after = upserts.select(compared).to_pylist()
    keep = [_but_owner(before.get(row["session_id"])) != _but_owner(row) for row in after]
    return upserts.filter(pa.array(keep, pa.bool_()))


def _but_owner(row: dict[str, object] | None) -> dict[str, object]:
    """A session without its owner, who is provisional here."""
    return {} if row is None else row | {"owner_node_id": None}


def _holders(units: Units, order: Longs) -> Longs:
    """For each event the span that it lies in, edges included; -1 for none, and for spans."""
    holder = np.full(len(order), -1, np.int64)
    last_span = previous(units.session[order] != FROM_EVENT)
    span = order[last_span]
    is_held = (
        (last_span >= 0)
        & (units.session[order] == FROM_EVENT)
        & (units.anchor[span] == units.anchor[order])
        & (units.start_place[order] <= units.end_place[span])
    )
    holder[order[is_held]] = span[is_held]
    return holder


def _broken_spans(units: Units, named: SpanClaims, holder: Longs, is_new: Flags) -> Flags:
    """Spans that a new event may separate: a logout in it, or an event that names what has not been named by then."""
    inside = np.flatnonzero(is_new & (holder >= 0))
    span = holder[inside]
    place = units.start_place[inside]
    if ((place == units.start_place[span]) | (place == units.end_place[span])).any():
        raise SessionsError(
            "an event of this batch is in a session already; read silver.sessions at the version of the last "
            "published batch, and drop events that it holds"
        )
    fits = ~units.is_logout[inside] & named.know(inside, span)
    broken = np.zeros(len(holder), np.bool_)
    broken[span[~fits]] = True
    return broken


def _expansions(units: Units, broken: Flags) -> pa.Table:
    spans = units.take(broken)
    columns = [pa.array(spans.anchor), pa.array(spans.start_at, _AT), pa.array(spans.end_at, _AT)]
    return pa.Table.from_arrays(columns, schema=EXPANSIONS)


def _check_expanded(units: Units, holder: Longs, broken: Flags, is_expanded: Flags) -> None:
    """The events of an expanded span are all there, or its sums would silently shrink."""
    found = np.bincount(holder[is_expanded], minlength=len(holder))
    wrong = int((found != units.event_count)[broken].sum())
    if wrong:
        raise SessionsError(
            f"silver.events does not hold the events that {wrong} span(s) of silver.sessions were cut from; fetch all "
            "events of the expansions' anchors from start_at to end_at, both included, or rebuild the sessions"
        )


def _cuts(units: Units, heads: Longs, named: SpanClaims, gap_us: int) -> Flags:
    """Which of the units `heads`, in their order, begin a session."""
    in_order = units.take(heads)
    run = changes(in_order.anchor)
    run[1:] |= (in_order.start_at[1:] - in_order.end_at[:-1] > gap_us) | in_order.is_logout[:-1]
    place = np.full(len(units.anchor), -1, np.int64)
    place[heads] = np.arange(len(heads))
    return cut_by_names(run, named.user[heads], named.claims.placed(place))


def _assemble(
    units: Units,
    pools: Pools,
    named: SpanClaims,
    existing: pa.Table,
    order: Longs,
    is_absorbed: Flags,
    broken: Flags,
    gap_us: int,
    batch_id: int,
) -> tuple[pa.Table, Longs]:
    """(new and changed sessions, ids of those that are no more), of the units in `order`."""
    is_head = ~is_absorbed[order]
    starts = np.zeros(len(order), np.bool_)
    starts[is_head] = _cuts(units, order[is_head], named, gap_us)

    is_changed = _changed(units.session[order], starts, span_counts(existing))
    gone = union(units.session[order][is_changed], units.session[broken])
    order, is_head, starts = order[is_changed], is_head[is_changed], starts[is_changed]

    place = np.full(len(is_absorbed), -1, np.int64)
    place[order] = np.arange(len(order))
    claims, session_of_place = named.claims.placed(place), np.cumsum(starts) - 1
    has_user = named.user[order] != NO_USER
    begins_span = starts | (has_user & ~(last_before(has_user) >= previous(starts)))
    begins_span[claims.unit[claims.first_in(session_of_place)]] = True

    span_starts = np.flatnonzero(begins_span)
    spans = units.take(order).merged(span_starts, is_head)
    session_starts = np.flatnonzero(starts[span_starts])
    sessions = spans.merged(session_starts, np.ones(len(span_starts), np.bool_))
    span_of_unit = np.full(len(is_absorbed), -1, np.int64)
    span_of_unit[order] = np.cumsum(begins_span) - 1
    session_of_span = np.cumsum(starts[span_starts]) - 1
    session_of_unit = np.where(span_of_unit >= 0, np.append(session_of_span, -1)[span_of_unit], -1)
    users = np.maximum.reduceat(named.user[order][span_starts], session_starts) if len(order) else order
    users = np.maximum(users, claims.users(session_of_place, len(session_starts)))

    platforms_of_spans = pools.platforms_of(span_of_unit, len(span_starts))
    shared = measures(sessions, pools)
    ids = session_ids(sessions.anchor, sessions.start_at, shared["start_event_id"])
    has_user = users != NO_USER
    columns = {
        **shared,
        "tenant": pools.tenants.take(pa.array(sessions.tenant_row)),
        "session_id": pa.array(ids),
        "anchor_node_id": pa.array(sessions.anchor),
        "user_node_id": nullable(users, pa.int64(), NO_USER),
        "owner_node_id": pa.array(np.where(has_user, users, sessions.anchor)),
        "is_anonymous": pa.array(~has_user),
        "platforms": pools.platforms_of(session_of_unit, len(session_starts)),
        "spans": stored_spans(spans, pools, platforms_of_spans, session_starts),
        "claims": claims.of_spans(begins_span, session_of_place, session_starts),
        "updated_batch_id": pa.array(np.full(len(ids), batch_id, np.int64)),
    }
    upserts = pa.table(filled(columns, SESSIONS.arrow, len(ids)), schema=SESSIONS.arrow)
    former = longs(existing["session_id"])[gone[gone != FROM_EVENT]]
    return upserts, np.sort(former[~is_in(former, ids)])


def _changed(session: Longs, starts: Flags, spans_of_session: Longs) -> Flags:
    """For each unit whether the session it is cut into is anything but one existing session, whole and alone."""
    if len(session) == 0:
        return np.zeros(0, np.bool_)
    first = np.flatnonzero(starts)
    size = np.diff(np.append(first, len(session)))
    smallest, largest = np.minimum.reduceat(session, first), np.maximum.reduceat(session, first)
    whole = np.append(spans_of_session, -1)[largest] == size
    return np.repeat((smallest == FROM_EVENT) | (smallest != largest) | ~whole, size)


def session_ids(anchor: Longs, start_at: Longs, start_event_id: pa.Array) -> Longs:
    """63 bits of the anchor and the first event, never 0: content alone, whatever batch brought it."""
    pack, begin = struct.Struct("<qq").pack, _EMPTY.copy
    ids = []
    heads = zip(anchor.tolist(), start_at.tolist(), start_event_id.cast(pa.binary()).to_pylist(), strict=True)
    for anchor_of_one, at, event_id in heads:
        hashed = begin()
        hashed.update(pack(anchor_of_one, at) + event_id)
        ids.append(hashed.digest())
    numbers = np.frombuffer(b"".join(ids), ">i8").astype(np.int64) & LATEST  # without the sign
    return np.where(numbers == 0, 1, numbers)


def after_cut(existing: pa.Table, result: CutResult) -> pa.Table:
    """One row is one session as it is after the cut: the existing ones, less what vanished, with what changed.

    In the columns of `existing`, which may be a part of SESSIONS'.
    """
    names = tuple(existing.column_names)
    kept = conformed(existing, SESSIONS.arrow, names).filter(pa.array(is_kept(existing, result)))
    upserts = result.upserts.select(names)
    return pa.concat_tables([in_schema(kept, upserts.schema), upserts])


def is_kept(existing: pa.Table, result: CutResult) -> Flags:
    """Which of the existing sessions are after the cut what they were."""
    replaced = np.concatenate((result.removed, longs(result.upserts["session_id"])))
    return ~is_in(longs(existing["session_id"]), replaced)
