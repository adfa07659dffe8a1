"""When it happened: ISO 8601 or epoch numbers of any resolution, as microseconds since 1970 in UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

NO_TIMESTAMP = "no_timestamp"
OUT_OF_RANGE = "timestamp_out_of_range"
ASSUMED_UTC = "assumed_utc"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = 631_152_000  # 1990-01-01, in seconds
_LAST = 4_102_444_800  # 2100-01-01
_FIRST_MICROS, _LAST_MICROS = _FIRST * 1_000_000, _LAST * 1_000_000
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_SPACED_OFFSET = re.compile(r"(?<=[0-9])\s+(?=[+-][0-9]{2}:?[0-9]{2}$)")
_DAY = re.compile(r"[0-9]{8}")

# (microseconds, None or a flag) or (None, the reason)
Instant = tuple[int | None, str | None]


def instant(value: Any) -> Instant:
    """The instant and `assumed_utc` if it came without an offset; or no instant and the reason."""
    kind = type(value)
    if kind is str:
        # 2024-…: what nearly all are. Digits without hyphens may be an epoch, which the ISO reader would
        # misread.
        if value[4:5] == "-":
            try:
                return _from_datetime(datetime.fromisoformat(value))
            except ValueError:
                pass
        return _from_text(value)
    if kind is int or kind is float or kind is Decimal:
        return _from_number(value)
    return None, NO_TIMESTAMP


def _from_datetime(moment: datetime) -> Instant:
    try:
        if moment.tzinfo is None:
            micros, flag = (moment.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND, ASSUMED_UTC
        else:
            since = moment - EPOCH
            micros, flag = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds, None
    except OverflowError:  # the first or last day of all, in an unlucky time zone
        return None, OUT_OF_RANGE
    return (micros, flag) if _FIRST_MICROS <= micros <= _LAST_MICROS else (None, OUT_OF_RANGE)


def _from_text(text: str) -> Instant:
    text = text.strip()
    if len(text) > 64:
        return None, NO_TIMESTAMP
    if _NUMBER.fullmatch(text) and not _DAY.fullmatch(text):
        return _from_number(Decimal(text))
    upper = text.upper()
    if upper.endswith(("UTC", "GMT")):
        upper = upper[:-3].rstrip() + "Z"
    upper = _SPACED_OFFSET.sub("", upper)
    try:
        return _from_datetime(datetime.fromisoformat(upper))
    except ValueError:
        # A number of eight digits that is no day is an epoch of 1970 at best.
        return None, OUT_OF_RANGE if _DAY.fullmatch(text) else NO_TIMESTAMP


def _from_number(value: int | float | Decimal) -> Instant:
    """Seconds, milli-, micro- or nanoseconds: between 1990 and 2100 no number can be two of them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, NO_TIMESTAMP
    unit = 1
    for _ in range(4):
        if _FIRST * unit <= value <= _LAST * unit:
            if isinstance(value, int):
                return (value * 1_000_000 // unit), None
            exact = Decimal(repr(value)) if isinstance(value, float) else value
            return int((exact * 1_000_000 / unit).to_integral_value()), None
        unit *= 1000
    return None, OUT_OF_RANGE
