"""The properties and the context of an event, as canonical JSON.

A device sends the same context many times, and many events have the same few properties: what follows from the bytes is
worked out once and remembered.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from transforms.ingest.values.canonical_json import canonical
from transforms.ingest.values.json_text import has_long_number
from transforms.ingest.values.touch import may_have_touch

_MOST_KEPT = 20_000
_KEPT_LENGTH = 1024  # what is kept is bounded in number, so it has to be bounded in size too


class Part(NamedTuple):
    """A free part: its fields but for the network address, their canonical text (none: empty), the address, and whether
    it may say what led here."""

    fields: dict[str, Any]
    json: bytes | None
    ip: str | None
    has_touch: bool


NO_PART = Part({}, None, None, False)


def take_ip(context: dict[str, Any]) -> Any:
    """The network address in an event's context, which keeps none."""
    if "ip" not in context and "ip_address" not in context:
        return None
    ip = context.pop("ip", None) or context.get("ip_address")
    context.pop("ip_address", None)
    return ip


class FreeParts(dict[bytes, Part | None]):
    """Parts by their JSON text, of properties or of contexts; None where it is no object, its address no
    text, or a number longer than 64 bits hold."""

    def __init__(self, is_context: bool) -> None:
        self._is_context = is_context

    def __missing__(self, text: bytes) -> Part | None:
        part = self._read(text)
        if len(text) <= _KEPT_LENGTH:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[text] = part
        return part

    def _read(self, text: bytes) -> Part | None:
        if not text:
            return NO_PART
        if has_long_number(text):
            return None
        try:
            (fields,) = orjson.loads(b"[%b]" % text)  # as deep inside of something as it is in its record
        except orjson.JSONDecodeError:
            return None
        if fields is None:
            return NO_PART
        if type(fields) is not dict:
            return None
        ip = take_ip(fields) if self._is_context else None
        if ip is not None and type(ip) is not str:
            return None
        return Part(
            fields, canonical(fields) if fields else None, ip, may_have_touch(fields, self._is_context)
        )
