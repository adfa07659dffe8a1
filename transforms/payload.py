"""One record's bytes as an object, or the reason why they are none."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

import orjson

from transforms.framing_csv import csv_fields, csv_split, unique_names

MALFORMED_JSON = "malformed_json"
MALFORMED_CSV = "malformed_csv"
NOT_AN_OBJECT = "not_an_object"
INVALID_UTF8 = "invalid_utf8"
TOO_LARGE = "record_too_large"
UNREADABLE = "unreadable_file"
TOMBSTONE = (
    "tombstone"  # a key without a value; nothing here can be deleted by one, so somebody should see it
)

_HEADERS_KEPT = 1000
_BOM = b"\xef\xbb\xbf"
_DEPTH = 1024  # levels that orjson reads
_DIGITS = 4000  # Python turns no longer text into an integer


class Refused(Exception):
    """This record cannot be read; the argument is the reason."""


class PayloadReader:
    """Reads payloads of every format; remembers the headers of CSV files."""

    def __init__(self, max_record_bytes: int) -> None:
        self._max_bytes = max_record_bytes
        self._headers: dict[str, list[str]] = {}

    def read(self, payload_format: str, payload: bytes | None) -> dict[str, Any]:
        """The record. Refused with the reason when there is none in these bytes."""
        if payload_format == "unreadable":
            raise Refused(UNREADABLE)
        if payload is None:
            raise Refused(TOMBSTONE)
        if len(payload) > self._max_bytes:
            raise Refused(TOO_LARGE)
        return self._csv(payload) if payload_format == "csv" else _json(payload)

    def read_exactly(self, payload_format: str, payload: bytes | None) -> dict[str, Any]:
        """The same record with every number as it was written; slower, and seldom needed."""
        if payload is None:
            raise Refused(TOMBSTONE)
        return self._csv(payload) if payload_format == "csv" else loads_exactly(payload.decode("utf-8-sig"))

    def _csv(self, payload: bytes) -> dict[str, Any]:
        try:
            header, record = csv_split(payload.decode())
        except UnicodeDecodeError:
            raise Refused(INVALID_UTF8) from None
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


def loads_exactly(text: str) -> Any:
    """JSON with long numbers whole: orjson makes floats of integers beyond 64 bits."""
    orjson.loads(text)  # the stricter reader decides what is JSON, and how deep it may nest
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2 * _DEPTH)
    try:
        return json.loads(text, parse_float=Decimal, parse_int=_integer)
    finally:
        sys.setrecursionlimit(limit)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _DIGITS else Decimal(text)


def _json(payload: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(payload)
    except orjson.JSONDecodeError:
        if payload.startswith(_BOM) and not payload.startswith(_BOM, len(_BOM)):
            return _json(payload[len(_BOM) :])  # files that were put together have one in the middle
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise Refused(INVALID_UTF8) from None
        raise Refused(MALFORMED_JSON) from None
    if type(record) is not dict:
        raise Refused(NOT_AN_OBJECT)
    return record


def _column_names(header: str) -> list[str]:
    """The header's names. Refused where its quoting is broken."""
    fields = csv_fields(header)
    if fields is None:
        raise Refused(MALFORMED_CSV)
    return unique_names([field.strip() for field in fields])
