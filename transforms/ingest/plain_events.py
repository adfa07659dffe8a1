"""Plain events: parses simple records together, column by column, with the result that `RecordParser` gives one by one.

    payloads ──► typed fields ──► instants, nodes, keys, digests ──► columns of rows
        └─ not plain: left to the parser, record by record

Plain is a record whose mapping does nothing but pick top-level fields, with texts where there should be texts and
nothing about it that would have to be flagged or refused. Nearly all are, and together they cost a quarter less. What
becomes of any other record is decided in one place, `RecordParser`; of a plain one both make the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from conf.policy import MAX_LINKING_IDENTIFIERS, Policy
from transforms.arrays.grouped import offsets
from transforms.arrays.integers import Flags, Longs
from transforms.ingest.free_parts import NO_PART, FreeParts, Part
from transforms.ingest.known_nodes import Entries, KnownNodes
from transforms.ingest.linking import WEAK, LinkingNodes, subject_columns
from transforms.ingest.parsed_schema import Made, Mentions, kind_of, no_lists, sums_of, touch_columns
from transforms.ingest.subject import IdentifierReader
from transforms.ingest.values.content import content_digests
from transforms.ingest.values.event_fields import DEFAULT_TENANT, is_usable_id, lowered, tenant_of
from transforms.ingest.values.hashing import event_keys
from transforms.ingest.values.instants import instants
from transforms.ingest.values.touch import NO_TOUCH, Touch, touch

_TEXTS = 7  # so many fields are texts or instants; then come identifiers, actor, properties, context
NO_NUMBERS = np.empty(0, np.int64)
_INSTANTS = (4, 5)
_IP = "ip_address"
_MOST_TEXTS, _LONGEST_TEXT = 10_000, 1024  # that are remembered


class PlainEvents:
    """Reads payloads of one mapping whose fields have these `names`, in the order of `extract.Found`."""

    def __init__(
        self, names: tuple[str, ...], is_utc: bool, policy: Policy, reader: IdentifierReader
    ) -> None:
        self._decode = _decoder(names)
        self._is_utc = is_utc
        self._known = KnownNodes(reader)
        self._ip = _IP if any(namespace.name == _IP for namespace in policy.namespaces) else None
        self._attaches = policy.weak_identifiers == "attach"
        self._unique = reader.unique
        self._properties, self._contexts = FreeParts(is_context=False), FreeParts(is_context=True)
        self._lowered, self._quoted = _Remembered(lowered), _Remembered(orjson.dumps)

    def made(
        self,
        payloads: Sequence[bytes | None],
        transport_at: Sequence[int | None],
        most_bytes: int,
    ) -> tuple[Longs, Longs, Made, Mentions]:
        """(places among the payloads of the plain ones, the row of each of them, rows, the nodes that the plain ones
        tell by place). There may be other rows, which mean nothing. Columns are all but `identifiers`.
        """
        places, records = self._read(payloads, most_bytes)
        if not records:
            return NO_NUMBERS, NO_NUMBERS, {}, Mentions(NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, [])
        count, texts = len(places), pa.string()
        ids, tenants, types, names, at, received, platforms, *rest = zip(
            *map(msgspec.structs.astuple, records), strict=True
        )
        identifiers, actors, properties, contexts = rest
        event_at, is_plain = instants(at, self._is_utc)
        in_tenant, event_ids = self._tenants(tenants, is_plain), _usable_ids(ids, is_plain)
        is_plain &= np.array([not actor for actor in actors])
        frees = self._parts(self._properties, properties, is_plain)
        arounds = self._parts(self._contexts, contexts, is_plain)
        entries, has_plain_subject = self._known.entries(
            in_tenant, identifiers, [c.ip for c in arounds], self._ip
        )
        subjects = _Subjects(self._known, entries, count, self._attaches)
        is_plain &= has_plain_subject & subjects.are_usable()
        received_at = _received_at(received, [transport_at[place] for place in places], is_plain)
        kinds, used = self._lowered.of(types), self._lowered.of(platforms)
        free_json, context_json = ([part.json for part in parts] for parts in (frees, arounds))
        nodes, weak = subjects.linked(), subjects.weak()
        head = [self._quoted.of(kinds), self._quoted.of(names), event_at, self._quoted.of(used)]
        key, key_low = event_keys(in_tenant, event_ids)
        made: Made = {
            "tenant": pa.array(in_tenant, texts),
            "received_at": pa.array(received_at, kind_of("received_at")),
            "reasons": no_lists("reasons", count),
            "event_id": pa.array(event_ids, texts),
            "event_key": pa.array(key),
            "event_key_low": pa.array(key_low),
            "content_digest": pa.array(content_digests([*head, nodes, weak], free_json, context_json)),
            "event_type": pa.array(kinds, texts),
            "event_name": pa.array(names, texts),
            "event_at": pa.array(event_at).cast(kind_of("event_at")),
            "platform": pa.array(used, texts),
            "node_ids": nodes,
            "weak_node_ids": weak,
            "actor_node_ids": no_lists("actor_node_ids", count),
            **touch_columns(_touches(frees, arounds)),
            **subject_columns(subjects.linking(), self._unique, count),
            "flags": no_lists("flags", count),
            "properties": pa.array(free_json, texts),
            "context": pa.array(context_json, texts),
            "decision": pa.nulls(count, texts),
            "node_sum": subjects.sums(),
        }
        chosen, place = np.flatnonzero(is_plain), np.array(places, np.int64)
        return place[chosen], chosen, made, subjects.mentions(place, is_plain)

    def _read(self, payloads: Sequence[bytes | None], most_bytes: int) -> tuple[list[int], list[Any]]:
        """(places, records) of the payloads that have only the fields of a plain record, in the right types."""
        places, records = [], []
        decode = self._decode
        for place, payload in enumerate(payloads):
            if payload is None or len(payload) > most_bytes:
                continue
            try:
                if not payload.isascii():
                    payload.decode()  # a free part is not looked into
                records.append(decode(payload))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            places.append(place)
        return places, records

    @staticmethod
    def _tenants(tenants: Sequence[str | None], is_plain: Flags) -> list[str]:
        """The tenants; what names none is not plain."""
        names = {tenant: tenant_of(tenant) for tenant in set(tenants)}
        if None in names.values():
            is_plain &= np.array([names[tenant] is not None for tenant in tenants])
        return [names[tenant] or DEFAULT_TENANT for tenant in tenants]

    @staticmethod
    def _parts(known: FreeParts, texts: Sequence[msgspec.Raw], is_plain: Flags) -> list[Part]:
        parts = [known[bytes(text)] for text in texts]
        if None not in parts:
            return parts  # type: ignore[return-value]
        is_plain &= np.array([part is not None for part in parts])
        return [part or NO_PART for part in parts]


class _Subjects:
    """The nodes of many records, as arrays."""

    def __init__(self, known: KnownNodes, entries: Entries, count: int, attaches: bool) -> None:
        self._known, self._entries, self._count, self._attaches = known, entries, count, attaches
        self._ids, self._strengths = known.ids[entries.number], known.strengths[entries.number]
        self._ties = known.ties[entries.number]
        self._is_weak = self._strengths == WEAK

    def are_usable(self) -> Flags:
        """Which records have an identifier that links, and no more than one may have."""
        row = self._entries.row
        linking = np.bincount(row[~self._is_weak], minlength=self._count)
        return (linking > 0) & (np.bincount(row, minlength=self._count) <= MAX_LINKING_IDENTIFIERS)

    def linked(self) -> pa.Array:
        return self._lists(np.ones(len(self._ids), bool) if self._attaches else ~self._is_weak, "node_ids")

    def weak(self) -> pa.Array:
        is_recorded = np.zeros(len(self._ids), bool) if self._attaches else self._is_weak
        return self._lists(is_recorded, "weak_node_ids")

    def _lists(self, chosen: Flags, name: str) -> pa.Array:
        where = offsets(self._entries.row[chosen], self._count)
        return pa.ListArray.from_arrays(where, pa.array(self._ids[chosen]), type=kind_of(name))

    def linking(self) -> LinkingNodes:
        chosen = ~self._is_weak
        number = self._entries.number[chosen]
        return LinkingNodes(
            self._entries.row[chosen],
            self._ids[chosen],
            self._strengths[chosen],
            self._known.spaces[number],
            self._known.names,
        )

    def sums(self) -> pa.Array:
        return sums_of(self._entries.row, self._ties, self._count)

    def mentions(self, place: Longs, is_plain: Flags) -> Mentions:
        """The nodes of plain records, by the places of these."""
        chosen = is_plain[self._entries.row]
        record = place[self._entries.row[chosen]]
        number = self._entries.number[chosen]
        return Mentions(record, self._ids[chosen], self._ties[chosen], number, self._known.nodes)


def _decoder(names: tuple[str, ...]) -> Callable[[bytes], Any]:
    """Reads an object that has nothing but fields of these names and types."""
    kinds: list[Any] = [str | int | None if at in _INSTANTS else str | None for at in range(_TEXTS)]
    kinds += [dict[str, str], dict[str, str] | None, msgspec.Raw, msgspec.Raw]
    absent = [*[None] * _TEXTS, msgspec.NODEFAULT, None, msgspec.Raw(b""), msgspec.Raw(b"")]
    fields = [
        (f"field_{at}", kind, msgspec.field(name=name, default=default))
        for at, (name, kind, default) in enumerate(zip(names, kinds, absent, strict=True))
    ]
    plain = msgspec.defstruct("Plain", fields, forbid_unknown_fields=True, kw_only=True, gc=False)
    return msgspec.json.Decoder(plain).decode


def _usable_ids(ids: Sequence[str | None], is_plain: Flags) -> list[str]:
    """The events' ids; an event without one, or with an odd one, is not plain."""
    is_plain &= np.array([event_id is not None and is_usable_id(event_id) for event_id in ids])
    return [event_id or "" for event_id in ids]


def _received_at(stated: Sequence[Any], by_transport: list[int | None], is_plain: Flags) -> list[int | None]:
    """When each was received, by the record itself where it says so; what says so in an odd way is not plain."""
    if not any(stated):
        is_plain &= np.array([value is None for value in stated])
        return by_transport
    micros, is_instant = instants(stated, is_utc=True)
    is_plain &= is_instant | np.array([value is None for value in stated])
    pairs = zip(is_instant.tolist(), micros.tolist(), by_transport, strict=True)
    return [mine if is_mine else transport for is_mine, mine, transport in pairs]


def _touches(frees: Sequence[Part], arounds: Sequence[Part]) -> list[Touch]:
    """What led to each event."""
    return [
        touch(free.fields, around.fields) if free.has_touch or around.has_touch else NO_TOUCH
        for free, around in zip(frees, arounds, strict=True)
    ]


class _Remembered(dict[str | None, Any]):
    """Answers for texts that repeat."""

    def __init__(self, answer: Callable[[str | None], Any]) -> None:
        self._answer = answer

    def of(self, texts: Sequence[str | None]) -> list[Any]:
        if len(self) > _MOST_TEXTS:
            self.clear()
        return [self[text] for text in texts]

    def __missing__(self, text: str | None) -> Any:
        answer = self._answer(text)
        if text is None or len(text) <= _LONGEST_TEXT:
            self[text] = answer
        return answer
