"""Whether the topics of a running stream are still those that it began with."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import SparkSession

from pipelines.lake.topic_address import parse_address
from pipelines.stream.kafka.cluster import Asked, TopicMissing
from pipelines.stream.kafka.problems import BrokerUnavailable, OffsetsLost
from pipelines.stream.kafka.topics import Topic

_WAIT_SECONDS = 3.0


class TopicWatch:
    """Asks the brokers of `topics` (by source name) over connections that stay open; close it."""

    def __init__(self, spark: SparkSession, topics: Mapping[str, Topic]) -> None:
        self._spark, self._topics = spark, topics
        self._asked: dict[str, Asked] = {}

    def require_same(self) -> None:
        """OffsetsLost when a topic has been deleted and made anew, so that its offsets count anew. A broker that does
        not answer, or has no such topic at the moment, is left to the query."""
        for source, topic in self._topics.items():
            try:
                is_other = topic.topic_id and self._id(topic) not in ("", topic.topic_id)
            except (BrokerUnavailable, TopicMissing):
                continue
            if is_other:
                raise OffsetsLost(
                    f"{source}: the topic was deleted and made anew while the stream ran; what was published stays. To "
                    "read the new one as a new source, run again with `kafka_fail_on_data_loss: false` in the settings "
                    "file, or name another topic"
                )

    def missing(self) -> str | None:
        """The first topic that a broker says it does not have; None where all are there or nobody answers."""
        for source, topic in self._topics.items():
            try:
                self._id(topic)
            except TopicMissing:
                return source
            except BrokerUnavailable:
                continue
        return None

    def close(self) -> None:
        """Close the clients."""
        for asked in self._asked.values():
            asked.close()

    def _id(self, topic: Topic) -> str:
        address = parse_address(topic.source.location)
        if address.bootstrap not in self._asked:
            self._asked[address.bootstrap] = Asked(self._spark._jvm, address, topic.client, _WAIT_SECONDS)
        return self._asked[address.bootstrap].topic_id(address)
