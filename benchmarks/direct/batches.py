"""The product's batch in this process, without a JVM, over a lake that is there: what a batch costs but for Spark."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.direct.copies import Record
from pipelines.stream.batch.setup import BatchReport, StreamSetup
from tests.direct_lake import KEY, DirectLake

NEVER = 10**12  # seconds until a compaction, and rows: the largest that the settings take


class Batches(DirectLake):
    """`feed` publishes a batch and keeps its report in `reports`; hot parts are folded in only when asked for."""

    def __init__(self, path: Path) -> None:
        self.reports: list[BatchReport] = []
        super().__init__(path, mappings=("native",), key=KEY)

    def setup(self) -> StreamSetup:
        settings = replace(self.settings, compact_every_seconds=NEVER, compact_from_hot_rows=NEVER)
        return replace(super().setup(), settings=settings, on_published=self.reports.append)

    def load(self) -> float:
        """Read the published state; its seconds."""
        started = time.perf_counter()
        self.processor.last.ready()
        return time.perf_counter() - started

    def stitch(self, records: Sequence[Record]) -> BatchReport:
        """Publish one batch of valid events, each of them new; AssertionError unless that is what became of them."""
        self.feed(records)
        report = self.reports[-1]
        assert report.received == report.valid + report.quarantined + report.duplicate
        assert report.valid == len(records), f"{report.valid} of {len(records)} events were valid"
        return report
