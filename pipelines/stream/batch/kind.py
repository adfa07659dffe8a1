"""The kinds of batches: what a batch of each kind does in its own way, as values. STREAM is the usual one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa

from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import BRONZE_EVENTS, EVENTS, QUARANTINE
from pipelines.lake.lake import Lake
from pipelines.lake.writing.writer import TableWriter, Txn
from pipelines.stream.batch import rows
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.judged import Judged, by_origin
from pipelines.stream.batch.portions import Cut
from transforms.ingest.framing.files_read import FileRead


@dataclass(frozen=True)
class Counts:
    """The counts of one row of ops.batches."""

    record_count: int
    received_count: int
    valid_count: int
    quarantined_count: int
    duplicate_count: int


class BeginAttempt(Protocol):
    """Makes the attempt that writes a batch; see `Attempt`."""

    def __call__(
        self,
        lake: Lake,
        writer: TableWriter,
        txn: Txn,
        versions: dict[str, int],
        pool: Executor,
        *,
        is_repeated: bool,
    ) -> Attempt:
        """Begin an attempt of a batch."""


@dataclass(frozen=True)
class BatchKind:
    """`name`: the kind in ops.batches. `order`: puts received events into the order in which they count.

    `cut`: cuts ordered events, with their files, into portions. `landing`: the rows of the first wave for what was
    judged and a batch id: records and events as they came. `counts`: what the row in ops.batches counts.
    `moves_offsets`: whether the received records move the offsets of record.
    """

    name: str
    order: Callable[[pa.Table], pa.Table]
    cut: Callable[[pa.Table, Sequence[FileRead], Settings], Cut]
    landing: Callable[[Judged, int], dict[TableSpec, pa.Table]]
    counts: Callable[[Judged], Counts]
    moves_offsets: bool
    begin_attempt: BeginAttempt


def _within_bounds(received: pa.Table, files: Sequence[FileRead], settings: Settings) -> Cut:
    return Cut(received, files, settings.max_batch_pairs, settings.max_batch_bytes)


def _as_they_came(judged: Judged, batch_id: int) -> dict[TableSpec, pa.Table]:
    return {
        BRONZE_EVENTS: rows.bronze_rows(judged.received, batch_id),
        QUARANTINE: rows.quarantine_rows(judged.received, judged.outcome, batch_id),
        EVENTS: rows.event_rows(judged.valid, batch_id),
    }


def counts_of(judged: Judged) -> Counts:
    """Counts of what was received and what became of it."""
    outcome = judged.outcome
    return Counts(
        record_count=rows.records_of(judged.received.select(["record_position"])).num_rows,
        received_count=judged.received.num_rows,
        valid_count=int(outcome.valid.sum()),
        quarantined_count=int(outcome.quarantined.sum()),
        duplicate_count=int(outcome.duplicate.sum()),
    )


STREAM: Final = BatchKind(
    name="batch",
    order=by_origin,
    cut=_within_bounds,
    landing=_as_they_came,
    counts=counts_of,
    moves_offsets=True,
    begin_attempt=Attempt,
)
