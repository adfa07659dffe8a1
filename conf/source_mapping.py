"""A source mapping says where a foreign record keeps what an event needs. It is data: a YAML file that a
user edits.

    fields:       event_id, tenant, event_type, event_name, timestamp, received_at, platform → candidate paths
    identifiers   (the subject's), actor, properties, context → objects taken over whole, and single fields
    defaults, values: what stands in for an absent field; renames of its values
    explode:      path of the list whose elements are the events, when one record is an envelope of several

A path is `name`, `outer.inner`, `list.0.inner`, or `$.outer` for the envelope of an exploded record; a
list of paths means: the first that is present. A name that has a dot of its own is written as
`outer.a\\.b`. Fields at the top of the record that no path mentions go into properties.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

SOURCE_FOLDER = files("conf") / "sources"  # not a path: the package may be a zipped wheel
FIELDS = ("event_id", "tenant", "event_type", "event_name", "timestamp", "received_at", "platform")
BAGS = ("identifiers", "actor", "properties", "context")
_KEYS = {"description", "fields", *BAGS, "defaults", "values", "explode"}
_BAG_KEYS = {"objects", "fields", "policy_namespaces"}

Keys = tuple[str | int, ...]
Refuse = Callable[[str, str], "MappingError"]


class MappingError(ValueError):
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


@dataclass(frozen=True)
class SourceMapping:
    """How records of one shape become events. Paths are tuples of keys, the first present one of several
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

    @property
    def top_level(self) -> frozenset[str]:
        """The fields at the top of a record that some path mentions; all others are free properties."""
        paths = [p for candidates in self.fields.values() for p in candidates]
        for bag in (self.identifiers, self.actor, self.properties, self.context):
            paths += bag.objects
            paths += [p for _, candidates in bag.fields for p in candidates]
        return frozenset(str(p[0]) for p in paths if p[0] != "$")


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
    identifiers = bags["identifiers"]
    if not (identifiers.objects or identifiers.fields or identifiers.policy_namespaces):
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
    )


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
