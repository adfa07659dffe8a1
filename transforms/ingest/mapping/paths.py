"""Paths of a mapping: reads the value at a path, and removes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conf.source_mapping import Keys

Walk = Callable[[dict[str, Any], dict[str, Any]], Any]  # (record, its envelope) → what is there, or None


def walk(record: dict[str, Any], envelope: dict[str, Any], path: Keys) -> Any:
    """The value at a path of the record, or of its envelope; None where there is none."""
    value: Any = record
    for key in path:
        if type(value) is dict:
            if type(key) is str:
                value = envelope if key == "$" and value is record else value.get(key)
            else:
                value = value.get(str(key))
        elif type(value) is list and type(key) is int:
            value = value[key] if key < len(value) else None
        else:
            return None
    return value


def walker(path: Keys) -> Walk:
    """`walk` along one path. Short ones through objects alone, which nearly all are, take a third of the time."""
    is_outside = path[0] == "$" and len(path) > 1
    names = [key for key in path[is_outside:] if isinstance(key, str) and key != "$"]
    if len(names) != len(path) - is_outside or len(names) > 3:
        return lambda record, envelope: walk(record, envelope, path)
    if len(names) == 1:
        (name,) = names
        if is_outside:
            return lambda record, envelope: envelope.get(name)
        return lambda record, envelope: record.get(name)
    first, second, *others = names
    third = others[0] if others else None

    def inner(record: dict[str, Any], envelope: dict[str, Any]) -> Any:
        value = (envelope if is_outside else record).get(first)
        if type(value) is not dict:
            return None
        value = value.get(second)
        if third is None:
            return value
        return value.get(third) if type(value) is dict else None

    return inner


def alone(paths: Sequence[Keys]) -> tuple[Keys, ...]:
    """The paths in a record that is its own envelope, in which some are the same."""
    return tuple(dict.fromkeys(p[1:] if p[0] == "$" and len(p) > 1 and p[1] != "$" else p for p in paths))


def pruned(record: dict[str, Any], paths: Sequence[Keys]) -> dict[str, Any]:
    """The record without what is at `paths`, which have two keys or more; only what has to change is copied."""
    for path in paths:
        inner = record.get(str(path[0]))
        if type(inner) is list or (type(inner) is dict and str(path[1]) in inner):  # seldom
            record = without(record, path)
    return record


def without(value: Any, path: Keys) -> Any:
    """The value without what is at the path."""
    key, rest = path[0], path[1:]
    if isinstance(value, list):
        if not isinstance(key, int) or key >= len(value):
            return value
        inner = without(value[key], rest) if rest else None
        return value if inner is value[key] else [*value[:key], inner, *value[key + 1 :]]
    if not isinstance(value, dict) or str(key) not in value:
        return value
    if not rest:
        return {k: v for k, v in value.items() if k != str(key)}
    inner = without(value[str(key)], rest)
    return value if inner is value[str(key)] else {**value, str(key): inner}
