"""Values that never count as identifiers, with whose list each comes from: data in conf/identifiers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

BLOCKED_FILE = files("conf") / "identifiers" / "blocked_values.yaml"


@dataclass(frozen=True)
class BlockedValue:
    """One entry of a list: a value (in any case, or exactly as it stands) or a pattern."""

    value: str | None = None
    pattern: str | None = None
    any_case: bool = False
    namespaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def holds_for(self, namespace: str) -> bool:
        """Whether the value is blocked in this namespace. Without namespaces it is blocked in all."""
        return not self.namespaces or namespace in self.namespaces


@dataclass(frozen=True)
class Blocklist:
    """Entries, made ready to look values up in."""

    exact: frozenset[str]
    lower: frozenset[str]
    patterns: tuple[str, ...]


def blocklist(entries: Iterable[BlockedValue], namespace: str) -> Blocklist:
    """The entries that hold for one namespace."""
    mine = [e for e in entries if e.holds_for(namespace)]
    return Blocklist(
        exact=frozenset(e.value for e in mine if e.value is not None and not e.any_case),
        lower=frozenset(e.value.lower() for e in mine if e.value is not None and e.any_case),
        patterns=tuple(dict.fromkeys(e.pattern for e in mine if e.pattern is not None)),
    )


@cache
def blocked_sources() -> dict[str, str]:
    """The products whose lists are shipped: short name → where it is documented."""
    return dict(_file()["sources"])


@cache
def shipped_blocked() -> tuple[BlockedValue, ...]:
    """The shipped list, in the order of the file; a quoted entry is three."""
    return tuple(e for raw in _file()["values"] for e in _entries(raw))


def _entries(raw: dict[str, Any]) -> list[BlockedValue]:
    entry = BlockedValue(
        pattern=raw.get("pattern"),
        any_case=raw.get("case", "exact") == "any",
        namespaces=tuple(raw.get("namespaces", ())),
        sources=tuple(raw["sources"]),
    )
    if entry.pattern is not None:
        return [entry]
    quotes = ("", "'", '"') if raw.get("quoted") else ("",)
    return [replace(entry, value=f"{q}{raw['value']}{q}") for q in quotes]


@cache
def _file() -> dict[str, Any]:
    return yaml.safe_load(BLOCKED_FILE.read_text(encoding="utf-8"))
