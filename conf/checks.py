"""Checks of single values of a user's file. Each returns the value, or raises what `refuse(key, problem)` makes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

Refuse = Callable[[str, str], Exception]


def mapping(value: Any, key: str, refuse: Refuse, example: str) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else raise with `example` as what to write."""
    if not isinstance(value, Mapping):
        raise refuse(key, f"must be a mapping such as {example}")
    return {str(k): v for k, v in value.items()}


def only_known(names: Iterable[str], known: Iterable[str], prefix: str, refuse: Refuse) -> None:
    """Raise for the first name that is not known; the message suggests a similar known one."""
    for name in sorted(set(names) - set(known)):
        near = get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise refuse(f"{prefix}{name}", f"is not known; {meant}known are {', '.join(sorted(known))}")


def one_of(value: Any, allowed: tuple[str, ...], key: str, refuse: Refuse) -> str:
    """Return `value` if it is one of `allowed`, else raise."""
    if value not in allowed:
        raise refuse(key, f"must be one of {', '.join(allowed)}")
    return str(value)


def boolean(value: Any, key: str, refuse: Refuse) -> bool:
    """Return `value` if it is true or false, else raise."""
    if not isinstance(value, bool):
        raise refuse(key, "must be true or false")
    return value


def whole_number(value: Any, key: str, refuse: Refuse, least: int | None = None) -> int:
    """Return `value` if it is an integer of `least` or more, else raise."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise refuse(key, "must be a whole number" + ("" if least is None else f" of at least {least}"))
    return value


def positive_number(value: Any, key: str, refuse: Refuse) -> float:
    """Return `value` if it is a finite number above 0, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise refuse(key, "must be a number above 0")
    return float(value)


def text_list(value: Any, key: str, refuse: Refuse) -> tuple[str, ...]:
    """Return the texts of a list; a missing list is empty. Raise for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(v is None or isinstance(v, str | int | float) for v in value):
        raise refuse(key, "must be a list of values, such as [guest, test]")
    return tuple(_text(v) for v in value)


def pattern_list(value: Any, key: str, refuse: Refuse) -> tuple[str, ...]:
    """Return a list of regular expressions as texts. Raise for one that does not compile."""
    patterns = text_list(value, key, refuse)
    for p in patterns:
        try:
            re.compile(p)
        except re.error as e:
            raise refuse(key, f"{p!r} is not a regular expression: {e}") from None
    return patterns


def _text(value: Any) -> str:
    # YAML reads a bare null, true or .nan as something other than a word; in a list of values the word is meant.
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
