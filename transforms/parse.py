"""From framed records to rows of events: read, map, hash, and refuse with a reason what cannot be used.

    payload ──► object ──► mapping: fields of the event(s) ──► instant, nodes, digest ──► one row

Nothing that a record contains raises: a record is a row, acceptable or with its reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from conf.policy import MAX_LINKING_IDENTIFIERS, Policy
from conf.source_mapping import SourceMapping
from transforms.canonical_json import canonical
from transforms.extract import Extractor, Found
from transforms.framing_csv import csv_fields, csv_split
from transforms.hashing import digest, encode, event_key
from transforms.instants import NO_TIMESTAMP, instant
from transforms.normalize import number_text
from transforms.parsed_schema import PARSED_SCHEMA, Records
from transforms.subject import NO_IDENTIFIER, TOO_MANY, IdentifierReader, Imprecise, Node, user_and_anchor
from transforms.touch import touch

MALFORMED_JSON = "malformed_json"
MALFORMED_CSV = "malformed_csv"
NOT_AN_OBJECT = "not_an_object"
INVALID_UTF8 = "invalid_utf8"
TOO_LARGE = "record_too_large"
UNREADABLE = "unreadable_file"
UNPARSEABLE = "unparseable"
UNUSABLE_TENANT = "unusable_tenant"

DEFAULT_TENANT = "default"
MAX_ID_LENGTH = 512
_HEADERS_KEPT = 1000
_ROWS_AT_ONCE = 1000
_NONE: tuple[Any, ...] = ()

# The columns of a row in the order in which `_row` makes them; the others are handed through.
_MADE = (
    "tenant", "received_at", "reasons", "event_id", "event_key", "content_digest", "event_type", "event_name",
    "event_at", "platform", "user_node_id", "anchor_node_id", "node_ids", "weak_node_ids", "actor_node_ids",
    "touch_source", "touch_medium", "touch_campaign", "touch_referrer", "flags", "properties", "context", "identifiers",
)  # fmt: skip


class Refused(Exception):
    """This record cannot be read; the argument is the reason."""


class RecordParser:
    """Parses records by their mappings, one policy and one key. Picklable; caches stay behind, the key is never shown."""

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
        self._key = key
        self._reader = IdentifierReader(policy, key)
        self._extractors = {name: Extractor(mapping, policy) for name, mapping in self.mappings.items()}
        self._headers: dict[str, list[str]] = {}
        self._seen: set[int] = set()

    def __repr__(self) -> str:
        return f"RecordParser(mappings={sorted(self.mappings)}, policy={self.policy.fingerprint})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordParser, (self.mappings, self.policy, self._key, self.max_record_bytes)

    def parse(self, records: Records) -> pa.RecordBatch:
        """One row per event: as many as records, unless a mapping explodes them."""
        self._seen = set()
        # Rows become Arrow a thousand at a time: Python objects that are let go at once stay in the processor's cache.
        parts = [
            self._part(Records(*[column[at : at + _ROWS_AT_ONCE] for column in records]))
            for at in range(0, len(records.payload) or 1, _ROWS_AT_ONCE)
        ]
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _part(self, records: Records) -> pa.RecordBatch:
        rows: list[tuple[Any, ...]] = []
        places: list[int] = []
        for at, (source, mapping, _, origin, ordinal, payload_format, payload, transport_at) in enumerate(
            zip(*records, strict=True)
        ):
            extractor = self._extractors[mapping]
            try:
                new = self._record(extractor, payload_format, payload, (source, origin, str(ordinal)), transport_at)
            except Refused as refused:
                new = [_refusal([str(refused)], transport_at)]
            except Exception:  # whatever it was: one record must not stop the batch, and its contents not be logged
                new = [_refusal([UNPARSEABLE], transport_at)]
            rows += new
            if len(rows) != at + 1 or places:  # only a mapping that explodes records has other rows than records
                places = places or list(range(at))
                places += [at] * len(new)
        return self._batch(records, rows, places)

    def _record(
        self, extractor: Extractor, payload_format: str, payload: bytes, place: tuple[str, ...], transport_at: int | None
    ) -> list[tuple[Any, ...]]:
        if payload_format == "unreadable":
            raise Refused(UNREADABLE)
        if len(payload) > self.max_record_bytes:
            raise Refused(TOO_LARGE)
        record = self._object(payload_format, payload)
        events = extractor.events(record, orjson.loads)
        rows = []
        for sub, found in enumerate(events):
            here = place if sub == 0 else (*place, str(sub))
            try:
                rows.append(self._row(found, here, transport_at))
            except Imprecise:
                # Identity is read exactly; everything else stays what it is for every other record.
                again = self._object(payload_format, payload)
                found = extractor.events(again, orjson.loads)[sub]
                if payload_format == "json":
                    again = _exact(payload.decode())
                exact = extractor.events(again, _exact)[sub]
                rows.append(self._row((*exact[:2], *found[2:7], *exact[7:9], *found[9:]), here, transport_at))
        return rows

    def _object(self, payload_format: str, payload: bytes) -> dict[str, Any]:
        return _json_object(payload) if payload_format == "json" else self._csv_object(payload)

    def _csv_object(self, payload: bytes) -> dict[str, Any]:
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            raise Refused(INVALID_UTF8) from None
        header, record = csv_split(text)
        names = self._headers.get(header)
        if names is None:
            names = _column_names(header)
            if len(self._headers) >= _HEADERS_KEPT:
                self._headers.clear()
            self._headers[header] = names
        fields = csv_fields(record)
        # Too few fields may be a record that was cut in the middle of a value: better refused than misread.
        if fields is None or len(fields) != len(names):
            raise Refused(MALFORMED_CSV)
        return {name: field for name, field in zip(names, fields, strict=True) if field}

    def _row(self, found: Found, place: tuple[str, ...], transport_at: int | None) -> tuple[Any, ...]:
        raw_id, raw_tenant, event_type, event_name, timestamp, received, platform, identifiers, actor, properties, context = (
            found
        )
        reasons: list[str] = []
        flags: list[str] = []

        tenant = DEFAULT_TENANT
        if raw_tenant is not None:
            text = _scalar(raw_tenant)
            if text is None or len(text) > MAX_ID_LENGTH:
                reasons.append(UNUSABLE_TENANT)  # by no means into a tenant of somebody else
            else:
                tenant = text.strip() or DEFAULT_TENANT

        event_id: str | None = None
        if raw_id is not None:
            event_id = _scalar(raw_id)
            if event_id is None:
                flags.append("wrong_type_event_id")
            elif len(event_id) > MAX_ID_LENGTH:
                flags.append("oversized_event_id")
                event_id = "h-" + hashlib.blake2b(event_id.encode(), digest_size=16).hexdigest()
            elif not event_id or event_id.isspace():
                event_id = None

        event_at, note = instant(timestamp) if timestamp is not None else (None, NO_TIMESTAMP)
        if event_at is None:
            reasons.append(str(note))
        elif note:
            flags.append(note)
        received_at = transport_at
        if received is not None:
            received_at = instant(received)[0]
            if received_at is None:
                received_at = transport_at
                flags.append("unusable_received_at")

        ip = None
        if "ip" in context or "ip_address" in context:
            ip = context.pop("ip", None) or context.get("ip_address")
            context.pop("ip_address", None)
        reader = self._reader
        linking, weak, unknown = reader.subject(tenant, identifiers, flags, ip)
        if not linking:
            reasons.append(NO_IDENTIFIER)
        elif len(linking) > MAX_LINKING_IDENTIFIERS:
            reasons.append(TOO_MANY)
        if flags:
            flags = sorted(set(flags))
        if reasons:
            return _refusal(reasons, received_at, tenant, event_id, flags)

        if event_id is None:
            event_id = "o-" + hashlib.blake2b(encode(*place), digest_size=16).hexdigest()
        acting = reader.actor(tenant, actor) if actor else []
        if unknown is not None:
            name = "identifiers" if "identifiers" not in properties else "unknown_identifiers"
            properties = {**properties, name: unknown}
        event_type = _lowered(event_type)
        event_name = _scalar(event_name) if event_name is not None else None
        platform = _lowered(platform)
        node_ids = [node[3] for node in linking]
        weak_ids = [node[3] for node in weak]
        actor_ids = [node[3] for node in acting]
        properties_json = canonical(properties) if properties else b""
        context_json = canonical(context) if context else b""
        head = orjson.dumps([event_type, event_name, event_at, platform, node_ids, weak_ids, actor_ids])
        seen = self._seen
        new = [node for node in linking + weak + acting if node[3] not in seen]
        if new:
            seen.update([node[3] for node in new])
        return (
            tenant,
            received_at,
            _NONE,
            event_id,
            event_key(tenant, event_id),
            digest(b"%b\n%b\n%b" % (head, properties_json, context_json)),
            event_type,
            event_name,
            event_at,
            platform,
            *user_and_anchor(linking),
            node_ids,
            weak_ids,
            actor_ids or _NONE,
            *touch(properties, context),
            flags or _NONE,
            properties_json or None,
            context_json or None,
            new or _NONE,
        )

    def _batch(self, records: Records, rows: list[tuple[Any, ...]], places: list[int]) -> pa.RecordBatch:
        made = dict(zip(_MADE, zip(*rows, strict=True) if rows else ((),) * len(_MADE), strict=True))
        columns: dict[str, pa.Array] = {}
        for name in Records._fields[:-1]:
            values = getattr(records, name)
            kind = PARSED_SCHEMA.field(name).type
            columns[name] = pa.array([values[at] for at in places] if places else values, kind)
        for name, values in made.items():
            kind = PARSED_SCHEMA.field(name).type
            columns[name] = _identifiers(values, kind) if name == "identifiers" else pa.array(values, kind)
        columns["event_date"] = columns["event_at"].cast(pa.date32())
        has_anchor = columns["anchor_node_id"].is_valid()
        authenticated = columns["user_node_id"].is_valid()
        columns["is_authenticated"] = pa.array(
            authenticated.to_numpy(zero_copy_only=False), mask=~has_anchor.to_numpy(zero_copy_only=False)
        )
        return pa.RecordBatch.from_arrays([columns[name] for name in PARSED_SCHEMA.names], schema=PARSED_SCHEMA)


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise Refused(INVALID_UTF8) from None
        raise Refused(MALFORMED_JSON) from None
    if type(record) is not dict:
        raise Refused(NOT_AN_OBJECT)
    return record


def _exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _column_names(header: str) -> list[str]:
    """The header's names; one that is empty or there already is named after its place, so that its values are kept."""
    fields = csv_fields(header)
    if fields is None:
        raise Refused(MALFORMED_CSV)
    names: list[str] = []
    for place, name in enumerate(field.strip() for field in fields):
        names.append(name if name and name not in names else f"{name or 'column'}_{place + 1}")
    return names


def _scalar(value: Any) -> str | None:
    """Text of a text or number; None for anything else."""
    if type(value) is str:
        return value
    if type(value) is float and abs(value) >= 2.0**53:
        raise Imprecise
    return None if type(value) is bool or not isinstance(value, int | float | Decimal) else number_text(value)


def _lowered(value: Any) -> str | None:
    if type(value) is str:
        return value.strip().lower() or None
    return None if value is None else _scalar(value)


def _refusal(
    reasons: list[str],
    received_at: int | None,
    tenant: str = DEFAULT_TENANT,
    event_id: str | None = None,
    flags: list[str] | None = None,
) -> tuple[Any, ...]:
    """A row of a record that cannot be used: what could be read of its place, and why."""
    none = (None,) * 8
    return (tenant, received_at, reasons, event_id, *none, [], [], [], *none[:4], flags or [], None, None, [])


def _identifiers(lists: tuple[Any, ...], kind: pa.ListType) -> pa.Array:
    nodes = list(chain.from_iterable(lists))
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(x) for x in lists], out=offsets[1:])
    struct = kind.value_type
    fields = dict(zip(Node._fields, zip(*nodes, strict=True), strict=True)) if nodes else {}
    children = [pa.array(fields.get(f.name, ()), f.type) for f in struct]
    values = pa.StructArray.from_arrays(children, fields=list(struct))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
