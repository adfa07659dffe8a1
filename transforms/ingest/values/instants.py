"""Reads instants: ISO 8601 or epoch numbers of any resolution, as microseconds since 1970 in UTC."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from transforms.arrays.integers import Flags, Longs

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
# Hours and seconds that Python's reader does not know: the end of a day, and a leap second.
_ZONE = r"((?:Z|[+-][0-9]{2}:?[0-9]{2})?)"
_MIDNIGHT = re.compile(r"([0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ])24:?00(?::?00(?:[.,]0+)?)?" + _ZONE)
_SECOND_60 = re.compile(r"(.*[T ][0-9]{2}:?[0-9]{2}:?)60(?:[.,][0-9]+)?" + _ZONE)
_DAY_LONG = timedelta(days=1)
_LEAP_DAYS = {(6, 30), (12, 31)}  # the days that have had leap seconds, so far and by preference

# How nearly all instants are written: to the second, with milli- or with microseconds.
_SHAPE = b"0000-00-00T00:00:00.000000"
_SECONDS_END = 19
_COMMON_LENGTHS = frozenset((20, 24, 27))

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


def instants(values: Sequence[Any], is_utc: bool) -> tuple[Longs, Flags]:
    """(microseconds of each value, whether it is an instant that needs no flag). `is_utc`: so is what has no offset."""
    micros, is_good = np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    lengths = [len(value) if type(value) is str else 0 for value in values]
    for length in set(lengths) & _COMMON_LENGTHS:
        at = [place for place, found in enumerate(lengths) if found == length]
        micros[at], is_good[at] = _from_common([values[place] for place in at], length)
    for place in np.flatnonzero(~is_good).tolist():
        found, note = instant(values[place]) if values[place] is not None else (None, NO_TIMESTAMP)
        if found is not None and (note is None or (is_utc and note == ASSUMED_UTC)):
            micros[place], is_good[place] = found, True
    return micros, is_good


def _from_common(texts: list[str], length: int) -> tuple[Longs, Flags]:
    """Texts of one length, all at once: those that are written like 2026-01-31T23:59:59.000Z, and which these are."""
    text = "".join(texts)
    if not text.isascii():
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    rows = np.frombuffer(text.encode(), np.uint8).reshape(-1, length)
    shape = np.frombuffer(_SHAPE[: length - 1] + b"Z", np.uint8)
    is_mark = shape != ord("0")
    digits = rows - ord("0")  # without a sign: what comes before the digits is far beyond them
    is_good = (rows[:, is_mark] == shape[is_mark]).all(axis=1) & (digits[:, ~is_mark] <= 9).all(axis=1)

    def number(first: int, last: int) -> Longs:
        found = np.zeros(len(rows), np.int64)
        for place in range(first, last):
            found = found * 10 + digits[:, place]
        return found

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    is_good &= (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(is_good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    first_day, next_first = (m.astype("datetime64[D]").astype(np.int64) for m in (months, months + 1))
    is_good &= (day >= 1) & (day <= next_first - first_day)
    seconds = (((first_day + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    fraction = number(_SECONDS_END + 1, length - 1) * 10 ** (6 - max(0, length - _SECONDS_END - 2))
    micros = seconds * 1_000_000 + fraction
    return micros, is_good & (micros >= _FIRST_MICROS) & (micros <= _LAST_MICROS)


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
        odd = _with_odd_clock(upper)
        if odd is not None:
            return _from_datetime(odd)
        # A number of eight digits that is no day is an epoch of 1970 at best.
        return None, OUT_OF_RANGE if _DAY.fullmatch(text) else NO_TIMESTAMP


def _with_odd_clock(text: str) -> datetime | None:
    """24:00, which is the next midnight; or 23:59:60 UTC on a day that may have a leap second, which is the last
    microsecond before midnight: behind everything of its day, before everything of the next one."""
    midnight, leap = _MIDNIGHT.fullmatch(text), _SECOND_60.fullmatch(text)
    try:
        if midnight:
            return datetime.fromisoformat(midnight[1] + "00:00" + midnight[2]) + _DAY_LONG
        if leap:
            last = datetime.fromisoformat(leap[1] + "59.999999" + leap[2])
            utc = last if last.tzinfo is None else last.astimezone(UTC)
            is_leap = (utc.month, utc.day) in _LEAP_DAYS and (utc.hour, utc.minute) == (23, 59)
            return last if is_leap else None
    except (ValueError, OverflowError):
        pass
    return None


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
