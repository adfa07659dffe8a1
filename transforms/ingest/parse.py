"""From framed records to rows of events: read, map, hash, and refuse with a reason what cannot be used.

    payload ──► object ──► mapping: fields of the event(s) ──► instant, nodes, digest ──► one row

Nothing that a record contains raises: a record is a row, acceptable or with its reasons.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from conf.policy import MAX_LINKING_IDENTIFIERS, Policy
from conf.source_mapping import FIELDS, SourceMapping
from transforms.ingest.control import CONTROL, read_decision
from transforms.ingest.free_parts import take_ip
from transforms.ingest.linking import linking_nodes, subject_columns
from transforms.ingest.mapping.extract import ENVELOPE_TOO_LARGE, Extractor, Found
from transforms.ingest.mapping.payload import MALFORMED_JSON, PayloadReader, Refused
from transforms.ingest.parsed_schema import (
    Made,
    Mentions,
    Places,
    Records,
    Row,
    first_mentions,
    made_of,
    mentions_of,
    to_batch,
)
from transforms.ingest.plain_events import NO_NUMBERS, PlainEvents
from transforms.ingest.subject import (
    NO_IDENTIFIER,
    TOO_MANY,
    IdentifierReader,
    Node,
    TooMany,
)
from transforms.ingest.values.canonical_json import canonical, spelled_out
from transforms.ingest.values.content import content_digest
from transforms.ingest.values.event_fields import (
    DEFAULT_TENANT,
    MAX_ID_LENGTH,
    is_usable_id,
    lowered,
    tenant_of,
)
from transforms.ingest.values.hashing import decision_key, digest, encode, event_key
from transforms.ingest.values.instants import ASSUMED_UTC, NO_TIMESTAMP, instant
from transforms.ingest.values.json_text import holds_no_number, holds_replaced, loads
from transforms.ingest.values.normalize import number_text
from transforms.ingest.values.touch import touch

UNPARSEABLE = "unparseable"
UNUSABLE_TENANT = "unusable_tenant"
REPLACED_CHARACTER = "replaced_character"
UNUSABLE_TIMESTAMP = "unusable_timestamp"

# Rows become Arrow some thousands at a time: what is let go at once stays in the processor's cache.
_ROWS_AT_ONCE = 1000
_PLAIN_AT_ONCE = 4000
_COPIED_RECORDS = (
    4  # so many times max_record_bytes may what surrounds the events of an envelope be, once for each
)
_NO_IDS: list[int] = []
_NODE_ID = Node._fields.index("node_id")  # by place is twice as fast
_TENANT = FIELDS.index("tenant")
_NONE: tuple[Any, ...] = ()
_ALONE: list[bytes | None] = [None]
_READ = Records._fields.index("transport_at") + 1  # what follows is carried along


class RecordParser:
    """Parses records by their mappings, one policy and one key.

    Picklable: what it remembers stays behind, unless an equal one has been unpickled in that process before. The key is
    never shown.
    """

    def __init__(
        self,
        mappings: Mapping[str, SourceMapping],
        policy: Policy,
        key: bytes,
        max_record_bytes: int = 16 * 2**20,
    ) -> None:
        self.mappings = dict(mappings)
        self.policy = policy
        self.max_record_bytes = max_record_bytes
        self._max_copied = _COPIED_RECORDS * max_record_bytes
        self._key = key
        self._payloads = PayloadReader(max_record_bytes)
        self._identifiers = IdentifierReader(policy, key)
        self._extractors = {name: Extractor(mapping, policy) for name, mapping in self.mappings.items()}
        self._plain = {
            name: PlainEvents(extractor.plain_names, extractor.is_utc, policy, self._identifiers)
            for name, extractor in self._extractors.items()
            if extractor.plain_names is not None
        }

    def __repr__(self) -> str:
        return f"RecordParser(mappings={sorted(self.mappings)}, policy={self.policy.fingerprint})"

    @property
    def mapping_fingerprints(self) -> dict[str, str]:
        """The fingerprint of each mapping by name."""
        return {name: mapping.fingerprint for name, mapping in self.mappings.items()}

    def folder_columns(self, mapping: str) -> frozenset[str]:
        """The columns that a mapping takes from the names of folders."""
        return self._extractors[mapping].folder_columns

    def __reduce__(self) -> tuple[Any, ...]:
        return _parser_of_this_process, (self.mappings, self.policy, self._key, self.max_record_bytes)

    def parse(self, records: Records) -> pa.RecordBatch:
        """One row per event: as many as records, unless a mapping explodes them."""
        with _no_collection():
            return self._parse(records)

    def _parse(self, records: Records) -> pa.RecordBatch:
        seen: dict[int, int] = {}
        parts: list[pa.RecordBatch] = []
        start, count = 0, len(records.payload)
        while start < count or not parts:
            plain = self._plain_of(records, start)
            end = start + (_ROWS_AT_ONCE if plain is None else _PLAIN_AT_ONCE)
            taken = records.slice(start, end)
            if plain is None:
                rows, places = self._rows_of(taken)
                mentions = mentions_of(rows)
                made = self._made(rows, mentions) | {
                    "identifiers": first_mentions([mentions], len(rows), seen)
                }
                parts.append(to_batch(taken, made, places))
            else:
                parts.append(to_batch(taken, self._made_of_plain(plain, taken, seen), None))
            start = end
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _plain_of(self, records: Records, start: int) -> PlainEvents | None:
        """What reads the next records together, if they are of one mapping that is plain."""
        end = start + _PLAIN_AT_ONCE
        mappings, formats, feeds = (
            set(column[start:end]) for column in (records.mapping, records.payload_format, records.feed)
        )
        if len(mappings) != 1 or "json" not in formats or CONTROL in feeds:
            return None
        mapping = mappings.pop()
        if any(
            self._extractors[mapping].folder_columns_in(origin) for origin in set(records.origin[start:end])
        ):
            return None  # a record of its own has not all of its columns
        return self._plain.get(mapping)

    def _made_of_plain(self, plain: PlainEvents, records: Records, seen: dict[int, int]) -> Made:
        """Columns of rows, one a record: of plain records together, of the others one by one."""
        count = len(records.payload)
        pairs = zip(records.payload_format, records.payload, strict=True)
        payloads = [payload if payload_format == "json" else None for payload_format, payload in pairs]
        try:
            plain_places, chosen, made, mentions = plain.made(
                payloads, records.transport_at, self.max_record_bytes
            )
        except Exception:  # which record it was, and what becomes of it, is found one by one
            plain_places, chosen, made, mentions = NO_NUMBERS, NO_NUMBERS, {}, mentions_of([])
        row_of = np.full(count, -1, np.int64)
        row_of[plain_places] = chosen
        others = np.flatnonzero(row_of < 0)
        rows, _ = self._rows_of(records.chosen(others.tolist()))
        by_others = mentions_of(rows)
        mentions_in_place = by_others._replace(record=others[by_others.record])
        identifiers = first_mentions([mentions, mentions_in_place], count, seen)
        if len(others) or not made:
            rest = self._made(rows, by_others)
            row_of[others] = (len(made["tenant"]) if made else 0) + np.arange(len(others))
            parts = [made, rest] if made else [rest]
            taken = pa.array(row_of)
            made = {name: pa.concat_arrays([part[name] for part in parts]).take(taken) for name in rest}
        return made | {"identifiers": identifiers}

    def _made(self, rows: list[Row], mentions: Mentions) -> Made:
        reader, counts = self._identifiers, [row.linking_count for row in rows]
        linking = linking_nodes(counts, mentions, reader.strengths)
        return made_of(rows, mentions) | subject_columns(linking, reader.unique, len(rows))

    def _rows_of(self, records: Records) -> tuple[list[Row], Places | None]:
        """Rows, record by record; and where they come from, unless each record has made one."""
        rows: list[Row] = []
        places: Places | None = None
        for at, (source, mapping, feed, origin, ordinal, payload_format, payload, transport_at) in enumerate(
            zip(*records[:_READ], strict=True)
        ):
            elements: list[bytes | None] = _ALONE
            try:
                if feed == CONTROL:
                    new = [self._decision(payload_format, payload, transport_at)]
                else:
                    place = (source, origin, ordinal)
                    new, elements = self._record(mapping, payload_format, payload, place, transport_at)
            except Refused as refused:
                new = [_refusal([str(refused)], transport_at)]
            except Exception:  # one record must not stop the batch, nor its contents reach a log
                new = [_refusal([UNPARSEABLE], transport_at)]
            if places is None and len(new) != 1:  # an envelope: from here on rows are not records
                places = Places(list(range(len(rows))), [0] * len(rows), [None] * len(rows))
            rows += new
            if places is not None:
                places.record.extend([at] * len(new))
                places.position.extend(range(len(new)))
                places.element.extend(elements)
        return rows, places

    def _record(
        self,
        mapping: str,
        payload_format: str,
        payload: bytes | None,
        place: tuple[Any, ...],
        transport_at: int | None,
    ) -> tuple[list[Row], list[bytes | None]]:
        """The rows of one record, and of each the text of its event where the record has several."""
        extractor = self._extractors[mapping]
        record, is_mended, has_no_number = self._payloads.read_leniently(payload_format, payload)
        record = extractor.in_folder(record, place[1])
        elements = extractor.elements(record, loads)
        siblings = elements if isinstance(elements, list) and len(elements) > 1 else None
        around = extractor.around(record) if siblings or has_no_number else {}
        if siblings and len(siblings) * len(canonical(around)) > self._max_copied:
            raise Refused(ENVELOPE_TOO_LARGE)
        if has_no_number and (siblings is None or holds_no_number(around)):
            raise Refused(MALFORMED_JSON)
        rows = []
        for sub, found in enumerate(extractor.events_in(record, elements, loads)):
            if isinstance(found, str):
                rows.append(_refusal([found], transport_at))
                continue
            try:
                if has_no_number and siblings and holds_no_number(siblings[sub]):
                    raise Refused(MALFORMED_JSON)
                flags = _mended(found) if is_mended else []
                here = place if sub == 0 else (*place, sub)
                row = self._row(found, here, transport_at, extractor.is_utc, flags)
            except Refused as refused:
                row = _refusal([str(refused)], transport_at)
            except Exception:  # nor may one event of an envelope cost the others
                row = _refusal([UNPARSEABLE], transport_at)
            rows.append(row)
        if siblings is None:
            return rows, _ALONE
        if has_no_number:
            return rows, [spelled_out(element).encode() for element in siblings]
        return rows, [_text(element) for element in siblings]

    def _decision(self, payload_format: str, payload: bytes, transport_at: int | None) -> Row:
        """The row of a record of the control feed: no event, but what somebody has decided."""
        read = read_decision(self._payloads.read(payload_format, payload), self._identifiers)
        key, key_low = decision_key(read.tenant, read.decision_id)
        return Row(
            tenant=read.tenant,
            received_at=transport_at,
            event_id=read.decision_id,
            event_key=key,
            event_key_low=key_low,
            content_digest=digest(read.content),
            decision=read.content.decode(),
            identifiers=read.nodes,
        )

    def _row(
        self, found: Found, place: tuple[Any, ...], transport_at: int | None, is_utc: bool, flags: list[str]
    ) -> Row:
        """The row of one event, which has `flags` already. This is where a stream spends its time: what nearly all
        events have comes first, and costs no call."""
        (
            raw_id,
            raw_tenant,
            event_type,
            event_name,
            timestamp,
            received,
            platform,
            identifiers,
            actor,
            properties,
            context,
        ) = found
        reasons: list[str] = []

        tenant = DEFAULT_TENANT
        if raw_tenant is not None:
            text = raw_tenant if type(raw_tenant) is str else _scalar(raw_tenant)
            named = None if text is None else tenant_of(text)
            if named is None:
                reasons.append(UNUSABLE_TENANT)  # by no means into a tenant of somebody else
            else:
                tenant = named

        event_id: str | None = raw_id
        if type(raw_id) is not str or not is_usable_id(raw_id):
            event_id = _event_id(raw_id, flags)

        event_at: int | None
        if type(timestamp) is tuple:
            event_at, note, is_later_choice = timestamp
            if is_later_choice:
                flags.append(UNUSABLE_TIMESTAMP)
        else:
            event_at, note = instant(timestamp) if timestamp is not None else (None, NO_TIMESTAMP)
        if event_at is None:
            reasons.append(str(note))
        elif note is not None and not (is_utc and note == ASSUMED_UTC):
            flags.append(note)
        received_at = transport_at
        if received is not None:
            received_at = received[0] if type(received) is tuple else instant(received)[0]
            if received_at is None:
                received_at = transport_at
                flags.append("unusable_received_at")

        ip = take_ip(context)
        reader = self._identifiers
        acting: list[Node] = []
        try:
            linking, attached, weak, unknown = reader.subject(tenant, identifiers, flags, ip)
            if not linking:
                reasons.append(NO_IDENTIFIER)
            elif len(linking) + len(attached) > MAX_LINKING_IDENTIFIERS:
                reasons.append(TOO_MANY)
            elif actor:
                acting = reader.actor(tenant, actor)
        except TooMany:
            reasons.append(TOO_MANY)
        if reasons:
            return _refusal(reasons, received_at, tenant, event_id, sorted(set(flags)))

        if event_id is None:
            if raw_id is not None and type(raw_id) is not str:
                properties = {"event_id": raw_id, **properties}
            event_id = "o-" + blake2b(encode(*map(str, place)), digest_size=16).hexdigest()
        if type(event_type) is str:
            event_type = lowered(event_type)
        elif event_type is not None:
            event_type, properties = _odd("event_type", event_type, flags, properties)
        if type(event_name) is not str and event_name is not None:
            event_name, properties = _odd("event_name", event_name, flags, properties)
        if type(platform) is str:
            platform = lowered(platform)
        elif platform is not None:
            platform, properties = _odd("platform", platform, flags, properties)
        if actor is not None and type(actor) is not dict:
            flags.append("wrong_type_actor")

        linked = linking + attached if attached else linking
        node_ids = [node[_NODE_ID] for node in linked]
        weak_ids = [node[_NODE_ID] for node in weak] if weak else _NO_IDS
        recorded = reader.recorded(tenant, unknown, flags) if type(unknown) is dict else []
        actor_ids = [node[_NODE_ID] for node in acting] if acting else _NO_IDS
        properties_json = canonical(properties) if properties else b""
        context_json = canonical(context) if context else b""
        head = [event_type, event_name, event_at, platform, node_ids, weak_ids, actor_ids]
        content = properties_json
        if unknown is not None or "wrong_type_actor" in flags:
            content = _whole_content(properties, unknown, actor)
        key, key_low = event_key(tenant, event_id)
        return Row(
            tenant=tenant,
            received_at=received_at,
            reasons=_NONE,
            event_id=event_id,
            event_key=key,
            event_key_low=key_low,
            content_digest=content_digest(head, content, context_json),
            event_type=event_type,
            event_name=event_name,
            event_at=event_at,
            platform=platform,
            node_ids=node_ids,
            weak_node_ids=weak_ids + [node[_NODE_ID] for node in recorded] if recorded else weak_ids,
            actor_node_ids=actor_ids,
            touch=touch(properties, context),
            flags=sorted(set(flags)) if flags else _NONE,
            properties=properties_json or None,
            context=context_json or None,
            decision=None,
            linking_count=len(linking),
            identifiers=linked + weak + recorded + acting if weak or acting or recorded else linked,
        )


_last: RecordParser | None = None


def _parser_of_this_process(
    mappings: dict[str, SourceMapping], policy: Policy, key: bytes, max_record_bytes: int
) -> RecordParser:
    """The parser that this process was sent last, if it is the same: batches come and go, workers and most of the
    identifiers stay, and to hash them all in every batch is half of a batch's work."""
    global _last
    last = _last
    if last is None or (last.mappings, last.policy, last._key, last.max_record_bytes) != (
        mappings,
        policy,
        key,
        max_record_bytes,
    ):
        last = _last = RecordParser(mappings, policy, key, max_record_bytes)
    return last


def _event_id(raw: Any, flags: list[str]) -> str | None:
    """The id of an event that has not got a short text for one; None where its origin has to do."""
    text = None if raw is None else _scalar(raw)
    if text is None:
        if raw is not None:
            flags.append("wrong_type_event_id")
        return None
    if len(text) > MAX_ID_LENGTH:
        flags.append("oversized_event_id")
        return "h-" + blake2b(text.encode(), digest_size=16).hexdigest()
    return None if not text or text.isspace() else text


def _odd(
    name: str, value: Any, flags: list[str], properties: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """The text of a field that is none; what has no text is flagged, and kept among the properties."""
    text = _scalar(value)
    if text is not None:
        return text, properties
    flags.append(f"wrong_type_{name}")
    return None, {name: value, **properties}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Rows hold no cycles, and looking for cycles among a million young objects takes longer than to make them."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


def _text(element: Any) -> bytes:
    """The element as JSON, with its keys in their order unless it nests too deep for that."""
    try:
        return orjson.dumps(element)
    except orjson.JSONEncodeError:
        return canonical(element)


def _whole_content(properties: dict[str, Any], unknown: Any, actor: Any) -> bytes:
    """The free properties, and with them the identifiers that are not among the nodes that content is compared by."""
    if unknown is not None:
        name = "identifiers" if "identifiers" not in properties else "unknown_identifiers"
        properties = {**properties, name: unknown}
    if actor is not None and type(actor) is not dict:
        properties = {"actor": actor, **properties}
    return canonical(properties)


def _mended(found: Found) -> list[str]:
    """The flag of an event in whose record half of a surrogate pair was replaced, if it was in this one."""
    if holds_replaced(found[_TENANT]):
        raise Refused(UNUSABLE_TENANT)  # two tenants may be one by now
    return [REPLACED_CHARACTER] if holds_replaced(list(found)) else []


def _scalar(value: Any) -> str | None:
    """Text of a text or number; None for anything else."""
    if type(value) is str:
        return value
    return None if type(value) is bool or not isinstance(value, int | float | Decimal) else number_text(value)


def _refusal(
    reasons: list[str],
    received_at: int | None,
    tenant: str = DEFAULT_TENANT,
    event_id: str | None = None,
    flags: list[str] | None = None,
) -> Row:
    """The row of a record that cannot be used: what could be read of its place, and why."""
    return Row(
        tenant=tenant,
        received_at=received_at,
        reasons=reasons,
        event_id=event_id,
        flags=flags or _NONE,
    )
