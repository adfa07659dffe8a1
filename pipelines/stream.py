"""The one streaming query of a lake: sources → foreachBatch → published tables."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from conf.policy import Policy
from conf.settings import Settings
from conf.source_mapping import load_mapping
from conf.tables import ALL, BRONZE_EVENTS
from pipelines.batch.discard import discard_unpublished
from pipelines.batch.intent import IntentConflict, read_intent
from pipelines.batch.process import INTENT, BatchProcessor, BatchReport
from pipelines.batch.resolution import HashCollision
from pipelines.checkpoint import Checkpoint, open_checkpoint
from pipelines.components_graphframes import choose_components
from pipelines.hashing_key import fingerprint, load_key
from pipelines.lock import lake_lock
from pipelines.rebuild.attempt import take_back_unfinished
from pipelines.sources import Source, read_stream
from pipelines.tables.engines import make_writer
from pipelines.tables.lake import Lake, SchemaMismatch
from pipelines.tables.snapshot import Snapshot, published
from pipelines.tables.writer import RowsRefused
from quality.standing import ConservationError
from transforms.parse import RecordParser
from transforms.sessions import SessionsError


class StreamFailed(RuntimeError):
    """A batch could not be published; the lake is as it was after the batch before."""


OUR_OWN = (ConservationError, HashCollision, IntentConflict, RowsRefused, SchemaMismatch, SessionsError)


class PolicyChanged(RuntimeError):
    """The lake's persons were made under another policy."""


@dataclass(frozen=True)
class StreamResult:
    """How a run ended."""

    batch_count: int
    received_count: int


def run_stream(
    spark: SparkSession,
    lake_path: Path,
    sources: Sequence[Source],
    policy: Policy,
    settings: Settings,
    *,
    once: bool,
    stop: threading.Event | None = None,
    on_published: Callable[[BatchReport], None] = lambda report: None,
) -> StreamResult:
    """Stream `sources` into the lake until `stop` is set, or with `once` until everything there is published.

    Holds the lake's lock. After a clean end hot parts are compacted, so gold.profiles is complete.
    """
    stop = stop or threading.Event()
    logging.getLogger("py4j").setLevel(
        logging.CRITICAL
    )  # it would print a failed batch's stack, and we report it
    with lake_lock(lake_path):
        lake = Lake(lake_path)
        lake.create_missing(ALL)
        snapshot = published(lake)
        _refuse_other_policy(snapshot, policy)
        take_back_unfinished(lake, snapshot)
        key = load_key(lake_path, snapshot is not None, snapshot.row["key_fingerprint"] if snapshot else None)
        checkpoint = open_checkpoint(lake_path, tuple(s.name for s in sources))
        known = _known_origins(lake, checkpoint)
        totals = {"batches": 0, "received": 0}

        def count(report: BatchReport) -> None:
            totals["batches"] += 1
            totals["received"] += report.received
            on_published(report)

        processor = BatchProcessor(
            lake,
            make_writer(settings.writer, lake, spark, settings.spark_writer_from_rows),
            RecordParser(
                {s.mapping: load_mapping(s.mapping) for s in sources}, policy, key, settings.max_record_bytes
            ),
            policy,
            choose_components(settings.engine, spark, settings.graphframes_from_edges),
            settings,
            checkpoint.stream,
            fingerprint(key),
            known,
            count,
        )
        processor.ready_state()
        frame = read_stream(spark, sources, settings.max_files_per_trigger)
        writer = (
            frame.writeStream.queryName("stitchlake")
            .option("checkpointLocation", str(checkpoint.folder))
            .foreachBatch(processor)
        )
        trigger = (
            {"availableNow": True} if once else {"processingTime": f"{settings.trigger_seconds} seconds"}
        )
        _until_done(writer.trigger(**trigger).start(), processor, stop)
        processor.compact()
        return StreamResult(totals["batches"], totals["received"])


def _until_done(query: StreamingQuery, processor: BatchProcessor, stop: threading.Event) -> None:
    """Wait for the end of the query; on `stop` let the running batch finish first."""
    try:
        while query.isActive and not stop.wait(0.1):
            pass
        if query.isActive:
            with processor.between_batches():
                query.stop()
        if (problem := query.exception()) is not None:
            raise problem
    except StreamingQueryException as e:
        raise StreamFailed(_reason(processor, e)) from None


def _reason(processor: BatchProcessor, error: Exception) -> str:
    """What went wrong, without Spark's plan and without anybody's data.

    Our own errors are written to be shown. Others may quote a value, so only their kind and place are told.
    """
    problem: BaseException = processor.failure or error
    if isinstance(problem, OUR_OWN):
        return str(problem)
    at = traceback.extract_tb(problem.__traceback__)
    place = f" at {Path(at[-1].filename).name}:{at[-1].lineno}" if at else ""
    return f"a batch could not be published: {type(problem).__name__}{place}; nothing of it is visible, run again"


def _refuse_other_policy(snapshot: Snapshot | None, policy: Policy) -> None:
    if snapshot is not None and snapshot.row["policy_fingerprint"] != policy.fingerprint:
        raise PolicyChanged(
            "this lake's persons were made under another identity policy; run with the policy it was made with, or "
            "apply this one first with `stitchlake rebuild` (its --dry-run says what changes)"
        )


def _known_origins(lake: Lake, checkpoint: Checkpoint) -> frozenset[tuple[str, str]]:
    """Files that earlier checkpoints have published, for a checkpoint that knows nothing of them.

    An attempt that an earlier stream left unfinished is taken back first: its input is read again by the new one.
    """
    if not checkpoint.is_new:
        return frozenset()
    snapshot = published(lake)
    intent = read_intent(lake.path / INTENT)
    last = snapshot.batch_id if snapshot else 0
    if intent is not None and intent.batch_id > last:
        discard_unpublished(lake, last)
    if snapshot is None:
        return frozenset()
    origins = snapshot.arrow(BRONZE_EVENTS, ["source", "origin"]).group_by(["source", "origin"]).aggregate([])
    return frozenset(zip(origins["source"].to_pylist(), origins["origin"].to_pylist(), strict=True))
