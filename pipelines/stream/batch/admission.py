"""Refuses events whose identifier collides with another one's node id, and events of tenants beyond the limit.

Both are decided before anything is written, event after event in the order in which they count. The identifier that is
published first keeps the node id; the tenants that come first are taken. A duplicate, a conflicting or a refused event
brings neither. So a retry decides the same, and so does any other batching of the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.named import NODE_LISTS, Named
from transforms.arrays.grouped import Flags, Longs, whole
from transforms.arrays.integers import is_in, places_in, union, without
from transforms.ingest.control import nodes_decided

COLLISION = "identifier_collision"
TOO_MANY_TENANTS = "too_many_tenants"

_BITS = (1 << 64) - 1
Ties = dict[int, int]  # node id → tie hash: an identifier
Key = tuple[int, int]


def admitted(
    received: pa.Table, mentions: Named, state: LakeState, max_tenants: int
) -> tuple[pa.Table, Named]:
    """(`received` with the reasons of refused events, the identifiers that the other events name, sorted by node id).

    `received`: events in PARSED_SCHEMA, in the order in which they count; `mentions`: the identifiers that they name.
    """
    named, doubled = mentions.once(), mentions.doubled()
    ids, ties = _published(named.id, state)
    colliding = union(doubled, ids[named.tie[places_in(named.id, ids)] != ties])
    new_tenants = _new_tenants(received["tenant"], state, max_tenants)
    if not len(colliding) and not new_tenants:
        return received, named
    is_mine = is_in(ids, colliding)
    holders = dict(zip(ids[is_mine].tolist(), ties[is_mine].tolist(), strict=True))
    admission = _Admission(new_tenants, max_tenants - len(state.tenants), set(colliding.tolist()), holders)
    reasons = admission.reasons(_in_question(received, mentions, colliding, new_tenants, state))
    is_held = np.array(
        [admission.holds(i, t) for i, t in zip(mentions.id.tolist(), mentions.tie.tolist(), strict=True)],
        bool,
    )
    return _with_reasons(received, reasons), mentions.select(is_held).once()


def _published(ids: Longs, state: LakeState) -> tuple[Longs, Longs]:
    """(node ids, their tie hashes) of those of `ids` that published identifiers have."""
    nodes = state.identity.nodes(ids)
    others = state.other_identifiers.rows("id", without(ids, nodes.id))
    return (
        np.concatenate([nodes.id, numpy_of(others["id"])]),
        np.concatenate([nodes.tie, numpy_of(others["tie"])]),
    )


def _new_tenants(tenants: pa.ChunkedArray, state: LakeState, max_tenants: int) -> frozenset[str]:
    """The tenants that are new, if not all of them can be taken."""
    new = [tenant for tenant in pc.unique(tenants).to_pylist() if tenant not in state.tenants]
    return frozenset(new if len(state.tenants) + len(new) > max_tenants else ())


@dataclass(frozen=True)
class _Event:
    """An event in question. `identifiers`: (node id, tie hash) of each; None where they are unknown."""

    row: int
    tenant: str
    key: Key
    is_published: bool
    identifiers: list[tuple[int, int]] | None


@dataclass
class _Admission:
    """Admits events one after the other. `room`: how many of the `new_tenants` can be taken."""

    new_tenants: frozenset[str]
    room: int
    colliding: set[int]
    holders: Ties
    _admitted_tenants: set[str] = field(default_factory=set)
    _claimed: set[Key] = field(default_factory=set)

    def reasons(self, events: Iterable[_Event]) -> dict[int, str]:
        """Row → why it is refused."""
        found = {}
        for event in events:
            if event.is_published or event.key in self._claimed:
                continue
            if (
                event.tenant in self.new_tenants - self._admitted_tenants
                and len(self._admitted_tenants) >= self.room
            ):
                found[event.row] = TOO_MANY_TENANTS
            elif (holders := self._with(event.identifiers)) is None:
                found[event.row] = COLLISION
            else:
                self.holders |= holders
                self._claimed.add(event.key)
                self._admitted_tenants |= self.new_tenants & {event.tenant}
        return found

    def holds(self, node_id: int, tie: int) -> bool:
        return node_id not in self.colliding or self.holders.get(node_id) == tie

    def _with(self, identifiers: list[tuple[int, int]] | None) -> Ties | None:
        """What these identifiers would hold; None where another one has a node id of theirs."""
        mine: Ties = {}
        for node_id, tie in identifiers or ():
            if mine.setdefault(node_id, self.holders.get(node_id, tie)) != tie:
                return None
        return None if identifiers is None else mine


def _in_question(
    received: pa.Table, mentions: Named, colliding: Longs, new_tenants: frozenset[str], state: LakeState
) -> Iterator[_Event]:
    """Events of new tenants, events that name one of `colliding`, and all events with the same id as one of these."""
    acceptable = numpy_of(pc.list_value_length(received["reasons"])) == 0
    asked = numpy_of(pc.is_in(received["tenant"], pa.array(sorted(new_tenants), pa.string()))).copy()
    for name in NODE_LISTS:
        lists = whole(received[name])
        asked[numpy_of(pc.list_parent_indices(lists))[is_in(numpy_of(pc.list_flatten(lists)), colliding)]] = (
            True
        )
    asked |= _decides_on(received["decision"], set(colliding.tolist()))
    key, low = numpy_of(received["event_key"]), numpy_of(received["event_key_low"])
    rows = np.flatnonzero(acceptable & is_in(key, key[asked & acceptable]))
    known = state.event_keys.rows("event_key", key[rows])
    published = set(zip(*(numpy_of(known[n]).tolist() for n in ("event_key", "event_key_low")), strict=True))
    columns = (
        received.select(["tenant", *NODE_LISTS, "decision", "node_sum"]).take(pa.array(rows)).to_pylist()
    )
    ties: dict[int, set[int]] = {}
    for node_id, tie in zip(mentions.id.tolist(), mentions.tie.tolist(), strict=True):
        ties.setdefault(node_id, set()).add(tie)
    for at, row in zip(rows.tolist(), columns, strict=True):
        of = (int(key[at]), int(low[at]))
        ids = (
            [i for name in NODE_LISTS for i in row[name]]
            if row["decision"] is None
            else nodes_decided(row["decision"])
        )
        is_known = of in published or (of[0], 0) in published
        yield _Event(at, row["tenant"], of, is_known, _identifiers(ids, row["node_sum"], ties))


def _decides_on(decisions: pa.ChunkedArray, colliding: set[int]) -> Flags:
    """Which rows are decisions about one of `colliding`."""
    found = np.zeros(len(decisions), bool)
    for at in np.flatnonzero(decisions.is_valid()).tolist():
        found[at] = not colliding.isdisjoint(nodes_decided(decisions[at].as_py()))
    return found


def _identifiers(ids: list[int], node_sum: int, ties: Mapping[int, set[int]]) -> list[tuple[int, int]] | None:
    """The identifiers that a row means by `ids`: of the possible ones, those whose tie hashes have the row's sum."""
    for chosen in product(*(sorted(ties.get(i, ())) for i in ids)):
        if (sum(chosen) - node_sum) & _BITS == 0:
            return list(zip(ids, chosen, strict=True))
    return None


def _with_reasons(received: pa.Table, reasons: Mapping[int, str]) -> pa.Table:
    if not reasons:
        return received
    lists = received["reasons"].to_pylist()
    for row, reason in reasons.items():
        lists[row] = [reason]
    place = received.schema.get_field_index("reasons")
    kind = received.schema.field(place)
    return received.set_column(place, kind, pa.array(lists, kind.type))
