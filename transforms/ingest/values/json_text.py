"""JSON as RFC 8259 has it: what other programs may write and common readers refuse or round.

orjson reads nearly all of it, and decides what is JSON at all and how deep it may nest. Left to this module are numbers
that 64 bits do not hold, texts that UTF-8 does not hold (half of a surrogate pair, which browsers send for an emoji
that was cut), and the words `NaN` and `Infinity`, which are no JSON and whose place has to be known all the same.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

_REPLACED = "\ufffd"  # what stands in the place of half a surrogate pair

_DEPTH = 1024  # levels that orjson reads
_DIGITS = 4000  # Python turns no longer text into an integer
# A number with so many digits may not be what 64 bits make of it. Digits become zeros, so that one search finds them.
_SIGNS_OF_NUMBERS = bytes(ord("0") if chr(byte) in "0123456789.eE" else 32 for byte in range(256))
_LONG = b"0" * 17
_BEFORE_NUMBER = frozenset(b" \t\r\n:,[-")
_SURROGATE = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?Infinity|NaN|-?[0-9][0-9.eE+\-]*+', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# Without one of these nothing is left to be read that orjson refuses: nearly all that it refuses is cut or no JSON.
_ODD = re.compile(r"\\u[dD]|NaN|Infinity|(?:^|[:,\[\s])-?[0-9][0-9.]*+(?:[eE]|(?<=[0-9.]{290}))")
_LONGEST_PLAIN = 300  # a number of fewer characters and no exponent is none that orjson calls infinite


# A JSON value; whether half of a surrogate pair was replaced somewhere in it; whether NaN or Infinity is somewhere
# in it, as a float that is not finite (no other float here is). A bare tuple, for one is made for every record.
Read = tuple[Any, bool, bool]


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. ValueError where it is none."""
    value, _, has_no_number = read_json(text)
    if has_no_number:
        raise ValueError("NaN and Infinity are no JSON")
    return value


def read_json(text: str | bytes) -> Read:
    """The value of a JSON text, NaN and Infinity let pass; ValueError where it is none.

    Numbers that 64 bits hold are integers and floats; all others are whole, as integers or decimals."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = text.decode() if isinstance(text, bytes) else text
        if not _ODD.search(whole):
            raise
        return _leniently(whole)
    return (_exactly(text) if has_long_number(text) else value), False, False


def has_long_number(text: str | bytes) -> bool:
    """Whether JSON has a number that 64 bits do not hold as it is written."""
    raw = text.encode() if isinstance(text, str) else text
    signs = raw.translate(_SIGNS_OF_NUMBERS)
    start = signs.find(_LONG)
    while start >= 0:
        end = signs.find(b" ", start)
        end = len(raw) if end < 0 else end
        if start == 0 or raw[start - 1] in _BEFORE_NUMBER:  # else it is in a text
            if raw[end - 1] in b"eE":  # a sign, and the exponent
                end = signs.find(b" ", end + 1)
                end = len(raw) if end < 0 else end
            is_negative = start > 0 and raw[start - 1] == ord("-")
            if not _is_held(raw[start - is_negative : end]):
                return True
        start = signs.find(_LONG, end)
    return False


def _is_held(token: bytes) -> bool:
    try:
        if token.lstrip(b"-").isdigit():
            return len(token) < 19 or (len(token) < 21 and -(2**63) <= int(token) < 2**64)
        near = repr(float(token))
        return near.encode() == token or Decimal(near) == Decimal(token.decode())
    except (ValueError, InvalidOperation):  # no number, so it is in a text
        return True


def holds_no_number(value: Any) -> bool:
    """Whether NaN or Infinity is in a value that was read here."""
    return any(isinstance(item, float) and not math.isfinite(item) for item in _scalars(value))


def holds_replaced(value: Any) -> bool:
    """Whether a text or a name in a value has something in it that was replaced."""
    return any(isinstance(item, str) and _REPLACED in item for item in _scalars(value))


def _scalars(value: Any) -> Iterator[Any]:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from item
            todo += item.values()
        elif isinstance(item, list):
            todo += item
        else:
            yield item


def _leniently(text: str) -> Read:
    mended = _SURROGATE.sub(lambda found: r"\ufffd" if found[1] else found[0], text)
    no_numbers: list[str] = []

    def judged(found: re.Match[str]) -> str:
        """What stands for a token before the stricter reader, which takes no number beyond its range."""
        token = found[0]
        if token.endswith(("NaN", "Infinity")):
            no_numbers.append(token)
            return "0"
        is_far = token[0] != '"' and ("e" in token or "E" in token or len(token) > _LONGEST_PLAIN)
        return "0" if is_far and _NUMBER.fullmatch(token) else token

    orjson.loads(_TOKEN.sub(judged, mended))
    return _exactly(mended), mended != text, bool(no_numbers)


def _exactly(text: str | bytes) -> Any:
    with _deep_enough():
        return json.loads(text, parse_float=_fraction, parse_int=_integer)


@contextmanager
def _deep_enough() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2 * _DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _DIGITS else Decimal(text)


def _fraction(text: str) -> float | Decimal:
    """A float where that is the number, as for every other record; a decimal where it would be another one."""
    near = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError("an exponent of more than 18 digits") from None
    return near if math.isfinite(near) and Decimal(repr(near)) == exact else exact
