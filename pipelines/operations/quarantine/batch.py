"""ReplayBatch: refused events that are acceptable now, through the stream's own batch function.

As a batch of the stream, but: bronze has the records already; rows of the quarantine are replaced and not only added;
the counts are what changes; the offsets of record stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import BRONZE_CORRECTIONS, EVENTS, QUARANTINE
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.replacement import replace_keyed_rows
from pipelines.lake.writing.writer import Txn
from pipelines.operations.quarantine.reread import Reread
from pipelines.operations.quarantine.selection import PLACE
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import Owned
from pipelines.stream.batch.contract import Attempt
from pipelines.stream.batch.portions import Cut
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.publish import Publication, replay_row
from pipelines.stream.batch.resolution import Identified
from pipelines.stream.kafka.offsets import Offsets
from transforms.ingest.deduplication import ConservationError, DeduplicationOutcome
from transforms.ingest.framing.files_read import FileRead
from transforms.ingest.replayed import BROUGHT_BY


class ReplayAttempt(Attempt):
    """Rows leave the quarantine even where none come."""

    def is_changed(self, spec: TableSpec, rows: pa.Table) -> bool:
        return spec is QUARANTINE or super().is_changed(spec, rows)


class ReplayWriter(DeltaRsWriter):
    """Writes as ever, but rows of the quarantine in place of those at `replaced`."""

    replaced: pa.Table

    def append(self, spec: TableSpec, rows: pa.Table, txn: Txn) -> int:
        if spec is not QUARANTINE:
            return super().append(spec, rows, txn)
        gone = replace_keyed_rows(self._lake, spec, PLACE, self.replaced, rows, txn)
        if gone != self.replaced.num_rows:
            raise ConservationError(
                f"{self.replaced.num_rows} events were to leave the quarantine, {gone} rows did; nothing is published"
            )
        return self._lake.version(spec)


class ReplayBatch(BatchProcessor):
    """Publishes portions of a replay, each as one batch. Whoever calls has an attempt on record first."""

    kind = "replay"
    attempt = ReplayAttempt
    writer: ReplayWriter
    _reread: Reread

    def replay(self, reread: Reread, number: int) -> None:
        """Publish one portion; `number` counts them."""
        self._reread, self.writer.replaced = reread, reread.replaced
        self.process(lambda: reread.received, number)

    def in_order(self, received: pa.Table) -> pa.Table:
        return received.combine_chunks()  # as they arrived, in whichever batch

    def cut(self, received: pa.Table, files: Sequence[FileRead]) -> Cut:
        return Cut(received, files)  # it is one portion of a replay already

    def landing(
        self, received: pa.Table, outcome: DeduplicationOutcome, valid: pa.Table, batch_id: int
    ) -> dict[TableSpec, pa.Table]:
        refused = rows.quarantine_rows(received, outcome, batch_id)
        arrived = pa.chunked_array(
            [c for mask in (outcome.refused, outcome.conflicting) for c in _where(received, mask)],
            pa.int64(),
        )
        at = refused.schema.get_field_index("batch_id")
        corrections, batch = self._reread.corrections, np.full(self._reread.corrections.num_rows, batch_id)
        return {
            BRONZE_CORRECTIONS: corrections.set_column(
                corrections.num_columns - 1, corrections.schema.field("batch_id"), pa.array(batch, pa.int64())
            ),
            QUARANTINE: refused.set_column(at, refused.schema.field(at), arrived),
            EVENTS: rows.event_rows(valid, batch_id),
        }

    def offsets_after(self, received: pa.Table, offsets: Offsets) -> Offsets:
        return offsets

    def row(
        self,
        publication: Publication,
        stream_batch_id: int | None,
        received: pa.Table,
        outcome: DeduplicationOutcome,
        identified: Identified,
        owned: Owned,
    ) -> pa.Table:
        replaced, corrected = self._reread.replaced.num_rows, self._reread.corrections.num_rows
        return replay_row(
            publication, stream_batch_id, received, outcome, identified, owned, replaced, corrected
        )


def _where(received: pa.Table, mask: object) -> list[pa.Array]:
    return received[BROUGHT_BY].filter(pa.array(mask)).chunks
