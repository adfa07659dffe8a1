"""A source mapping says where a foreign record keeps what an event needs. It is data: a YAML file that a
user edits.

    fields:       event_id, tenant, event_type, event_name, timestamp, received_at, platform → candidate paths
    identifiers   (the subject's), actor, properties, context → objects taken over whole, and single fields
    defaults, values: what stands in for an absent field; renames of its values (`"*"`: of every other one)
    explode:      path of the list whose elements are the events, when one record is an envelope of several;
                  a record without that list is one event itself
    when:         a list of rules, each for the records that it matches:
                    match:       path → the value, or a list of values, that must stand there
                    unless_same: two paths; the rule does not hold where both have the same value
                    identifiers, actor, properties, context: more of them;  set: fields that are certain then
    ignore:       fields at the top of a record that say how it travelled and not what happened (sent_at, …)
    utc:          true where the format says that times without an offset are UTC

A path is `name`, `outer.inner`, `list.0.inner`, or `$.outer` for the envelope of an exploded record; a
list of paths means: the first whose value can be used. A name that has a dot of its own is written as
`outer.a\\.b`. Fields at the top of the record that nothing else takes go into properties. What a path takes
for an identifier is left out of properties and context, so that its raw value is kept in one place only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from conf.errors import UserMistake

SOURCE_FOLDER = files("conf") / "sources"  # not a path: the package may be a zipped wheel
FIELDS = ("event_id", "tenant", "event_type", "event_name", "timestamp", "received_at", "platform")
BAGS = ("identifiers", "actor", "properties", "context")
ANY_OTHER = "*"
_KEYS = {"description", "fields", *BAGS, "defaults", "values", "explode", "when", "ignore", "utc"}
_RULE_KEYS = {"match", "unless_same", *BAGS, "set"}
_BAG_KEYS = {"objects", "fields", "policy_namespaces"}

Keys = tuple[str | int, ...]
Refuse = Callable[[str, str], "MappingError"]


class MappingError(UserMistake):
    """A source mapping that cannot be used; the message says file, key, problem and way out."""


@dataclass(frozen=True)
class Bag:
    """Named values collected from a record: whole objects, and single fields under a name (dots nest) of
    ours.

    `policy_namespaces`: every top-level field that is named like a namespace of the policy belongs to it.
    """

    objects: tuple[Keys, ...] = ()
    fields: tuple[tuple[str, tuple[Keys, ...]], ...] = ()
    policy_namespaces: bool = False

    @property
    def paths(self) -> tuple[Keys, ...]:
        """Every path that the bag reads: of whole objects and of single fields."""
        return (*self.objects, *(p for _, candidates in self.fields for p in candidates))


@dataclass(frozen=True)
class Rule:
    """What holds for some records only: those with one of the values (lower case) at every path of `match`,
    and not the same value at both paths of `unless_same`."""

    match: tuple[tuple[Keys, frozenset[str]], ...]
    unless_same: tuple[Keys, Keys] | None = None
    identifiers: Bag = Bag()
    actor: Bag = Bag()
    properties: Bag = Bag()
    context: Bag = Bag()
    constants: Mapping[str, str] = field(default_factory=dict)

    @property
    def bags(self) -> tuple[Bag, Bag, Bag, Bag]:
        """The four bags of an event: identifiers, actor, properties and context."""
        return self.identifiers, self.actor, self.properties, self.context


@dataclass(frozen=True)
class SourceMapping:
    """How records of one shape become events. Paths are tuples of keys, the first usable one of several
    wins."""

    name: str
    fields: Mapping[str, tuple[Keys, ...]]
    identifiers: Bag
    actor: Bag = Bag()
    properties: Bag = Bag()
    context: Bag = Bag()
    defaults: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    explode: Keys | None = None
    rules: tuple[Rule, ...] = ()
    ignored: frozenset[str] = frozenset()
    is_utc: bool = False
    description: str = ""

    @property
    def bags(self) -> tuple[Bag, Bag, Bag, Bag]:
        """The four bags of an event: identifiers, actor, properties and context."""
        return self.identifiers, self.actor, self.properties, self.context

    @property
    def top_level(self) -> frozenset[str]:
        """The fields at the top of a record that are taken as they are, and those that properties or context take
        something from; all others are free properties."""
        whole = [p for candidates in self.fields.values() for p in candidates]
        partly: list[Keys] = []
        for identifiers, actor, properties, context in (self.bags, *(rule.bags for rule in self.rules)):
            whole += [*identifiers.paths, *actor.paths]
            partly += [*properties.paths, *context.paths]
        taken = [p for p in whole if len(p) == 1] + [p for p in partly if p[0] != "$"]
        return frozenset(str(p[0]) for p in taken) | self.ignored

    @cached_property
    def fingerprint(self) -> str:
        """Of how it reads records, whatever it is called and however it is described."""
        facts = asdict(self)
        del facts["name"], facts["description"]
        text = json.dumps(facts, sort_keys=True, default=sorted)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def shipped_mappings() -> tuple[str, ...]:
    """The names of the mappings that come with the program."""
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in SOURCE_FOLDER.iterdir() if f.name.endswith(".yaml"))
    )


def load_mapping(name_or_path: str | Path) -> SourceMapping:
    """A shipped mapping by its bare name, or the one in a YAML file."""
    text = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or re.search(r"[/\\]|\.ya?ml$", text) is not None
    file = Path(text) if is_path else SOURCE_FOLDER / f"{text}.yaml"
    if not file.is_file():
        known = ", ".join(shipped_mappings())
        if is_path:
            raise MappingError(
                f"source mapping file {file} does not exist; give an existing YAML file or one of: {known}"
            )
        raise MappingError(
            f"there is no source mapping {text!r}; known are {known}. "
            "For another shape of record write a YAML file like conf/sources/native.yaml and give its path"
        )
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        where = getattr(e, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise MappingError(
            f"source mapping {file}{line} is not readable YAML; check its indentation and quotes"
        ) from None
    return mapping_from_dict(raw, Path(file.name).stem, str(file))


def mapping_from_dict(raw: Any, name: str, origin: str = "source mapping") -> SourceMapping:
    """A validated mapping from parsed YAML. MappingError names the key and what is allowed there."""

    def refuse(key: str, problem: str) -> MappingError:
        return MappingError(f"{origin}: {key}: {problem}")

    top = _mapping(raw, "(top)", refuse, _KEYS)
    fields = _mapping(top.get("fields"), "fields", refuse, set(FIELDS))
    if "timestamp" not in fields:
        raise refuse("fields.timestamp", "is missing; say which field holds the time of the event")
    bags = {key: _bag(top.get(key), key, refuse) for key in BAGS}
    rules = _rules(top.get("when"), refuse)
    may_identify = (bags["identifiers"], *(rule.identifiers for rule in rules))
    if not any(bag.paths or bag.policy_namespaces for bag in may_identify):
        raise refuse(
            "identifiers",
            "is missing; name an object of identifiers (identifiers: path), single ones "
            "(fields: {user_id: path}), or set policy_namespaces: true",
        )
    return SourceMapping(
        name=name,
        fields={key: _paths(value, f"fields.{key}", refuse) for key, value in fields.items()},
        **bags,
        defaults={
            key: _text(value, f"defaults.{key}", refuse)
            for key, value in _mapping(top.get("defaults"), "defaults", refuse, set(FIELDS)).items()
        },
        values={
            key: _renames(value, f"values.{key}", refuse)
            for key, value in _mapping(top.get("values"), "values", refuse, set(FIELDS)).items()
        },
        explode=None if top.get("explode") is None else _path(top["explode"], "explode", refuse),
        rules=rules,
        ignored=_names(top.get("ignore"), "ignore", refuse),
        is_utc=_truth(top.get("utc", False), "utc", refuse),
        description=_text(top.get("description", ""), "description", refuse),
    )


def _rules(value: Any, refuse: Refuse) -> tuple[Rule, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise refuse("when", "must be a list of rules (`- match: {path: value}` and what holds then)")
    return tuple(_rule(body, f"when.{at}", refuse) for at, body in enumerate(value))


def _rule(value: Any, key: str, refuse: Refuse) -> Rule:
    body = _mapping(value, key, refuse, _RULE_KEYS)
    wanted = _mapping(body.get("match"), f"{key}.match", refuse)
    if not wanted:
        raise refuse(f"{key}.match", "is missing; say which value a field must have, such as {type: alias}")
    same = body.get("unless_same")
    if same is not None and not (isinstance(same, list) and len(same) == 2):
        raise refuse(f"{key}.unless_same", "must be a list of two paths")
    bags = {name: _bag(body.get(name), f"{key}.{name}", refuse) for name in BAGS}
    constants = {
        name: _text(text, f"{key}.set.{name}", refuse)
        for name, text in _mapping(body.get("set"), f"{key}.set", refuse, set(FIELDS)).items()
    }
    if not constants and not any(bag.paths for bag in bags.values()):
        raise refuse(key, f"changes nothing; give it one of {', '.join((*BAGS, 'set'))}")
    return Rule(
        match=tuple(
            (_path(path, f"{key}.match", refuse), _wanted(values, f"{key}.match.{path}", refuse))
            for path, values in wanted.items()
        ),
        unless_same=None if same is None else tuple(_path(p, f"{key}.unless_same", refuse) for p in same),  # type: ignore[arg-type]
        **bags,
        constants=constants,
    )


def _wanted(value: Any, key: str, refuse: Refuse) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise refuse(key, "is an empty list; name at least one value")
    return frozenset(_text(v, key, refuse).strip().lower() for v in values)


def _names(value: Any, key: str, refuse: Refuse) -> frozenset[str]:
    if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        raise refuse(key, "must be a list of names of fields")
    return frozenset(value or ())


def _truth(value: Any, key: str, refuse: Refuse) -> bool:
    if not isinstance(value, bool):
        raise refuse(key, "must be true or false")
    return value


def _bag(value: Any, key: str, refuse: Refuse) -> Bag:
    if value is None:
        return Bag()
    if not isinstance(value, Mapping):
        return Bag(objects=_paths(value, key, refuse))
    body = _mapping(value, key, refuse, _BAG_KEYS)
    fields = _mapping(body.get("fields"), f"{key}.fields", refuse)
    takes_namespaces = body.get("policy_namespaces", False)
    if not isinstance(takes_namespaces, bool) or (takes_namespaces and key != "identifiers"):
        raise refuse(f"{key}.policy_namespaces", "must be true or false, and only identifiers may have it")
    return Bag(
        objects=_paths(body["objects"], f"{key}.objects", refuse) if body.get("objects") else (),
        fields=tuple((name, _paths(paths, f"{key}.fields.{name}", refuse)) for name, paths in fields.items()),
        policy_namespaces=takes_namespaces,
    )


def _mapping(value: Any, key: str, refuse: Refuse, known: set[str] | None = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(key, "must be a mapping (`name: value` lines)")
    named = {str(k): v for k, v in value.items()}
    if known is not None and (unknown := sorted(set(named) - known)):
        raise refuse(f"{key}.{unknown[0]}", f"is not known here; known are {', '.join(sorted(known))}")
    return named


def _paths(value: Any, key: str, refuse: Refuse) -> tuple[Keys, ...]:
    candidates = value if isinstance(value, list) else [value]
    if not candidates:
        raise refuse(key, "is an empty list; name at least one path or leave the key out")
    return tuple(_path(c, key, refuse) for c in candidates)


def _path(value: Any, key: str, refuse: Refuse) -> Keys:
    if isinstance(value, bool):
        raise refuse(
            key, "must be a path; YAML reads yes, no, on and off as true or false, so put it in quotes"
        )
    parts = re.split(r"(?<!\\)\.", value) if isinstance(value, str) else []
    if not all(parts) or not parts or parts == ["$"]:
        raise refuse(key, "must be a path such as name or outer.inner, or a list of such paths")
    return tuple(int(p) if p.isdecimal() and i else p.replace("\\.", ".") for i, p in enumerate(parts))


def _text(value: Any, key: str, refuse: Refuse) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse(key, "must be a text; put it in quotes")
    return str(value)


def _renames(value: Any, key: str, refuse: Refuse) -> dict[str, str]:
    return {
        old.strip().lower(): _text(new, f"{key}.{old}", refuse)
        for old, new in _mapping(value, key, refuse).items()
    }
