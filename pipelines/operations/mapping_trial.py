"""Tries a source mapping on a file, without a lake and without Spark. It shows values, as the user asks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from conf.policy import Policy
from conf.source_mapping import BAGS, SourceMapping
from transforms.ingest.deduplication import CONFLICT, Keyed, judge_duplicates
from transforms.ingest.framing.frames import Frame, frame
from transforms.ingest.mapping.extract import Extractor
from transforms.ingest.mapping.folder_columns import innermost
from transforms.ingest.mapping.payload import PayloadReader
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records
from transforms.ingest.values.json_text import loads
from transforms.ingest.values.normalize import UNKNOWN, WRONG_TYPE, Normalizer

IGNORED = "ignored_namespace"
SHOWN = (
    "tenant", "event_id", "event_type", "event_name", "event_at", "received_at", "platform",
    "touch_source", "touch_medium", "touch_campaign", "touch_referrer",
)  # fmt: skip
_AT_ONCE = 500
_KEY = bytes(32)  # node ids are made and not shown, so any key will do


@dataclass
class Trial:
    """The events of a file in their order, and what they come to. `events` has those that were asked for."""

    mapping: str
    events: list[dict[str, Any]] = field(default_factory=list)
    record_count: int = 0
    event_count: int = 0
    valid_count: int = 0
    duplicate_count: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    quarantined_count: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    identifiers: dict[str, dict[str, Any]] = field(default_factory=dict)
    event_types: Counter[str] = field(default_factory=Counter)
    platforms: Counter[str] = field(default_factory=Counter)
    unnamed_fields: Counter[str] = field(default_factory=Counter)
    envelope_fields: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """The counts, as JSON can carry them."""
        counters = ("quarantined", "flags", "event_types", "platforms", "unnamed_fields", "envelope_fields")
        return {
            "mapping": self.mapping,
            "record_count": self.record_count,
            "received_count": self.event_count,
            "valid_count": self.valid_count,
            "quarantined_count": self.quarantined_count,
            "duplicate_count": self.duplicate_count,
            "identifiers": self.identifiers,
            **{name: dict(sorted(getattr(self, name).items())) for name in counters},
        }


def try_mapping(
    file: Path, mapping: SourceMapping, policy: Policy, limit: int, max_record_bytes: int
) -> Trial:
    """What `mapping` makes of every record of `file`; the first `limit` events are described one by one."""
    trial = Trial(mapping.name)
    parser = RecordParser({mapping.name: mapping}, policy, _KEY, max_record_bytes)
    reader = _Reader(mapping, policy, max_record_bytes)
    keys, refused = [], []
    values: dict[str, set[str]] = defaultdict(set)
    events_with: Counter[str] = Counter()
    names: dict[int, tuple[str, str]] = {}
    origin = innermost(file.resolve().as_posix())
    for group in _groups(frame(file.name, file.read_bytes())):
        trial.record_count += len(group)
        records = iter(group)
        for row in _rows(parser, mapping.name, origin, group):
            if row["record_position"] == 0:
                one = next(records)
                record, found = reader.read(one)
                reader.count_unnamed(record, trial)
            names |= {i["node_id"]: (i["namespace"], i["value"]) for i in row["identifiers"]}
            trial.event_count += 1
            keys.append([row[name] or 0 for name in ("event_key", "event_key_low", "content_digest")])
            refused.append(bool(row["reasons"]))
            trial.quarantined.update(row["reasons"])
            trial.flags.update(row["flags"] or ())
            if not row["reasons"]:
                trial.event_types[row["event_type"] or "(none)"] += 1
                trial.platforms[row["platform"] or "(none)"] += 1
            nodes = (*(row["node_ids"] or ()), *(row["weak_node_ids"] or ()))
            subject = [names[n] for n in nodes if names[n][0] in policy.by_name]
            for namespace, value in subject:
                values[namespace].add(value)
            events_with.update({namespace for namespace, _ in subject})
            if len(trial.events) < limit:
                left_out = reader.left_out(found[min(row["record_position"], len(found) - 1)])
                trial.events.append(_described(one, row, subject, names, left_out, policy))
    events = Keyed(*np.array(keys, np.int64).reshape(-1, 3).T)
    outcome = judge_duplicates(events, np.array(refused, bool), Keyed(*[_NO_KEYS] * 3))
    trial.valid_count, trial.duplicate_count = int(outcome.valid.sum()), int(outcome.duplicate.sum())
    trial.quarantined_count = int(outcome.quarantined.sum())
    if conflicts := int(outcome.conflicting.sum()):
        trial.quarantined[CONFLICT] = conflicts
    for at, event in enumerate(trial.events):
        event["is_duplicate"] = bool(outcome.duplicate[at])
        if outcome.conflicting[at]:
            event["reasons"].append(CONFLICT)
    trial.identifiers = {
        n.name: {
            "strength": n.strength,
            "event_count": events_with[n.name],
            "value_count": len(values[n.name]),
        }
        for n in policy.namespaces
        if n.name in values
    }
    return trial


_NO_KEYS = np.empty(0, np.int64)


class _Reader:
    """The records once more, for what parsing does not keep: values that do not count, fields that nothing takes."""

    def __init__(self, mapping: SourceMapping, policy: Policy, max_record_bytes: int) -> None:
        self._mapping, self._policy = mapping, policy
        self._payloads = PayloadReader(max_record_bytes)
        self._extractor = Extractor(mapping, policy)
        self._normalizer = Normalizer(policy)
        self._envelope = _envelope_names(mapping)

    def read(self, one: Frame) -> tuple[dict[str, Any], list[Any]]:
        """The record, and per event what the mapping finds; an unreadable record has one event, None."""
        try:
            record = self._payloads.read(one.payload_format, one.payload)
            return record, self._extractor.events(record, loads)
        except Exception:  # what parsing refuses as well, and says why
            return {}, [None]

    def count_unnamed(self, record: dict[str, Any], trial: Trial) -> None:
        elements = self._extractor.elements(record, loads)
        if elements is None:
            trial.unnamed_fields.update(self._extractor.unnamed(record))
            return
        for element in elements if isinstance(elements, list) else ():
            if isinstance(element, dict):
                trial.unnamed_fields.update(self._extractor.unnamed(element))
        trial.envelope_fields.update(record.keys() - self._envelope)

    def left_out(self, found: Any) -> list[dict[str, Any]]:
        """The subject's identifiers that do not count, each with the reason."""
        if not isinstance(found, tuple):
            return []
        identifiers = found[-len(BAGS)]
        if not isinstance(identifiers, dict):
            return [] if identifiers is None else [{"value": identifiers, "reason": WRONG_TYPE}]
        return [
            {"namespace": namespace, "value": value, "reason": reason}
            for namespace, raw in identifiers.items()
            for value in (raw if isinstance(raw, list) else [raw])
            if value is not None and (reason := self._reason(namespace, value)) is not None
        ]

    def _reason(self, namespace: str, value: Any) -> str | None:
        known = self._policy.by_name.get(namespace)
        if known is None:
            return UNKNOWN
        return IGNORED if known.strength == "ignored" else self._normalizer.usable(value, namespace)[1]


def _envelope_names(mapping: SourceMapping) -> set[str]:
    """Fields at the top of an envelope that something takes."""
    paths = [p for candidates in mapping.fields.values() for p in candidates]
    for bags in (mapping.bags, *(rule.bags for rule in mapping.rules)):
        paths += [p for bag in bags for p in bag.paths]
    taken = {str(p[1]) for p in paths if p[0] == "$"}
    return taken | mapping.ignored | ({str(mapping.explode[0])} if mapping.explode else set())


def _groups(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    while group := list(islice(frames, _AT_ONCE)):
        yield group


def _rows(parser: RecordParser, mapping: str, name: str, group: list[Frame]) -> list[dict[str, Any]]:
    n = len(group)
    places, formats, payloads = (list(column) for column in zip(*group, strict=True))
    records = Records(
        [name] * n, [mapping] * n, ["events"] * n, [name] * n, places, formats, payloads, [None] * n
    )
    rows: list[dict[str, Any]] = parser.parse(records).to_pylist()
    return rows


def _described(
    one: Frame,
    row: dict[str, Any],
    subject: list[tuple[str, str]],
    names: dict[int, tuple[str, str]],
    left_out: list[dict[str, Any]],
    policy: Policy,
) -> dict[str, Any]:
    actors = [names.get(n) for n in row["actor_node_ids"] or ()]
    anchor = names.get(row["anchor_node_id"])
    return {
        "record": one.ordinal,
        "position": row["record_position"],
        "reasons": list(row["reasons"]),
        **{name: _plain(row[name]) for name in SHOWN},
        "identifiers": [
            {"namespace": n, "value": v, "strength": policy.by_name[n].strength} for n, v in subject
        ],
        "left_out": left_out,
        "actor": [{"namespace": a[0], "value": a[1]} for a in actors if a is not None],
        "anchor": None if anchor is None else ":".join(anchor),
        "is_authenticated": bool(row["is_authenticated"]),
        "flags": list(row["flags"] or ()),
        "properties": _parsed(row["properties"]),
        "context": _parsed(row["context"]),
    }


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else value


def _parsed(text: str | None) -> Any:
    return None if text is None else loads(text)
