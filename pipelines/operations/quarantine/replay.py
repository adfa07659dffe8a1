"""Replay: reads refused events again with today's mappings and settings, and publishes those that are acceptable now.

selected events ─▶ portions ─▶ read again ─▶ [attempt on record ─▶ one batch ─▶ published] ─▶ compaction
                               changes nothing       can be taken back until ────┘
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.source_mapping import MappingError, load_mapping
from pipelines.lake.hashing_key import fingerprint
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.engines import make_writer
from pipelines.operations.attempt import begin, forget
from pipelines.operations.quarantine.batch import replay_of
from pipelines.operations.quarantine.corrections import RECORD, Corrections, Place, corrections_of
from pipelines.operations.quarantine.reread import NO_CORRECTIONS, Outcome, Reread, is_whole, read_again
from pipelines.operations.quarantine.selection import Selection, portions, selected, with_payloads
from pipelines.operations.requests.holder import Holder
from pipelines.operations.requests.requests import Answer, RequestFailed
from pipelines.state.lake_state import EVENT_KEYS, LakeState
from pipelines.stream.batch.judged import judge
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.checkpoint import DIRECT
from transforms.identity.components import driver_components
from transforms.ingest.control import CONTROL
from transforms.ingest.parse import RecordParser

MOST_EVENTS = 20_000  # of one batch
MOST_BYTES = 64 * 2**20
DECISION = "a decision that was refused is taken anew, not replayed"

Progress = Callable[[str], None]


class ReplayRefused(RequestFailed):
    """The replay cannot be done as it is asked for; the message says what to do."""


@dataclass(frozen=True)
class Replayed:
    """A replay's report. `batch_ids`: what it has published; nothing where nothing changes, and in a dry run."""

    selected_count: int
    outcome: Outcome
    batch_ids: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The counts of the replay as JSON can carry them."""
        return {
            "selected_count": self.selected_count,
            "valid_count": self.outcome.valid_count,
            "duplicate_count": self.outcome.duplicate_count,
            "quarantined_count": self.outcome.quarantined_count + self.outcome.left.total(),
            "reasons": dict(self.outcome.still.most_common()),
            "left_alone": dict(self.outcome.left.most_common()),
            "batch_ids": self.batch_ids,
        }


def replay_request(
    holder: Holder, arguments: Mapping[str, Any], progress: Progress = lambda text: None
) -> Answer:
    """The request `replay`: {"selection": …, "max_record_bytes": …, "corrections": …} → the report. The limit is the
    asker's: a running stream still has the one that it was started with."""
    holder = replace(
        holder, settings=replace(holder.settings, max_record_bytes=arguments["max_record_bytes"])
    )
    given = arguments.get("corrections")
    return replay(
        holder,
        Selection.from_json(arguments["selection"]),
        NO_CORRECTIONS if given is None else Corrections.from_json(given),
        progress=progress,
    ).as_json()


def replay(
    holder: Holder,
    selection: Selection,
    corrections: Corrections = NO_CORRECTIONS,
    *,
    is_dry: bool = False,
    progress: Progress = lambda text: None,
) -> Replayed:
    """Read the selected events again and publish what has changed; with `is_dry` only say what would. With corrections
    only the records that are corrected.

    Killed at any moment, the portions that are published stay and the next holder of the lock takes back the rest; the
    same replay again does what is left.
    """
    events = selected(holder.snapshot, selection)
    if corrections.payloads:
        events = _corrected(holder.snapshot, events, corrections)
    is_decision = pc.equal(events["mapping"], CONTROL)
    total = Outcome(left=+Counter({DECISION: pc.sum(is_decision).as_py() or 0}))
    wanted = events.filter(pc.invert(is_decision))
    if not wanted.num_rows:
        return Replayed(events.num_rows, total)
    publisher = _DryRun(holder) if is_dry else _Publisher(holder)
    parser = _parser(holder, wanted)
    done = 0
    for portion in portions(wanted, MOST_EVENTS, MOST_BYTES):
        refused = with_payloads(holder.snapshot, portion)
        reread = read_again(
            holder.snapshot, refused, parser, publisher.state(), holder.settings.max_tenants, corrections
        )
        publisher.publish(reread)
        total += reread.outcome
        done += portion.num_rows
        progress(f"read {done:,} of {wanted.num_rows:,} events again")
    return Replayed(events.num_rows, total, publisher.finish())


def _corrected(snapshot: Snapshot, events: pa.Table, corrections: Corrections) -> pa.Table:
    """The events of the records to be corrected. ReplayRefused when one of those cannot be."""
    done = {
        (r["source"], r["origin"], r["origin_ordinal"]): r["payload"]
        for r in corrections_of(snapshot).to_pylist()
    }
    wanted = corrections.payloads
    places = list(zip(*(events[name].to_pylist() for name in RECORD), strict=True))
    is_wanted = pa.array([place in wanted for place in places], pa.bool_())
    found = events.filter(is_wanted)
    groups: dict[Place, list[dict[str, Any]]] = {place: [] for place in wanted}
    for row in found.to_pylist():
        groups[row["source"], row["origin"], row["origin_ordinal"]].append(row)
    for (source, origin, ordinal), group in groups.items():
        record = f"record {ordinal} of {origin}"
        if not group and done.get((source, origin, ordinal)) == wanted[source, origin, ordinal]:
            continue  # by an earlier replay
        if not group:
            raise ReplayRefused(
                f"{record} is not among the selected events in quarantine; see `quarantine list`"
            )
        if not is_whole(group):
            raise ReplayRefused(
                f"{record} is an envelope of which other events are published; send the corrected event by itself"
            )
        if group[0]["payload_format"] not in ("json", "csv"):
            raise ReplayRefused(
                f"{record} has no payload that could be corrected; land the repaired file or send the event anew"
            )
    return found


class _DryRun:
    """Keeps to itself what would be published."""

    def __init__(self, holder: Holder) -> None:
        self._state = holder.open_state(holder.snapshot)

    def state(self) -> LakeState:
        return self._state

    def publish(self, reread: Reread) -> None:
        accepted = reread.received.filter(pa.array(judge(reread.received, self._state).valid))
        self._state.tenants.encode(accepted["tenant"])
        self._state.event_keys.replace(np.empty(0, np.int64), accepted.select(EVENT_KEYS.names))

    def finish(self) -> list[int]:
        return []


class _Publisher:
    """Publishes portions as batches of one application of its own."""

    def __init__(self, holder: Holder) -> None:
        self._lake, self._policy = holder.lake, holder.policy
        self._batch_ids: list[int] = []
        self._stream = f"{DIRECT}replay-{uuid.uuid4().hex}"
        self._processor = BatchProcessor(
            StreamSetup(
                lake=holder.lake,
                writer=make_writer("delta_rs", holder.lake),
                parser=RecordParser({}, holder.policy, holder.key),  # records are read before
                policy=holder.policy,
                components=driver_components,
                settings=holder.settings,
                stream=self._stream,
                key_fingerprint=fingerprint(holder.key),
                open_state=holder.open_state,
                on_published=lambda report: self._batch_ids.append(report.batch_id),
            )
        )

    def state(self) -> LakeState:
        return self._processor.last.ready()

    def publish(self, reread: Reread) -> None:
        if not reread.received.num_rows:
            return
        snapshot = published(self._lake)
        assert snapshot is not None
        begin(snapshot, time.time_ns() // 1000, self._policy.fingerprint, self._stream)
        self._processor.process(lambda: reread.received, len(self._batch_ids), replay_of(reread))
        forget(self._lake)

    def finish(self) -> list[int]:
        if self._batch_ids:
            self._processor.compact()
        return self._batch_ids


def _parser(holder: Holder, events: pa.Table) -> RecordParser:
    """Reads the records of `events` by their mappings as they are today."""
    names = pc.unique(events["mapping"]).to_pylist()
    try:
        mappings = {name: load_mapping(name) for name in names}
    except MappingError as e:
        raise ReplayRefused(f"{e} (--mapping selects the records of one mapping)") from None
    return RecordParser(mappings, holder.policy, holder.key, holder.settings.max_record_bytes)
