"""What a source mapping finds in a record: the fields of one event, or of each event of an envelope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from conf.policy import Policy
from conf.source_mapping import ANY_OTHER, FIELDS, Bag, Keys, SourceMapping
from transforms.ingest.mapping.event_paths import BagPaths, EventPaths
from transforms.ingest.mapping.folder_columns import columns_of
from transforms.ingest.mapping.paths import Walk, pruned, walk, without
from transforms.ingest.mapping.payload import NOT_AN_OBJECT
from transforms.ingest.subject import MAX_VALUES
from transforms.ingest.values.instants import instant
from transforms.ingest.values.normalize import Normalizer

NO_EVENTS = "no_events"
TOO_MANY_EVENTS = "too_many_events"
ENVELOPE_TOO_LARGE = "envelope_too_large"
MAX_EVENTS = 10_000  # of one record; an envelope of 16 MiB could hold five million empty ones

_TIMES = FIELDS.index("timestamp"), FIELDS.index("received_at")
_TENANT = FIELDS.index("tenant")
Found = tuple[Any, ...]  # the values of FIELDS, then of BAGS: identifiers, actor, properties, context
Loads = Callable[[str], Any]


# A time of several paths, read already as `instant` reads it, and whether a path before had one that is no time. A bare
# tuple, which no JSON value is, for one is made for nearly every event.
Time = tuple[int, str | None, bool]


class Extractor:
    """A mapping made ready for one policy; `events(record)` has one tuple per event of the record, or in its
    place the reason why there is none."""

    def __init__(self, mapping: SourceMapping, policy: Policy) -> None:
        self._mapping = mapping
        self._paths = [mapping.fields.get(name, ()) for name in FIELDS]
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
        self._renames = [mapping.values.get(name, {}) for name in FIELDS]
        self._renamed = [
            (at, renames) for at, renames in enumerate(self._renames) if renames and len(self._paths[at]) == 1
        ]
        self._defaults = [
            (at, mapping.defaults[name]) for at, name in enumerate(FIELDS) if name in mapping.defaults
        ]
        self._has_renames = bool(mapping.defaults or mapping.values)
        self._alone, self._inside = (EventPaths(mapping, identifiers, is_alone) for is_alone in (True, False))
        self._last_folder: tuple[str, dict[str, str]] = "", {}
        self._normalizer, self._namespaces = Normalizer(policy), policy.by_name
        self.is_utc = mapping.is_utc
        self.plain_names = self._plain_names()

    def _plain_names(self) -> tuple[str, ...] | None:
        """The top-level fields of a mapping that does nothing but pick them, as the native one does: `PlainEvents`
        reads most of its records."""
        bags = [
            b.objects[0][0] if not b.fields and len(b.objects) == 1 == len(b.objects[0]) else None
            for b in self._bags
        ]
        names = [name for name in (*self._alone.simple, *bags) if isinstance(name, str) and name != "$"]
        is_plain = (
            len(names) == len(FIELDS) + len(bags)
            and not self._has_renames
            and not self._mapping.rules
            and self._mapping.explode is None
        )
        return tuple(names) if is_plain else None

    def in_folder(self, record: dict[str, Any], origin: str) -> dict[str, Any]:
        """The record with the columns that the names of its file's folders have and it has not."""
        known, named = self._last_folder
        if origin != known:  # a file has many records
            named = self.folder_columns_in(origin)
            self._last_folder = origin, named
        if not named:
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
        return self.events_in(record, self.elements(record, loads), loads)

    def events_in(
        self, record: dict[str, Any], elements: list[Any] | str | None, loads: Loads
    ) -> list[Found | str]:
        """The same where `elements` have been found already."""
        if elements is None:
            return [self._event(record, record, loads)]
        if isinstance(elements, str):
            return [elements]
        return [self._event(e, record, loads) if isinstance(e, dict) else NOT_AN_OBJECT for e in elements]

    def around(self, record: dict[str, Any]) -> dict[str, Any]:
        """An envelope without its events: what each of them may take something from."""
        return record if self._mapping.explode is None else without(record, self._mapping.explode)

    def elements(self, record: dict[str, Any], loads: Loads) -> list[Any] | str | None:
        """The list that the mapping explodes; None for a record that is one event itself, and the reason for one
        that should have several and has none that can be read."""
        if self._mapping.explode is None:
            return None
        inner = _object(walk(record, record, self._mapping.explode), loads)
        if inner is None:
            return None
        if not isinstance(inner, list) or not inner:
            return NO_EVENTS
        return inner if len(inner) <= MAX_EVENTS else TOO_MANY_EVENTS

    def _event(self, record: dict[str, Any], envelope: dict[str, Any], loads: Loads) -> Found:
        paths = self._alone if record is envelope else self._inside
        found = [None if name is None else record.get(name) for name in paths.simple]
        for at, walk_to in paths.deep:
            found[at] = walk_to(record, envelope)
        for at, walks in paths.several:
            found[at] = self._first_usable(at, record, envelope, walks)
        if self._has_renames:
            self._rename(found)
        taken = paths.taken(record, envelope)
        for at, constant in taken.constants:
            found[at] = constant
        subject = self._identifiers(record, envelope, taken.identifiers, loads)
        acting = self._identifiers(record, envelope, taken.actor, loads)
        rest = pruned(record, taken.nested) if taken.nested else record
        around = pruned(envelope, taken.nested_outside) if record is not envelope else rest
        free = _bag(rest, around, taken.properties, "properties", loads)
        if not record.keys() <= self._known:
            # Fields that nothing takes are free properties; what is there already wins.
            free = {k: v for k, v in rest.items() if k not in self._known and v is not None} | free
        # A copy: what one event does to its context must not reach the others of its envelope.
        return (*found, subject, acting, free, dict(_bag(rest, around, taken.context, "context", loads)))

    def _first_usable(
        self, at: int, record: dict[str, Any], envelope: dict[str, Any], walks: tuple[Walk, ...]
    ) -> Any:
        """Of the values at the paths of a field the first one that says something: renamed, a text or number that is
        not blank; of a time the first one that can be read, a `Time`. Where there is none, the first that is there."""
        renames, is_time, first = self._renames[at], at in _TIMES, None
        for walk_to in walks:
            value = walk_to(record, envelope)
            if value is None or value == "":
                continue
            if renames and isinstance(value, str):
                value = renames.get(value.strip().lower(), renames.get(ANY_OTHER, value))
            if is_time:
                micros, note = instant(value)
                if micros is not None:
                    return micros, note, first is not None
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
        for at, renames in self._renamed:
            value = found[at]
            if isinstance(value, str) and value:
                found[at] = renames.get(value.strip().lower(), renames.get(ANY_OTHER, value))
        while "" in found:
            found[found.index("")] = None
        for at, default in self._defaults:
            if found[at] is None:
                found[at] = default

    def _identifiers(
        self, record: dict[str, Any], envelope: dict[str, Any], bag: BagPaths, loads: Loads
    ) -> Any:
        """namespace → value or list of values; one that is no object is handed on as it is, to be flagged."""
        result: Any = None
        for walk_to in bag.objects:
            value = walk_to(record, envelope)
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
        is_copy = False
        for name, key, walks in bag.fields:
            value = record.get(key) if key is not None else self._one(name, record, envelope, walks)
            if value is None or value == "":
                continue
            if type(result) is not dict:
                result, is_copy = {name: value}, True
            elif name in result:
                result, is_copy = _both(result, {name: value}), True
            else:
                if not is_copy:
                    result, is_copy = dict(result), True
                result[name] = value
        return result

    def _one(
        self, namespace: str, record: dict[str, Any], envelope: dict[str, Any], walks: tuple[Walk, ...]
    ) -> Any:
        """The first value of an identifier that counts, with those before it, which do not and are to be flagged."""
        if len(walks) == 1:
            return walks[0](record, envelope)
        if namespace not in self._namespaces:
            return _first(record, envelope, walks)
        usable = self._normalizer.usable
        passed: list[Any] = []
        for walk_to in walks:
            value = walk_to(record, envelope)
            if value is None or value == "":
                continue
            if not passed and type(value) is str and usable(value, namespace)[0] is not None:
                return value
            values = value if isinstance(value, list) else [value]
            if any(usable(v, namespace)[0] is not None for v in values[:MAX_VALUES]):
                return [*passed, *values] if passed else value
            passed += values
        return passed or None


def _first(record: dict[str, Any], envelope: dict[str, Any], walks: tuple[Walk, ...]) -> Any:
    """The first value that is there; an empty text is not."""
    for walk_to in walks:
        value = walk_to(record, envelope)
        if value is not None and value != "":
            return value
    return None


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
    record: dict[str, Any], envelope: dict[str, Any], bag: BagPaths, name: str, loads: Loads
) -> dict[str, Any]:
    """The objects as one, first come first served, and the single fields. A value that is no object keeps
    its name."""
    result: dict[str, Any] | None = None
    for walk_to in bag.objects:
        value = walk_to(record, envelope)
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
        for target, _, walks in bag.fields:
            found = _first(record, envelope, walks)
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
