"""Reads one record's bytes as a JSON object, or gives the reason why that fails."""

from __future__ import annotations

from typing import Any

from transforms.ingest.framing.csv_frames import csv_fields, csv_split, unique_names
from transforms.ingest.values.json_text import Read, read_json

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


class Refused(Exception):
    """This record cannot be read; the argument is the reason."""


class PayloadReader:
    """Reads payloads of every format; remembers the headers of CSV files."""

    def __init__(self, max_record_bytes: int) -> None:
        self._max_bytes = max_record_bytes
        self._headers: dict[str, list[str]] = {}

    def read(self, payload_format: str, payload: bytes | None) -> dict[str, Any]:
        """The record. Refused with the reason when there is none in these bytes."""
        record: dict[str, Any]
        record, _, has_no_number = self.read_leniently(payload_format, payload)
        if has_no_number:
            raise Refused(MALFORMED_JSON)
        return record

    def read_leniently(self, payload_format: str, payload: bytes | None) -> Read:
        """The record, which may have NaN or Infinity in it: of an envelope they cost one event, not all of them."""
        if payload_format == "unreadable":
            raise Refused(UNREADABLE)
        if payload is None:
            raise Refused(TOMBSTONE)
        if len(payload) > self._max_bytes:
            raise Refused(TOO_LARGE)
        return (self._csv(payload), False, False) if payload_format == "csv" else _json(payload)

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


def _json(payload: bytes) -> Read:
    try:
        read = read_json(payload)
    except UnicodeDecodeError:
        raise Refused(INVALID_UTF8) from None
    except (ValueError, RecursionError):
        if payload.startswith(_BOM) and not payload.startswith(_BOM, len(_BOM)):
            return _json(payload[len(_BOM) :])  # files that were put together have one in the middle
        raise Refused(MALFORMED_JSON) from None
    if type(read[0]) is not dict:
        raise Refused(NOT_AN_OBJECT)
    return read


def _column_names(header: str) -> list[str]:
    """The header's names. Refused where its quoting is broken."""
    fields = csv_fields(header)
    if fields is None:
        raise Refused(MALFORMED_CSV)
    return unique_names([field.strip() for field in fields])
