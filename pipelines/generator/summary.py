"""The counts of one generated world."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipelines.generator.arrival import RecordCounts
from pipelines.generator.truth import World
from pipelines.generator.world import GROUPS, PLATFORMS


@dataclass(frozen=True)
class GeneratorSummary:
    """What was generated: counts of records, events, persons, sessions and files."""

    records: int
    valid_events: int
    duplicates: int
    malformed: int
    late_events: int
    files: int
    persons: int
    persons_by_group: dict[str, int]
    persons_with_several_devices: int
    sessions: int
    anonymous_events: int
    anonymous_share: float
    events_by_platform: dict[str, int]


def summarize(world: World, counts: RecordCounts, late: int, files: int) -> GeneratorSummary:
    """Count a generated world."""
    events = world.events
    groups = Counter(world.population.groups)
    per_platform = np.bincount(events.platform, minlength=len(PLATFORMS)).tolist()
    anonymous = int((~events.has_user).sum())
    return GeneratorSummary(
        records=counts.valid + counts.duplicate + counts.malformed,
        valid_events=counts.valid,
        duplicates=counts.duplicate,
        malformed=counts.malformed,
        late_events=late,
        files=files,
        persons=len(world.population.groups),
        persons_by_group={group: groups[group] for group in GROUPS},
        persons_with_several_devices=_persons_with_several_devices(world),
        sessions=len(world.sessions.anchor),
        anonymous_events=anonymous,
        anonymous_share=round(anonymous / counts.valid, 4),
        events_by_platform=dict(zip(PLATFORMS, per_platform, strict=True)),
    )


def _persons_with_several_devices(world: World) -> int:
    pairs = set(zip(world.sessions.person.tolist(), world.sessions.anchor.tolist(), strict=True))
    devices = Counter(person for person, anchor in pairs if world.anchors.is_device(anchor))
    return sum(count > 1 for count in devices.values())
