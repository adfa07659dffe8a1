"""What a source mapping finds in a record: the fields of one event, or of each event of an envelope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from conf.policy import Policy
from conf.source_mapping import ANY_OTHER, FIELDS, Bag, Keys, Rule, SourceMapping
from transforms.folder_columns import columns_of
from transforms.instants import instant
from transforms.normalize import Normalizer
from transforms.payload import NOT_AN_OBJECT
from transforms.subject import MAX_VALUES

NO_EVENTS = "no_events"
TOO_MANY_EVENTS = "too_many_events"
ENVELOPE_TOO_LARGE = "envelope_too_large"
MAX_EVENTS = 10_000  # of one record; an envelope of 16 MiB could hold five million empty ones

_TIMES = FIELDS.index("timestamp"), FIELDS.index("received_at")
_TENANT = FIELDS.index("tenant")
Found = tuple[Any, ...]  # the values of FIELDS, then of BAGS: identifiers, actor, properties, context
Loads = Callable[[str], Any]


class Time(NamedTuple):
    """A time that is read already, as `instant` reads it. `is_later_choice`: a path before had one that is no time."""

    micros: int
    note: str | None
    is_later_choice: bool


class Extractor:
    """A mapping made ready for one policy; `events(record)` has one tuple per event of the record, or in its
    place the reason why there is none."""

    def __init__(self, mapping: SourceMapping, policy: Policy) -> None:
        self._mapping = mapping
        self._paths = [mapping.fields.get(name, ()) for name in FIELDS]
        # A top-level name, for the fields that have but one: no walk is needed there.
        self._simple = [
            str(p[0][0]) if len(p) == 1 and len(p[0]) == 1 and p[0][0] != "$" else None for p in self._paths
        ]
        identifiers = mapping.identifiers
        if identifiers.policy_namespaces:
            named = {name for name, _ in identifiers.fields}
            taken = {str(p[0]) for paths in mapping.fields.values() for p in paths}
            taken |= {str(p[0]) for bag in mapping.bags for p in bag.objects}
            further = tuple(
                (n.name, ((n.name,),))
                for n in policy.namespaces
                if n.name not in named and n.name not in taken
            )
            identifiers = Bag(identifiers.objects, identifiers.fields + further)
        self._bags = (identifiers, mapping.actor, mapping.properties, mapping.context)
        self._known = mapping.top_level | {str(p[0]) for p in identifiers.paths if len(p) == 1}
        outer = {str(p[1]) for p in _all_paths(mapping) if p[0] == "$" and len(p) > 1}
        # What a folder's name may tell: fields of the record, which of an envelope are those around its events.
        self.folder_columns = frozenset(outer if mapping.explode is not None else outer | self._known)
        self._has_renames = bool(mapping.defaults or mapping.values)
        self._renames = [mapping.values.get(name, {}) for name in FIELDS]
        self._several = [(at, paths) for at, paths in enumerate(self._paths) if len(paths) > 1]
        self._normalizer, self._namespaces = Normalizer(policy), policy.by_name
        self._nested = _nested(mapping.identifiers, mapping.actor)
        self._nested_of = {id(r): _nested(r.identifiers, r.actor) for r in mapping.rules}
        self.is_utc = mapping.is_utc
        self.plain_names = self._plain_names()

    def _plain_names(self) -> tuple[str, ...] | None:
        """The top-level fields of a mapping that does nothing but pick them, as the native one does: `PlainEvents`
        reads most of its records."""
        bags = [
            b.objects[0][0] if not b.fields and len(b.objects) == 1 == len(b.objects[0]) else None
            for b in self._bags
        ]
        names = [name for name in (*self._simple, *bags) if isinstance(name, str) and name != "$"]
        is_plain = (
            len(names) == len(FIELDS) + len(bags)
            and not self._has_renames
            and not self._mapping.rules
            and self._mapping.explode is None
        )
        return tuple(names) if is_plain else None

    def in_folder(self, record: dict[str, Any], origin: str) -> dict[str, Any]:
        """The record with the columns that the names of its file's folders have and it has not."""
        if not (named := self.folder_columns_in(origin)):
            return record
        missing = {column: value for column, value in named.items() if record.get(column) is None}
        return {**record, **missing}

    def folder_columns_in(self, origin: str) -> dict[str, str]:
        """The columns in the names of a file's folders that the mapping takes something from."""
        return {c: value for c, value in columns_of(origin).items() if c in self.folder_columns}

    def unnamed(self, record: dict[str, Any]) -> set[str]:
        """The fields at the top of a record that no path takes: its free properties."""
        return record.keys() - self._known

    def events(self, record: dict[str, Any], loads: Loads) -> list[Found | str]:
        """One tuple per event. `loads` reads objects that come as JSON text, as they do in columns."""
        elements = self.elements(record, loads)
        if isinstance(elements, str):
            return [elements]
        if elements is None:
            return [self._event(record, record, loads)]
        return [self._event(e, record, loads) if isinstance(e, dict) else NOT_AN_OBJECT for e in elements]

    def around(self, record: dict[str, Any]) -> dict[str, Any]:
        """An envelope without its events: what each of them may take something from."""
        return record if self._mapping.explode is None else _without(record, self._mapping.explode)

    def elements(self, record: dict[str, Any], loads: Loads) -> list[Any] | str | None:
        """The list that the mapping explodes; None for a record that is one event itself, and the reason for one
        that should have several and has none that can be read."""
        if self._mapping.explode is None:
            return None
        inner = _object(_walk(record, record, self._mapping.explode), loads)
        if inner is None:
            return None
        if not isinstance(inner, list) or not inner:
            return NO_EVENTS
        return inner if len(inner) <= MAX_EVENTS else TOO_MANY_EVENTS

    def _event(self, record: dict[str, Any], envelope: dict[str, Any], loads: Loads) -> Found:
        found = [
            record.get(name) if name is not None else _first(record, envelope, paths[:1])
            for name, paths in zip(self._simple, self._paths, strict=True)
        ]
        for at, paths in self._several:
            found[at] = self._first_usable(at, record, envelope, paths)
        if self._has_renames:
            self._rename(found)
        bags, nested = self._bags, self._nested
        if self._mapping.rules:
            for rule in self._mapping.rules:
                if _holds(rule, record, envelope):
                    bags = tuple(map(_joined, bags, rule.bags))  # type: ignore[assignment]
                    nested = nested + self._nested_of[id(rule)]
                    for name, constant in rule.constants.items():
                        found[FIELDS.index(name)] = constant
        identifiers, actor, properties, context = bags
        subject = self._identifiers(record, envelope, identifiers, loads)
        acting = self._identifiers(record, envelope, actor, loads)
        if nested:
            pruned, envelope = _pruned(record, envelope, nested)
        else:
            pruned = record
        free = _bag(pruned, envelope, properties, "properties", loads)
        if not record.keys() <= self._known:
            # Fields that nothing takes are free properties; what is there already wins.
            free = {k: v for k, v in pruned.items() if k not in self._known and v is not None} | free
        # A copy: what one event does to its context must not reach the others of its envelope.
        return (*found, subject, acting, free, dict(_bag(pruned, envelope, context, "context", loads)))

    def _first_usable(
        self, at: int, record: dict[str, Any], envelope: dict[str, Any], paths: tuple[Keys, ...]
    ) -> Any:
        """Of the values at the paths of a field the first one that says something: renamed, a text or number that is
        not blank; of a time the first one that can be read, as `Time`. Where there is none, the first that is there."""
        renames, is_time, first = self._renames[at], at in _TIMES, None
        for path in paths:
            value = _walk(record, envelope, path)
            if value is None or value == "":
                continue
            if renames and isinstance(value, str):
                value = renames.get(value.strip().lower(), renames.get(ANY_OTHER, value))
            if is_time:
                micros, note = instant(value)
                if micros is not None:
                    return Time(micros, note, first is not None)
            elif type(value) is str:
                if value and not value.isspace():
                    return value
            elif (isinstance(value, int | float | Decimal) and value is not True and value is not False) or (
                at == _TENANT  # what cannot be read there is not to become somebody else's
            ):
                return value
            first = value if first is None else first
        return first

    def _rename(self, found: list[Any]) -> None:
        for at, name in enumerate(FIELDS):
            renames = self._renames[at]
            if renames and len(self._paths[at]) == 1 and isinstance(found[at], str) and found[at]:
                found[at] = renames.get(found[at].strip().lower(), renames.get(ANY_OTHER, found[at]))
            if found[at] is None or found[at] == "":
                found[at] = self._mapping.defaults.get(name)

    def _identifiers(self, record: dict[str, Any], envelope: dict[str, Any], bag: Bag, loads: Loads) -> Any:
        """namespace → value or list of values; one that is no object is handed on as it is, to be flagged."""
        result: Any = None
        for path in bag.objects:
            value = _walk(record, envelope, path)
            if value is None:
                continue
            if type(value) is not dict:
                value = _object(value, loads)
                if not isinstance(value, dict):
                    result = value if result is None else result
                    continue
            if not value:
                continue
            result = _both(result, value) if isinstance(result, dict) else value
        for name, paths in bag.fields:
            value = record.get(name) if paths == ((name,),) else self._one(name, record, envelope, paths)
            if value is not None and value != "":
                result = _both(result, {name: value}) if isinstance(result, dict) else {name: value}
        return result

    def _one(
        self, namespace: str, record: dict[str, Any], envelope: dict[str, Any], paths: tuple[Keys, ...]
    ) -> Any:
        """The first value of an identifier that counts, with those before it, which do not and are to be flagged."""
        if len(paths) == 1 or namespace not in self._namespaces:
            return _first(record, envelope, paths)
        usable = self._normalizer.usable
        passed: list[Any] = []
        for path in paths:
            value = _walk(record, envelope, path)
            if value is None or value == "":
                continue
            if not passed and type(value) is str and usable(value, namespace)[0] is not None:
                return value
            values = value if isinstance(value, list) else [value]
            if any(usable(v, namespace)[0] is not None for v in values[:MAX_VALUES]):
                return [*passed, *values] if passed else value
            passed += values
        return passed or None


def _holds(rule: Rule, record: dict[str, Any], envelope: dict[str, Any]) -> bool:
    for path, wanted in rule.match:
        value = _walk(record, envelope, path)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, str | int) or str(value).strip().lower() not in wanted:
            return False
    if rule.unless_same is None:
        return True
    left, right = (_walk(record, envelope, path) for path in rule.unless_same)
    return left is None or left != right


def _joined(bag: Bag, more: Bag) -> Bag:
    return Bag(bag.objects + more.objects, bag.fields + more.fields) if more.paths else bag


def _nested(*bags: Bag) -> tuple[Keys, ...]:
    """Paths of identifiers that are inside of something; those at the top are in nothing else."""
    paths = (p for bag in bags for p in bag.paths)
    return tuple(p for p in paths if len(p) > (2 if p[0] == "$" else 1))


def _pruned(
    record: dict[str, Any], envelope: dict[str, Any], paths: tuple[Keys, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record and envelope without what is at `paths`; only what has to change is copied."""
    if record is envelope:
        for path in paths:
            record = _without(record, path[1:] if path[0] == "$" else path)
        return record, record
    for path in paths:
        if path[0] == "$":
            envelope = _without(envelope, path[1:])
        else:
            record = _without(record, path)
    return record, envelope


def _without(value: Any, path: Keys) -> Any:
    key, rest = path[0], path[1:]
    if isinstance(value, list):
        if not isinstance(key, int) or key >= len(value):
            return value
        inner = _without(value[key], rest) if rest else None
        return value if inner is value[key] else [*value[:key], inner, *value[key + 1 :]]
    if not isinstance(value, dict) or str(key) not in value:
        return value
    if not rest:
        return {k: v for k, v in value.items() if k != str(key)}
    inner = _without(value[str(key)], rest)
    return value if inner is value[str(key)] else {**value, str(key): inner}


def _first(record: dict[str, Any], envelope: dict[str, Any], paths: tuple[Keys, ...]) -> Any:
    """The first value that is there; an empty text is not."""
    for path in paths:
        value = _walk(record, envelope, path)
        if value is not None and value != "":
            return value
    return None


def _walk(record: dict[str, Any], envelope: dict[str, Any], path: Keys) -> Any:
    value: Any = record
    for key in path:
        if isinstance(value, dict):
            value = envelope if key == "$" and value is record else value.get(str(key))
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key] if key < len(value) else None
        else:
            return None
    return value


def _object(value: Any, loads: Loads) -> Any:
    """An object, if need be from its JSON text; anything else as it is."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("{", "["):
            try:
                return loads(text)
            except (ValueError, RecursionError):
                return value
        return None if text in ("", "null") else value
    return value


def _both(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Two objects of identifiers as one: a namespace of both has the values of both."""
    merged = dict(left)
    for name, value in right.items():
        if name in merged:
            old = merged[name]
            merged[name] = [
                *(old if isinstance(old, list) else [old]),
                *(value if isinstance(value, list) else [value]),
            ]
        else:
            merged[name] = value
    return merged


def _bag(
    record: dict[str, Any], envelope: dict[str, Any], bag: Bag, name: str, loads: Loads
) -> dict[str, Any]:
    """The objects as one, first come first served, and the single fields. A value that is no object keeps
    its name."""
    result: dict[str, Any] | None = None
    for path in bag.objects:
        value = _walk(record, envelope, path)
        if value is None:
            continue
        if type(value) is not dict:
            value = _object(value, loads)
            if value is None:
                continue
            if not isinstance(value, dict):
                value = {name: value}
        result = value if result is None else value | result
    if bag.fields:
        result = {} if result is None else dict(result)
        for target, paths in bag.fields:
            found = _first(record, envelope, paths)
            if found is not None:
                _put(result, target.split("."), found)
    return {} if result is None else result


def _put(target: dict[str, Any], names: list[str], value: Any) -> None:
    """Set an inner field, without touching objects of the record that it goes through."""
    for name in names[:-1]:
        inner = target.get(name)
        target[name] = inner = dict(inner) if isinstance(inner, dict) else {}
        target = inner
    target.setdefault(names[-1], value)


def _all_paths(mapping: SourceMapping) -> Iterator[Keys]:
    for paths in mapping.fields.values():
        yield from paths
    for bag in (*mapping.bags, *(bag for rule in mapping.rules for bag in rule.bags)):
        yield from bag.paths
    for rule in mapping.rules:
        yield from (path for path, _ in rule.match)
