"""The one streaming query of a lake: sources → foreachBatch → published tables."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from conf.errors import Refusal
from conf.policy import Policy
from conf.settings import Settings
from conf.source_mapping import load_mapping
from pipelines.apps.request_handlers import HANDLERS
from pipelines.lake.hashing_key import fingerprint, load_key
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import Lake
from pipelines.lake.lock import lake_lock
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.writing.engines import make_writer
from pipelines.operations.decisions.inbox import control_source, settle
from pipelines.operations.requests.requests import is_asked, run_asked
from pipelines.operations.upgrade import ready_to_write
from pipelines.operations.upkeep.schedule import own_upkeep
from pipelines.runtime.graph_engine import choose_components
from pipelines.runtime.session import set_graph_checkpoints
from pipelines.state.open_state import state_opener
from pipelines.stream.batch.intent import INTENT, pending_intent
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import BatchReport, StreamSetup
from pipelines.stream.checkpoint import open_checkpoint
from pipelines.stream.kafka import problems as kafka
from pipelines.stream.kafka.offsets import offsets_of_record
from pipelines.stream.kafka.topics import topics_of
from pipelines.stream.kafka.watch import TopicWatch
from pipelines.stream.parse_ahead import ParseAhead
from pipelines.stream.read_before import FileNews
from pipelines.stream.read_files import FolderWatch
from pipelines.stream.source import Source, require_different
from pipelines.stream.source_folders import require_apart
from pipelines.stream.sources import read_files, read_stream
from transforms.ingest.parse import RecordParser


class StreamFailed(Refusal):
    """A batch could not be published; the lake is as it was after the batch before."""


PATIENCE_ONCE_SECONDS = 300.0
_RETRY_SECONDS = 5.0

GRAPH_CHECKPOINTS = "_stitchlake/graph-checkpoints"


class PolicyChanged(Refusal):
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
    is_continued: bool = True,
    on_published: Callable[[BatchReport], None] = lambda report: None,
    on_trouble: Callable[[str], None] = lambda line: None,
) -> StreamResult:
    """Stream `sources` into the lake until `stop` is set, or with `once` until everything there is published.

    Not `is_continued`: with a new checkpoint, because the folders are new ones.

    A broker must answer at the start. If it goes away later, `on_trouble` gets a line and the stream waits for it: as
    long as it takes, with `once` for PATIENCE_ONCE_SECONDS.

    Holds the lake's lock. After a clean end hot parts are compacted, so gold.profiles is complete.
    """
    stop = stop or threading.Event()
    require_different(sources)
    require_apart(sources, lake_path)
    logging.getLogger("py4j").setLevel(
        logging.CRITICAL
    )  # it would print a failed batch's stack, and we report it
    with lake_lock(lake_path) as require_lock:
        lake = Lake(lake_path)
        snapshot = ready_to_write(lake).snapshot
        _refuse_other_policy(snapshot, policy)
        key = load_key(lake_path, snapshot is not None, snapshot.row["key_fingerprint"] if snapshot else None)
        set_graph_checkpoints(spark, lake_path / GRAPH_CHECKPOINTS)
        of_record = offsets_of_record(lake, snapshot)
        sources, topics = topics_of(spark, sources, of_record, settings)
        inputs = [*sources, control_source(lake_path)]
        pending = pending_intent(lake.path / INTENT, snapshot.batch_id if snapshot else 0)
        checkpoint = open_checkpoint(
            lake_path, tuple(s.name for s in inputs), snapshot, pending, is_continued=is_continued
        )
        if checkpoint.trouble is not None:
            on_trouble(checkpoint.trouble)
        settle(lake, checkpoint.stream, is_continued=not checkpoint.is_new)
        brokers = TopicWatch(spark, topics)
        totals = {"batches": 0, "received": 0}

        def require_ours() -> None:
            require_lock()
            brokers.require_same()  # the batch's records have been read by now

        def count(report: BatchReport) -> None:
            totals["batches"] += 1
            totals["received"] += report.received
            on_published(report)

        news = FileNews(on_trouble)
        processor = BatchProcessor(
            StreamSetup(
                lake=lake,
                writer=make_writer(settings.writer, lake, spark, settings.spark_writer_from_rows),
                parser=RecordParser(
                    {s.mapping: load_mapping(s.mapping) for s in sources},
                    policy,
                    key,
                    settings.max_record_bytes,
                ),
                policy=policy,
                components=choose_components(settings.engine, spark),
                settings=settings,
                stream=checkpoint.stream,
                key_fingerprint=fingerprint(key),
                open_state=state_opener(settings.lookup, policy, spark, settings.lookup_tables_from_rows),
                topic_ids={name: topic.topic_id for name, topic in topics.items()},
                offset_entry=checkpoint.offset_entry,
                require_lock=require_ours,
                on_published=count,
                on_files=news.of_batch,
            )
        )
        ahead = ParseAhead(
            inputs,
            checkpoint.folder,
            settings.max_files_per_trigger,
            settings.parse_ahead_bytes,
            partial(read_files, spark),
            processor.parse,
            is_new=lambda landed: not processor.readings(landed),
        )
        watch = FolderWatch(checkpoint, inputs, on_trouble, processor.setup.parser.folder_columns)
        processor.last.ready()

        def publish(frame: DataFrame, stream_batch_id: int) -> None:
            processor.process(partial(ahead.rows, frame, stream_batch_id), stream_batch_id)

        frame = read_stream(spark, inputs, settings.max_files_per_trigger, topics)
        writer = (
            frame.writeStream.queryName("stitchlake")
            .option("checkpointLocation", str(checkpoint.folder))
            .foreachBatch(publish)
        )
        trigger = (
            {"availableNow": True} if once else {"processingTime": f"{settings.trigger_seconds} seconds"}
        )
        writer = writer.trigger(**trigger)

        def start() -> StreamingQuery:
            watch.begin()
            ahead.forget()
            return writer.start()

        patience = PATIENCE_ONCE_SECONDS if once else float("inf")
        until_done = partial(
            _until_done,
            processor=processor,
            stop=stop,
            is_out_of_date=watch.is_out_of_date,
            on_trouble=on_trouble,
        )
        with closing(brokers), closing(processor):
            with closing(ahead), own_upkeep(processor, settings, on_trouble):
                _through_outages(
                    lambda: until_done(start()),
                    processor,
                    stop,
                    patience if topics else 0,
                    on_trouble,
                    brokers,
                )
            processor.compact()
        news.end()
        return StreamResult(totals["batches"], totals["received"])


def _through_outages(
    is_done: Callable[[], bool],
    processor: BatchProcessor,
    stop: threading.Event,
    patience_seconds: float,
    on_trouble: Callable[[str], None],
    brokers: TopicWatch,
) -> None:
    """Run the query to its end, and start it again when a broker went away, or when files have changed that it takes
    for read. Its checkpoint makes that exact.

    Patience begins anew with every batch that is published. A broker that answers, and twice in a row has no such
    topic, is no outage.
    """
    missing = None
    since, last = time.monotonic(), processor.last.batch_id
    while True:
        try:
            if is_done():
                return
            processor.go_on()
            continue
        except StreamingQueryException as e:
            if processor.last.batch_id != last:
                since, last = time.monotonic(), processor.last.batch_id
            is_patient = time.monotonic() - since < patience_seconds
            is_ours, message = isinstance(processor.failure, Refusal), _message_of(processor, e)
            if not is_ours and (kafka.is_outage(message) or kafka.is_loss(message)):
                missing = _still_missing(brokers, missing)
            if is_ours or not is_patient or not (kafka.is_outage(message) or missing):
                raise StreamFailed(_reason(processor, e)) from None
        on_trouble(
            "a Kafka broker does not answer; nothing is lost, trying again until it does"
            if missing is None
            else f"{missing}: the broker has no such topic at the moment; nothing is lost, looking once more"
        )
        if stop.wait(_RETRY_SECONDS):
            return
        processor.go_on()


def _still_missing(brokers: TopicWatch, before: str | None) -> str | None:
    """The topic that is not there. StreamFailed when it was not there `before`, or is another one by now."""
    try:
        brokers.require_same()
    except kafka.OffsetsLost as e:
        raise StreamFailed(str(e)) from None
    missing = brokers.missing()
    if missing is not None and missing == before:
        raise StreamFailed(
            f"{missing}: the topic was deleted; what was published stays. Run again without this source, or when the "
            "topic is there"
        )
    return missing


def _until_done(
    query: StreamingQuery,
    processor: BatchProcessor,
    stop: threading.Event,
    is_out_of_date: Callable[[], bool] = lambda: False,
    on_trouble: Callable[[str], None] = lambda line: None,
) -> bool:
    """Wait for the end of the query; on `stop` let the running batch finish first. False: it has to start again."""
    is_done = True
    while is_done and query.isActive and not stop.wait(0.1):
        if is_asked(processor.setup.lake.path):
            try:
                with processor.between_batches():
                    _run_requests(processor, on_trouble)
            except BaseException:
                query.stop()
                raise
        processor.compact_if_due()
        is_done = not is_out_of_date()
    if query.isActive:
        processor.end()
        query.stop()
    is_refusal = processor.has_ended and processor.failure is None  # of a batch that came too late
    if (problem := query.exception()) is not None and not is_refusal:
        raise problem
    return is_done or stop.is_set()


def _run_requests(processor: BatchProcessor, on_trouble: Callable[[str], None]) -> None:
    """What others have asked for. No batch follows where half of it could not be taken back."""
    try:
        setup = processor.setup
        run_asked(
            setup.lake,
            setup.policy,
            setup.settings,
            HANDLERS,
            setup.parser.mapping_fingerprints,
            processor.last.shared_state,
            on_trouble,
        )
    except BaseException:
        processor.end()
        raise
    processor.last.refresh()


def _message_of(processor: BatchProcessor, error: Exception) -> str:
    """Everything that Spark says of a failure, for finding its kind; never shown."""
    return f"{error}\n{processor.failure or ''}"


def _reason(processor: BatchProcessor, error: Exception) -> str:
    """What went wrong, without Spark's plan and without anybody's data.

    A refusal is written to be shown. Other errors may quote a value, so only their kind and place are reported.
    """
    problem: BaseException = processor.failure or error
    if isinstance(problem, Refusal):
        return str(problem)
    message = _message_of(processor, error)
    if kafka.is_loss(message):
        return kafka.LOSS_IN_A_STREAM
    if kafka.is_refusal(message):
        return kafka.REFUSED_IN_A_STREAM
    if kafka.is_outage(message):
        return kafka.SILENCE_IN_A_STREAM
    at = traceback.extract_tb(problem.__traceback__)
    place = f" at {Path(at[-1].filename).name}:{at[-1].lineno}" if at else ""
    return f"a batch could not be published: {type(problem).__name__}{place}; nothing of it is visible, run again"


def _refuse_other_policy(snapshot: Snapshot | None, policy: Policy) -> None:
    if snapshot is None:
        return
    if not same_policy(snapshot, policy):
        raise PolicyChanged(
            "this lake's persons were made under another identity policy, or by an older version of the program, which "
            "read it by other rules; run with the policy it was made with, or apply this one first with "
            "`stitchlake rebuild --policy …` (its --dry-run says what changes)"
        )
    if other := other_identifier_rules(snapshot, policy):
        raise PolicyChanged(other)
