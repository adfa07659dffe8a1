"""Numbers that a spreadsheet or a column of floats has written: 123.0, 4.47700900123E+11."""

from __future__ import annotations

import re

_WHOLE_FLOATS = 2**53  # from here on a float has lost digits of the number that it was
_FRACTION = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
# With the sign of its exponent, as spreadsheets and programs write it; without, it may be anything (12e5 of a hash).
_SCIENTIFIC = re.compile(r"(-?[0-9])(?:[.,]([0-9]+))?[eE]\+([0-9]{1,4})")


def is_written_number(text: str) -> bool:
    """Whether the text is such a number."""
    if ".0" not in text and "+" not in text:  # nearly all
        return False
    return bool(_FRACTION.fullmatch(text) or _SCIENTIFIC.fullmatch(text))


def whole_number(text: str) -> str | None:
    """The digits of the whole number that such a text stands for; None where digits were lost on the way, so that it
    may stand for many numbers."""
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        return fraction[1] if abs(int(fraction[1])) < _WHOLE_FLOATS else None
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific is None:
        return None
    first, others, exponent = scientific[1], scientific[2] or "", int(scientific[3])
    return first + others if len(others) == exponent else None
