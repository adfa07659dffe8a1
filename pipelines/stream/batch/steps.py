"""The steps in which a portion of a stream's batch becomes a published batch of the lake.

    Portion ─judge─▶ Judged ─record─▶ Recorded ─link─▶ Linked ─fold─▶ Folded ─write─▶ Written ─publish─▶ Published

Every step takes the value of the step before it, and what all steps share: `Batch`. Steps begin the waves of writes in
the order of the contract (contract.py); `publish` writes the row that makes the batch visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import FILES, PROFILES
from pipelines.lake.files_of_record import counts_of, file_rows
from pipelines.runtime.step_times import StepTimes
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.activity import Cut, Owned, cut_activity, own_sessions
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.derived import linked_rows, owned_rows
from pipelines.stream.batch.folding import fold_persons
from pipelines.stream.batch.in_flight import InFlight
from pipelines.stream.batch.intent import INTENT, Intent, record_intent
from pipelines.stream.batch.judged import Judged, decisions_of, judged
from pipelines.stream.batch.kind import BatchKind
from pipelines.stream.batch.last_published import LastPublished
from pipelines.stream.batch.portions import Portion
from pipelines.stream.batch.publish import PORTION, Publication, inputs_of, metrics_of, publication_row
from pipelines.stream.batch.resolution import Identified, identify
from pipelines.stream.batch.setup import BatchReport, StreamSetup
from pipelines.stream.kafka.offsets import Offsets, advanced, to_json


@dataclass(frozen=True)
class Batch:
    """What the steps of one batch share. `proposed`: its intent, unless an earlier attempt has left another one.

    `state` is as of the last published batch until `link` changes it. `began`: by `time.perf_counter`.
    """

    setup: StreamSetup
    kind: BatchKind
    last: LastPublished
    state: LakeState
    in_flight: InFlight
    proposed: Intent
    times: StepTimes
    began: float


@dataclass(frozen=True)
class Recorded:
    """The intent is on disk, and the first wave is being written by `attempt`."""

    judged: Judged
    intent: Intent
    attempt: Attempt


@dataclass(frozen=True)
class Linked:
    """What identifiers say is resolved, and the second wave is being written. `cut` waits for the sessions."""

    recorded: Recorded
    identified: Identified
    rows: dict[TableSpec, pa.Table]
    cut: Callable[[], Cut]


@dataclass(frozen=True)
class Folded:
    """Sessions have owners, the third wave is being written, and the profiles of the touched persons are folded."""

    linked: Linked
    owned: Owned
    rows: dict[TableSpec, pa.Table]
    profiles: dict[TableSpec, pa.Table]


@dataclass(frozen=True)
class Written:
    """All waves are written. `hot_row_count`: rows that a compaction has to fold into their tables."""

    folded: Folded
    hot_row_count: int


@dataclass(frozen=True)
class Published:
    """The row in ops.batches is there, and the state is settled."""

    publication: Publication
    offsets: Offsets
    report: BatchReport


def judge(portion: Portion, batch: Batch) -> Judged:
    """Look up what the events ask, and say which of them count. Writes nothing and changes nothing."""
    with batch.times("look_up"):
        batch.state.prefetch(portion.received)
    with batch.times("judge"):
        return judged(portion, batch.state, batch.setup.settings.max_tenants)


def record(judged: Judged, batch: Batch) -> Recorded:
    """Put the intent on record; begin to write records and events as they came."""
    intent, attempt = begin(batch)
    batch.state.begin()
    with batch.times("bronze"):
        landed = batch.kind.landing(judged, intent.batch_id)
        attempt.start({**landed, FILES: file_rows(judged.portion.files, intent.batch_id)})
    return Recorded(judged, intent, attempt)


def begin(batch: Batch) -> tuple[Intent, Attempt]:
    """Put the batch on record, or take up the attempt that is on record."""
    setup, last = batch.setup, batch.last
    setup.require_lock()
    intent = record_intent(setup.lake.path / INTENT, batch.proposed)
    attempt = batch.kind.begin_attempt(
        setup.lake,
        setup.writer,
        intent.txn,
        last.versions,
        batch.in_flight.pool,
        is_repeated=intent is not batch.proposed,
    )
    return intent, batch.in_flight.attempt(attempt)


def link(recorded: Recorded, batch: Batch) -> Linked:
    """Resolve the identifiers while the sessions are cut concurrently; begin to write the second wave."""
    setup, state, intent = batch.setup, batch.state, recorded.intent
    valid = recorded.judged.valid
    cut = batch.in_flight.run_concurrently(
        lambda: cut_activity(valid, state, setup.policy, intent, batch.last.events_in), state
    )
    with batch.times("identity"):
        decided = decisions_of(recorded.judged.control, intent.batch_id)
        identified = identify(
            recorded.judged.named, valid, decided, state, setup.policy, setup.components, intent
        )
        rows = linked_rows(identified, intent)
        recorded.attempt.start(rows)
    return Linked(recorded, identified, rows, cut)


def fold(linked: Linked, batch: Batch) -> Folded:
    """Give the sessions their owners and begin to write the third wave; fold the profiles of touched persons."""
    policy, state, recorded = batch.setup.policy, batch.state, linked.recorded
    intent, valid = recorded.intent, recorded.judged.valid
    with batch.times("activity"):
        owned = own_sessions(valid, linked.cut(), linked.identified, state, policy, intent)
        rows = owned_rows(linked.identified, owned, state, intent)
        recorded.attempt.start(rows)
        profiles = {PROFILES.hot: fold_persons(owned, state, policy, intent.batch_id)}
    return Folded(linked, owned, rows, profiles)


def write(folded: Folded, batch: Batch) -> Written:
    """Write the profiles; wait until every table is written. The next batches find this one's event keys."""
    recorded = folded.linked.recorded
    with batch.times("write"):
        recorded.attempt.start(folded.profiles)
        recorded.attempt.finish()
    derived = folded.linked.rows | folded.rows | folded.profiles
    batch.state.event_keys.replace(np.empty(0, np.int64), recorded.judged.keys)
    return Written(folded, sum(table.num_rows for spec, table in derived.items() if spec.is_hot))


def publish(written: Written, batch: Batch) -> Published:
    """Write the row in ops.batches: the batch is visible. Then the state is the lake's again."""
    folded, linked = written.folded, written.folded.linked
    judged, intent, attempt = linked.recorded.judged, linked.recorded.intent, linked.recorded.attempt
    portion, outcome, setup = judged.portion, judged.outcome, batch.setup
    offsets = batch.last.offsets
    if batch.kind.moves_offsets:
        offsets = advanced(offsets, judged.received, setup.topic_ids)
    with batch.times("publish"):
        metrics = metrics_of(judged.received, outcome, linked.identified, folded.owned, intent.batch_at)
        kind = batch.kind.name if portion.is_last else PORTION
        stream_batch_id = intent.stream_batch_id if portion.is_last else None
        publication = replace(
            batch.last.publication(kind, intent.batch_id, intent.batch_at, batch.times, stream_batch_id),
            offsets=to_json(offsets),
            **asdict(batch.kind.counts(judged)),
            inputs=inputs_of(judged.received),
            new_tenants=linked.identified.new_tenants,
            metrics=metrics | counts_of(portion.files),
        )
        setup.require_lock()
        attempt.publish(publication_row(publication))
    batch.state.settle()
    report = BatchReport(
        intent.batch_id,
        judged.received.num_rows,
        int(outcome.valid.sum()),
        int(outcome.quarantined.sum()),
        int(outcome.duplicate.sum()),
        len(folded.owned.persons),
        time.perf_counter() - batch.began,
        batch.times.seconds,
    )
    return Published(publication, offsets, report)
