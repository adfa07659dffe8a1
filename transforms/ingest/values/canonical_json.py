"""Canonical JSON: one text per value, keys sorted, no spaces. Content is compared by it."""

from __future__ import annotations

import json
import math
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

import orjson

_ANY_LENGTH = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def canonical(value: Any) -> bytes:
    """The value's canonical text, however deep it nests and however long its numbers are."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # more than 254 levels, or a number beyond 64 bits
        return spelled_out(value).encode()


def spelled_out(value: Any) -> str:
    """The same for a value that holds what orjson does not write, NaN and Infinity included."""
    out: list[str] = []
    # Tuples are texts that are ready; JSON itself has no tuples. A stack of our own, because Python's is
    # too short.
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            out.append(item[0])
        elif isinstance(item, dict):
            todo.append(("}",))
            for place, key in enumerate(sorted(item, reverse=True)):
                todo += [item[key], (":",), (orjson.dumps(key).decode(),)]
                if place < len(item) - 1:
                    todo.append((",",))
            todo.append(("{",))
        elif isinstance(item, list):
            todo.append(("]",))
            for place, inner in enumerate(reversed(item)):
                todo.append(inner)
                if place < len(item) - 1:
                    todo.append((",",))
            todo.append(("[",))
        elif isinstance(item, Decimal):
            out.append(_decimal(item))
        elif isinstance(item, int) and not isinstance(item, bool):
            out.append(str(item))
        elif isinstance(item, float) and not math.isfinite(item):
            out.append(json.dumps(item))
        else:
            out.append(orjson.dumps(item).decode())
    return "".join(out)


def _decimal(value: Decimal) -> str:
    """One text per number: 1.50, 15e-1 and 1.5 are the same."""
    return str(_ANY_LENGTH.normalize(value))
