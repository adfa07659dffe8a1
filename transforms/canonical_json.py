"""One text per JSON value: keys sorted, no spaces. What equality of content is decided on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson


def canonical(value: Any) -> bytes:
    """The value's canonical text, however deep it nests and however long its numbers are."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # more than 254 levels, or a number beyond 64 bits
        return _spelled_out(value).encode()


def _spelled_out(value: Any) -> str:
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
        elif isinstance(item, Decimal) or (isinstance(item, int) and not isinstance(item, bool)):
            out.append(str(item))
        else:
            out.append(orjson.dumps(item).decode())
    return "".join(out)
