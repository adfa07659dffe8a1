"""The topics of a stream: checked before the stream starts, and read from the offsets of record on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from pipelines.lake.topic_address import parse_address
from pipelines.stream.kafka.client_settings import COMMITTED_ONLY, client_settings
from pipelines.stream.kafka.cluster import TopicMissing, TopicState, look_at
from pipelines.stream.kafka.offsets import Offsets, TopicOffsets, start_offsets
from pipelines.stream.kafka.problems import OffsetsLost
from pipelines.stream.source import Source, SourceError

RECORDS_PER_TASK = 20_000  # so that one full partition is read by every core
# How long a silent broker may hold a query up; then it is reported and the query started again, until it is back.
SILENCE_MS = 30_000
_TIMEOUTS = ("default.api.timeout.ms", "request.timeout.ms")
# A task asks only for records that are there. With Kafka's half second, a request that an earlier batch left at the
# broker holds the next one up, partition by partition.
UNLESS_TOLD = {"fetch.max.wait.ms": "10", **COMMITTED_ONLY}
# Kafka's clock is the producer's, and may say anything; the instants that a record may have.
_FIRST_INSTANT, _LAST_INSTANT = "1990-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


@dataclass(frozen=True)
class Topic:
    """One topic as a source. `starts`: the offset that a new checkpoint begins with, by partition."""

    source: Source
    topic_id: str
    starts: Mapping[int, int]
    client: Mapping[str, str] = field(repr=False)
    settings: Settings = field(repr=False)
    limit: int

    def read(self, spark: SparkSession) -> DataFrame:
        """One row per record: what a landed file's row has, and offset, record_key, headers."""
        address = parse_address(self.source.location)
        starts = {address.topic: {str(p): offset for p, offset in self.starts.items()}}
        client = UNLESS_TOLD | dict(self.client)
        if not set(_TIMEOUTS) & set(client):
            client |= dict.fromkeys(_TIMEOUTS, str(SILENCE_MS))
        frame = (
            spark.readStream.format("kafka")
            .options(**{f"kafka.{key}": value for key, value in client.items()})
            .option("kafka.bootstrap.servers", address.bootstrap)
            .option("subscribe", address.topic)
            .option("startingOffsets", json.dumps(starts))
            .option("failOnDataLoss", str(self.settings.kafka_fail_on_data_loss).lower())
            .option("maxOffsetsPerTrigger", self.limit)
            .option("maxRecordsPerPartition", RECORDS_PER_TASK)
            .option("groupIdPrefix", self.settings.kafka_group_id_prefix)
            .option("kafkaConsumer.pollTimeoutMs", client.get(_TIMEOUTS[0], SILENCE_MS))
            .option("fetchOffset.numRetries", 1)
            .option("includeHeaders", "true")
            .load()
        )
        at = F.col("timestamp")
        is_usable = at.between(
            F.lit(_FIRST_INSTANT).cast("timestamp"), F.lit(_LAST_INSTANT).cast("timestamp")
        )
        # One wave of tasks, however many partitions: a task costs more than a small partition's records.
        return frame.coalesce(spark.sparkContext.defaultParallelism).select(
            F.lit(self.source.name).alias("source"),
            F.lit(self.source.mapping).alias("mapping"),
            F.lit("events").alias("feed"),
            F.lit(self.source.kind).alias("kind"),
            F.concat_ws("-", "topic", "partition").alias("path"),
            F.col("value").alias("content"),
            F.when(is_usable, at).alias("transport_at"),
            "offset",
            F.col("key").alias("record_key"),
            "headers",
        )


def topics_of(
    spark: SparkSession, sources: Sequence[Source], of_record: Offsets, settings: Settings
) -> tuple[list[Source], dict[str, Topic]]:
    """`sources` under their names of record, and the topics among them by that name.

    SourceError for a topic that is not there; BrokerUnavailable; OffsetsLost.
    """
    named, topics = [], {}
    count = sum(s.kind == "kafka" for s in sources)
    client = client_settings(settings) if count else {}
    for source in sources:
        if source.kind == "kafka":
            try:
                state = look_at(
                    spark._jvm, parse_address(source.location), client, settings.kafka_wait_seconds
                )
            except TopicMissing as e:
                raise SourceError(f"source {source.name!r}: {e}") from None
            is_loss_accepted = not settings.kafka_fail_on_data_loss
            source = replace(source, name=_name_of_record(source, state, of_record, is_loss_accepted))
            read = of_record.get(source.name, TopicOffsets("", {})).next
            starts = start_offsets(source.name, read, state.earliest, state.latest, is_loss_accepted)
            limit = max(1, settings.max_offsets_per_trigger // count)
            topics[source.name] = Topic(source, state.topic_id, starts, client, settings, limit)
        named.append(source)
    return named, topics


def _name_of_record(source: Source, state: TopicState, of_record: Offsets, is_loss_accepted: bool) -> str:
    """The name under which this lake knows the topic: by Kafka's id of it, so that another list of brokers for the same
    cluster repeats nothing, and a topic made anew under its old name is not taken for the old one."""
    if not state.topic_id:
        return source.name
    for name, topic in of_record.items():
        if topic.topic_id == state.topic_id and name.partition(":")[0] == source.mapping:
            return name
    known = of_record.get(source.name)
    if known is None or not known.topic_id:
        return source.name
    if not is_loss_accepted:
        raise OffsetsLost(
            f"{source.name}: the topic was deleted and made anew since it was read, so its offsets count anew; to read "
            "it as a new source, set `kafka_fail_on_data_loss: false` in the settings file, or name another topic"
        )
    return f"{source.name}#{state.topic_id}"
