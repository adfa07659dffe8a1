"""The batch of a replay: refused events that are acceptable now, processed by the stream's own steps.

As a batch of the stream, but: bronze has the records already; rows of the quarantine are replaced and not only added;
the counts are what changes; the offsets of record stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import pyarrow as pa

from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import BRONZE_CORRECTIONS, EVENTS, QUARANTINE
from pipelines.lake.lake import Lake
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.replacement import replace_keyed_rows
from pipelines.lake.writing.writer import TableWriter, Txn
from pipelines.operations.quarantine.reread import Reread
from pipelines.operations.quarantine.selection import PLACE
from pipelines.stream.batch import rows
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.judged import Judged
from pipelines.stream.batch.kind import BatchKind, Counts, counts_of
from pipelines.stream.batch.portions import Cut
from transforms.ingest.deduplication import ConservationError
from transforms.ingest.framing.files_read import FileRead
from transforms.ingest.replayed import BROUGHT_BY


def replay_of(reread: Reread) -> BatchKind:
    """The kind of the one batch that publishes `reread`. Whoever processes it has an attempt on record first."""

    def begin_attempt(
        lake: Lake,
        writer: TableWriter,
        txn: Txn,
        versions: dict[str, int],
        pool: Executor,
        *,
        is_repeated: bool,
    ) -> Attempt:
        writer = ReplayWriter(lake, reread.replaced)
        return ReplayAttempt(lake, writer, txn, versions, pool, is_repeated=is_repeated)

    def landing(judged: Judged, batch_id: int) -> dict[TableSpec, pa.Table]:
        return {
            BRONZE_CORRECTIONS: rows.with_batch_id(reread.corrections, batch_id),
            QUARANTINE: _refused_rows(judged, batch_id),
            EVENTS: rows.event_rows(judged.valid, batch_id),
        }

    def counts(judged: Judged) -> Counts:
        """What changes, so that the counts of all batches add up to what is there: a record that has become acceptable
        is one quarantined less and one valid more, and nothing is received again."""
        found, replaced_count = counts_of(judged), reread.replaced.num_rows
        return replace(
            found,
            record_count=reread.corrections.num_rows,
            received_count=found.received_count - replaced_count,
            quarantined_count=found.quarantined_count - replaced_count,
        )

    return BatchKind(
        name="replay",
        order=pa.Table.combine_chunks,  # as they arrived, in whichever batch
        cut=_whole,
        landing=landing,
        counts=counts,
        moves_offsets=False,
        begin_attempt=begin_attempt,
    )


class ReplayAttempt(Attempt):
    """Rows leave the quarantine even where none come."""

    def is_changed(self, spec: TableSpec, rows: pa.Table) -> bool:
        """A replay writes silver.quarantine even where no row is left."""
        return spec is QUARANTINE or super().is_changed(spec, rows)


class ReplayWriter(DeltaRsWriter):
    """Writes as ever, but rows of the quarantine in place of those at `replaced` (PLACE)."""

    def __init__(self, lake: Lake, replaced: pa.Table) -> None:
        super().__init__(lake)
        self._replaced = replaced

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        """Append rows; those of silver.quarantine replace the refused events that were read again."""
        if spec is not QUARANTINE:
            return super().append(spec, rows, txn)
        gone = replace_keyed_rows(self._lake, spec, PLACE, self._replaced, rows, txn)
        if gone != self._replaced.num_rows:
            raise ConservationError(
                f"{self._replaced.num_rows} events were to leave the quarantine, {gone} rows did; nothing is published"
            )
        return self._lake.version(spec)


def _whole(received: pa.Table, files: Sequence[FileRead], settings: Settings) -> Cut:
    return Cut(received, files)  # it is one portion of a replay already


def _refused_rows(judged: Judged, batch_id: int) -> pa.Table:
    """Rows of the quarantine; each keeps the batch that it came with."""
    refused = rows.quarantine_rows(judged.received, judged.outcome, batch_id)
    arrived = pa.chunked_array(
        [c for mask in (judged.outcome.refused, judged.outcome.conflicting) for c in _where(judged, mask)],
        pa.int64(),
    )
    at = refused.schema.get_field_index("batch_id")
    return refused.set_column(at, refused.schema.field(at), arrived)


def _where(judged: Judged, mask: object) -> list[pa.Array]:
    return judged.received[BROUGHT_BY].filter(pa.array(mask)).chunks
