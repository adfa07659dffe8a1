"""The batch contract: the rules by which a batch may be interrupted anywhere and repeated.

1. The batch function is deterministic: the same records on the same published versions give the same rows. No clock, no
   chance, no row order.
2. It reads every table as of the last published batch, and writes absolute values, never increments.
3. Its intent is on disk before its first write (`intent.py` in this folder); a retry takes its rules from there.
4. It begins its writes in waves, in a fixed order; every table at most once, in one commit.
5. Every commit carries the transaction (stream, stream batch). A table that has seen it writes nothing again.
6. Every commit is the next one of its table, or no other writer has changed rows meanwhile (`pipelines/lake/fence.py`).
7. The row in ops.batches comes last, with the version of every table. It alone makes the batch visible.

An `Attempt` holds 4 to 7, for both writer engines. docs/exactly-once.md says why each of them is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future, wait
from typing import Final

import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import (
    BATCHES,
    BRONZE_CORRECTIONS,
    BRONZE_EVENTS,
    EVENTS,
    FILES,
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    PROFILES,
    QUARANTINE,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.lake.fence import LakeChanged, require_own
from pipelines.lake.lake import Lake
from pipelines.lake.writing.writer import TableWriter, Txn

# What was received; what its identifiers say; whose everything is; the profiles that follow. Upserted tables are
# written by their hot parts. Then comes the row that publishes.
RECEIVED: Final = (BRONZE_EVENTS, BRONZE_CORRECTIONS, FILES, QUARANTINE, EVENTS)
LINKED: Final = (
    *(IDENTIFIERS, IDENTITY_DECISIONS.hot, IDENTITY_EDGES.hot),
    *(IDENTITY_REDIRECTS.hot, REJECTED_EDGES.hot),
)
OWNED: Final = (IDENTITY_MAP.hot, IDENTITY_LOG, SESSIONS.hot)
FOLDED: Final = (PROFILES.hot,)
WAVES: Final = (RECEIVED, LINKED, OWNED, FOLDED)


class ContractBroken(RuntimeError):
    """The batch function wrote out of order: a defect of the program, and the line stops."""


class Attempt:
    """The writes of one attempt at one batch.

    `versions`: the version at which this process left every table; kept up to date. `is_repeated`: an earlier attempt
    may have written some of the tables.
    """

    def __init__(
        self,
        lake: Lake,
        writer: TableWriter,
        txn: Txn,
        versions: dict[str, int],
        pool: Executor,
        *,
        is_repeated: bool,
    ) -> None:
        self._lake, self._writer, self._txn, self._versions = lake, writer, txn, versions
        self._pool, self._is_repeated = pool, is_repeated
        self._wave = 0
        self._running: list[Future[None]] = []

    def start(self, tables: Mapping[TableSpec, pa.Table]) -> None:
        """Begin to write the next wave, its tables concurrently. The batch computes the next wave meanwhile.

        ContractBroken where a table belongs to another wave.
        """
        if self._wave >= len(WAVES) or not set(tables) <= set(WAVES[self._wave]):
            names = ", ".join(spec.full_name for spec in tables)
            raise ContractBroken(f"these tables are not those of wave {self._wave + 1} of a batch: {names}")
        in_order = [spec for spec in WAVES[self._wave] if spec in tables]
        self._wave += 1
        self._running += [
            self._pool.submit(self._commit, spec, tables[spec])
            for spec in in_order
            if self.is_changed(spec, tables[spec])
        ]

    def is_changed(self, spec: TableSpec, rows: pa.Table) -> bool:
        """Whether the batch commits anything to this table."""
        return rows.num_rows > 0

    def finish(self) -> None:
        """Wait for what was begun; whatever went wrong is raised once nothing is being written any more."""
        self.abandon()
        for running in self._running:
            running.result()

    def abandon(self) -> None:
        """Wait for what was begun, however it ends."""
        wait(self._running)

    def publish(self, row: pa.Table) -> None:
        """Commit the row of ops.batches, after everything else. An empty batch has nothing else."""
        if self._wave not in (0, len(WAVES)):
            raise ContractBroken("a batch is published after all of its waves, or without any")
        self.finish()
        self._wave = len(WAVES) + 1
        self._commit(BATCHES, row)

    def _commit(self, spec: TableSpec, rows: pa.Table) -> None:
        left = self._versions[spec.full_name]
        version = self._writer.append(spec, rows, self._txn)
        if version == left and not self._is_repeated:
            raise LakeChanged(
                f"{spec.full_name} has this batch already, and no earlier attempt at it is on record: two processes "
                "use this lake's checkpoint; stop the other one and run again"
            )
        if version != left + 1 or self._is_repeated:
            require_own(self._lake, spec, left, version, {self._txn})
        self._versions[spec.full_name] = version
