"""The paths that a mapping takes from an event, prepared once for many events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from conf.source_mapping import FIELDS, Bag, Keys, Rule, SourceMapping
from transforms.ingest.mapping.paths import Walk, alone, walk, walker

_MOST_KEPT = 10_000
_KEPT_LENGTH = 256  # of all of a record's words, which anybody may write


class Choice(NamedTuple):
    """A named value of a bag. `key`: the field at the top that is all there is to look at; else the paths, the first
    usable one of which wins."""

    name: str
    key: str | None
    walks: tuple[Walk, ...]


class BagPaths(NamedTuple):
    """A bag: whole objects, and single values."""

    objects: tuple[Walk, ...]
    fields: tuple[Choice, ...]


class Taken(NamedTuple):
    """What is taken of an event for which some rules hold. `nested`: paths of identifiers inside of something of the
    event, which keeps none there; `nested_outside`: those inside of something of its envelope. `constants`: by the
    places of FIELDS."""

    identifiers: BagPaths
    actor: BagPaths
    properties: BagPaths
    context: BagPaths
    nested: tuple[Keys, ...]
    nested_outside: tuple[Keys, ...]
    constants: tuple[tuple[int, str], ...]


class EventPaths:
    """The paths of a mapping in events that are their own envelope (`is_alone`), or have one around them."""

    def __init__(self, mapping: SourceMapping, identifiers: Bag, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._bags = (identifiers, *mapping.bags[1:])
        self._rules = mapping.rules
        candidates = [mapping.fields.get(name, ()) for name in FIELDS]
        only = [paths[0] if len(paths) == 1 else None for paths in candidates]
        self.simple = tuple(
            str(path[0]) if path is not None and len(path) == 1 and path[0] != "$" else None for path in only
        )
        self.deep = tuple(
            (at, walker(path)) for at, path in enumerate(only) if path is not None and self.simple[at] is None
        )
        self.several = tuple(
            (at, self._walks(paths)) for at, paths in enumerate(candidates) if len(paths) > 1
        )
        matched = dict.fromkeys(path for rule in mapping.rules for path, _ in rule.match)
        self._words = tuple(walker(path) for path in matched)
        self._place = {path: at for at, path in enumerate(matched)}
        self._matching: dict[tuple[str | None, ...], tuple[Rule, ...]] = {}
        self._taken: dict[tuple[int, ...], Taken] = {}
        self._always = self._take(())

    def taken(self, record: dict[str, Any], envelope: dict[str, Any]) -> Taken:
        """What is taken of a record."""
        if not self._rules:
            return self._always
        values = [w(record, envelope) for w in self._words]
        words = tuple([value if type(value) is str else _word(value) for value in values])
        rules = self._matching.get(words)
        if rules is None:
            rules = self._rules_matching(words)
        if not rules:
            return self._always
        held = tuple([id(r) for r in rules if r.unless_same is None or _differs(r, record, envelope)])
        taken = self._taken.get(held)
        if taken is None:
            if len(self._taken) >= _MOST_KEPT:
                self._taken.clear()
            taken = self._taken[held] = self._take([r for r in rules if id(r) in held])
        return taken

    def _rules_matching(self, words: tuple[str | None, ...]) -> tuple[Rule, ...]:
        plain = [None if word is None else word.strip().lower() for word in words]
        rules = tuple(
            rule
            for rule in self._rules
            if all(plain[self._place[path]] in wanted for path, wanted in rule.match)
        )
        if sum(len(word or "") for word in words) <= _KEPT_LENGTH:
            if len(self._matching) >= _MOST_KEPT:
                self._matching.clear()
            self._matching[words] = rules
        return rules

    def _take(self, rules: Sequence[Rule]) -> Taken:
        bags = self._bags
        nested = _nested(bags[0], bags[1])
        constants: list[tuple[int, str]] = []
        for rule in rules:
            bags = tuple(map(_joined, bags, rule.bags))  # type: ignore[assignment]
            nested += _nested(rule.identifiers, rule.actor)
            constants += [(FIELDS.index(name), constant) for name, constant in rule.constants.items()]
        outside = tuple(dict.fromkeys(p[1:] for p in nested if p[0] == "$"))
        inside = tuple(dict.fromkeys(p for p in nested if p[0] != "$"))
        if self._is_alone:
            inside, outside = tuple(dict.fromkeys((*inside, *outside))), ()
        subject, actor, properties, context = map(self._bag, bags)
        return Taken(subject, actor, properties, context, inside, outside, tuple(constants))

    def _bag(self, bag: Bag) -> BagPaths:
        return BagPaths(
            tuple(walker(path) for path in bag.objects),
            tuple(
                Choice(name, name if paths == ((name,),) else None, self._walks(paths))
                for name, paths in bag.fields
            ),
        )

    def _walks(self, paths: Sequence[Keys]) -> tuple[Walk, ...]:
        return tuple(walker(path) for path in (alone(paths) if self._is_alone else paths))


def _word(value: Any) -> str | None:
    """What a value says to a rule that is no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def _differs(rule: Rule, record: dict[str, Any], envelope: dict[str, Any]) -> bool:
    if rule.unless_same is None:
        return True
    left, right = (walk(record, envelope, path) for path in rule.unless_same)
    return left is None or left != right


def _joined(bag: Bag, more: Bag) -> Bag:
    return Bag(bag.objects + more.objects, bag.fields + more.fields) if more.paths else bag


def _nested(*bags: Bag) -> tuple[Keys, ...]:
    """Paths of identifiers that are inside of something; those at the top are in nothing else."""
    paths = (p for bag in bags for p in bag.paths)
    return tuple(p for p in paths if len(p) > (2 if p[0] == "$" else 1))
