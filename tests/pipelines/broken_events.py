"""Events that are broken in ways that a later fix repairs, and lakes that meet them before and after the fix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from conf.settings import Settings
from conf.source_mapping import load_mapping
from conf.tables import BATCHES, QUARANTINE
from pipelines.lake.snapshot import published
from pipelines.operations.quarantine.corrections import Corrections
from pipelines.operations.quarantine.replay import Replayed, replay
from pipelines.operations.quarantine.selection import Selection
from pipelines.operations.requests.holder import holding
from tests.direct_lake import KEY, DirectLake
from tests.pipelines.lake_rows import make_lake
from transforms.compare.reconciliation import COMPARED, compare_states
from transforms.ingest.parse import RecordParser

# The mapping before and after its correction: times and users have another name in some records, and before it
# `explodes` nothing of an envelope is read.
BEFORE = (
    "fields: {event_id: id, timestamp: at, event_type: type}\n"
    "identifiers: {fields: {user_id: user, cookie_id: cookie}}\n"
)
AFTER = (
    "fields: {event_id: id, timestamp: [at, ts], event_type: type}\n"
    "identifiers: {fields: {user_id: [user, uid], cookie_id: [cookie, kid]}}\n"
)
EXPLODES = "explode: events\n"
SMALL, LARGE = 700, 16 * 2**20  # max_record_bytes before and after

REPAIRED = ("time", "identifier", "large")  # by mapping and limit
STYLES = ("good", "good", "good", *REPAIRED, "half", "hopeless")


@dataclass(frozen=True)
class Event:
    """What happened, and in which shape it is told."""

    id: str | None
    minute: int
    kind: str
    user: str | None
    cookie: str
    style: str

    def told(self) -> dict[str, Any]:
        if self.style == "hopeless":
            return {"note": self.cookie}
        day, minute = divmod(self.minute, 1440)
        at = f"2026-03-{day + 1:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z"
        found: dict[str, Any] = {"id": self.id, "type": self.kind}
        found["ts" if self.style in ("time", "half") else "at"] = at
        if self.style == "half":  # its time is found after the correction, and still nobody
            return found
        user, cookie = ("uid", "kid") if self.style == "identifier" else ("user", "cookie")
        found |= {user: self.user, cookie: self.cookie}
        return {k: v for k, v in found.items() if v is not None}


@dataclass(frozen=True)
class Record:
    """One record: an event, or an envelope of several. `is_cut`: it arrives without its end."""

    events: tuple[Event, ...]
    is_cut: bool

    @property
    def whole(self) -> bytes:
        told = [e.told() for e in self.events]
        text = orjson.dumps(told[0] if len(told) == 1 else {"events": told})
        is_large = any(e.style == "large" for e in self.events)
        return text[:1] + b" " * SMALL * is_large + text[1:]

    @property
    def arrived(self) -> bytes:
        return self.whole[:-2] if self.is_cut else self.whole


@st.composite
def records(draw: st.DrawFn) -> list[list[Record]]:
    """Files of records. An id that comes again is the same event, in this shape or another."""
    known: list[Event] = []

    def event() -> Event:
        if known and draw(st.integers(0, 4)) == 0:
            return replace(draw(st.sampled_from(known)), style=draw(st.sampled_from(STYLES)))
        number = len(known)
        made = Event(
            id=f"e{number}" if draw(st.integers(0, 3)) else None,
            minute=draw(st.integers(0, 300)) * 7,
            kind=draw(st.sampled_from(["page_view", "page_view", "login", "logout"])),
            user=draw(st.sampled_from([None, None, "u1", "u2", "u3"])),
            cookie=draw(st.sampled_from(["c1", "c2", "c3", "c4"])),
            style=draw(st.sampled_from(STYLES)),
        )
        if made.id:
            known.append(made)
        return made

    def record() -> Record:
        count = draw(st.sampled_from([1, 1, 1, 2, 4]))
        return Record(tuple(event() for _ in range(count)), draw(st.integers(0, 5)) == 0)

    return [[record() for _ in range(draw(st.integers(1, 6)))] for _ in range(draw(st.integers(1, 4)))]


class Lakes:
    """A mapping file, and the lakes that are fed by it as it then is."""

    def __init__(self, folder: Path, explodes_before: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.mapping = folder / "shop.yaml"
        self.limit = SMALL
        self.mapping.write_text(BEFORE + (EXPLODES if explodes_before else ""))

    def fix(self) -> None:
        """The mapping is corrected and the limit is raised."""
        self.mapping.write_text(AFTER + EXPLODES)
        self.limit = LARGE

    def lake(self, name: str) -> DirectLake:
        make_lake(self.folder / name)
        return DirectLake(self.folder / name)

    def feed(self, world: DirectLake, name: str, lines: list[bytes]) -> None:
        mapping = str(self.mapping)
        world.parser = RecordParser({mapping: load_mapping(mapping)}, world.policy, KEY, self.limit)
        world.feed(b"\n".join(lines) + b"\n", mapping=mapping, name=name)

    def replay(self, world: DirectLake, *args: Any, **options: Any) -> Replayed:
        """By a process of its own, which the world's then learns of."""
        settings: Settings = replace(world.settings, max_record_bytes=self.limit)
        with holding(world.path, world.policy, settings) as holder:
            report = replay(holder, *(args or (Selection(),)), **options)
        world.processor.last.refresh()
        return report

    def corrections(self, files: dict[str, list[Record]]) -> Corrections:
        """The ends of what was cut off."""
        source = f"{self.mapping}:test"
        return Corrections(
            "somebody",
            {
                (source, name, ordinal): record.whole
                for name, lines in files.items()
                for ordinal, record in enumerate(lines)
                if record.is_cut
            },
        )


def totals(world: DirectLake) -> dict[str, int]:
    names = ("received_count", "valid_count", "quarantined_count", "duplicate_count")
    snapshot = published(world.lake)
    assert snapshot is not None
    batches = snapshot.arrow(BATCHES).to_pylist()
    for b in batches:
        assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"], b
    found = {name: sum(b[name] for b in batches) for name in names}
    assert found["quarantined_count"] == snapshot.arrow(QUARANTINE).num_rows
    return found


def assert_same(left: DirectLake, right: DirectLake) -> None:
    """The same content in every table, and the same counts."""
    sides = [published(world.lake) for world in (left, right)]
    states = [{spec: side.arrow(spec) for spec in COMPARED} for side in sides if side is not None]
    different = [d for d in compare_states(*states) if not d.is_equal]
    assert not different, different
    assert totals(left) == totals(right)
