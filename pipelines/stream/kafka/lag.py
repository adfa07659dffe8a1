"""How far a lake is behind its topics: the ends that brokers report, less the offsets of record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError

from pipelines.lake.topic_address import TopicAddress, parse_address
from pipelines.stream.kafka.client_settings import COMMITTED_ONLY
from pipelines.stream.kafka.cluster import TopicMissing, look_at, properties_of
from pipelines.stream.kafka.offsets import Offsets
from pipelines.stream.kafka.problems import BrokerUnavailable

_LOOK_SECONDS = 15.0  # for the first records of a topic's partitions, from a broker that has answered already


@dataclass(frozen=True)
class TopicLag:
    """One topic: its offsets of record by partition, and the records behind them, None where the broker cannot tell.

    Among records that wait, markers of transactions are counted too; where nothing else is left, there are 0."""

    source: str
    next: Mapping[int, int]
    lag_count: int | None
    problem: str | None = None


def lags(jvm: Any, offsets: Offsets, client: Mapping[str, str], wait_seconds: float) -> list[TopicLag]:
    """The lag of every topic on record; a broker that does not answer costs its topics the lag and nothing else."""
    found = []
    for source, read in sorted(offsets.items()):
        # A topic made anew under its name is on record as NAME#ID.
        address = parse_address(source.partition(":")[2].partition("#")[0])
        count, problem = None, None
        try:
            state = look_at(jvm, address, client, wait_seconds)
            if read.topic_id in ("", state.topic_id):
                begins = {p: max(first, read.next.get(p, first)) for p, first in state.earliest.items()}
                count = _waiting(jvm, address, client, wait_seconds, begins)
            else:
                problem = "deleted and made anew"
        except (BrokerUnavailable, TopicMissing) as e:
            problem = str(e)
        found.append(TopicLag(source, read.next, count, problem))
    return found


def _waiting(
    jvm: Any, topic: TopicAddress, client: Mapping[str, str], wait_seconds: float, begins: Mapping[int, int]
) -> int:
    """From the first record at or after `begins` to the end, over the partitions.

    An offset is not a record: the end of a transaction takes one, and so does every record of an aborted one. So a
    consumer looks what there is. BrokerUnavailable when it does not get to know.
    """
    count, open_ends = 0, {}
    try:
        with closing(_Consumer(jvm, topic, client, wait_seconds)) as consumer:
            for partition, end in consumer.ends(list(begins)).items():
                if end > begins[partition]:
                    open_ends[partition] = end
            consumer.begin({partition: begins[partition] for partition in open_ends})
            until = time.monotonic() + _LOOK_SECONDS
            while open_ends:
                if time.monotonic() > until:
                    raise BrokerUnavailable(
                        f"the broker at {topic.bootstrap} does not say what waits in {topic.topic!r}"
                    )
                firsts = consumer.firsts()
                for partition, end in list(open_ends.items()):
                    first = firsts.get(partition)
                    if first is None and consumer.position(partition) < end:
                        continue
                    count += 0 if first is None else max(0, end - first)
                    consumer.leave(partition)
                    del open_ends[partition]
    except Py4JJavaError as e:
        kind = e.java_exception.getClass().getSimpleName()
        raise BrokerUnavailable(
            f"the broker at {topic.bootstrap} does not say what waits in {topic.topic!r} ({kind})"
        ) from None
    return count


class _Consumer:
    """A consumer of one topic without a group."""

    def __init__(self, jvm: Any, topic: TopicAddress, client: Mapping[str, str], wait_seconds: float) -> None:
        self._jvm, self._topic = jvm, topic.topic
        deserializer = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
        own = {
            "key.deserializer": deserializer,
            "value.deserializer": deserializer,
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",  # what was there a moment ago may be gone
            "fetch.max.wait.ms": "50",
            "max.partition.fetch.bytes": str(2**16),  # the first record is enough
        }
        properties = properties_of(jvm, topic, COMMITTED_ONLY | dict(client) | own, wait_seconds)
        self._consumer = jvm.org.apache.kafka.clients.consumer.KafkaConsumer(properties)

    def ends(self, partitions: list[int]) -> dict[int, int]:
        found = self._consumer.endOffsets(self._places(partitions))
        return {place.partition(): found[place] for place in found}

    def begin(self, begins: Mapping[int, int]) -> None:
        self._consumer.assign(self._places(list(begins)))
        for partition, offset in begins.items():
            self._consumer.seek(self._place(partition), offset)

    def firsts(self) -> dict[int, int]:
        """The offset of the first record that came in, by partition."""
        records = self._consumer.poll(self._jvm.java.time.Duration.ofMillis(200))
        return {place.partition(): records.records(place)[0].offset() for place in records.partitions()}

    def position(self, partition: int) -> int:
        return int(self._consumer.position(self._place(partition)))

    def leave(self, partition: int) -> None:
        self._consumer.pause(self._places([partition]))

    def close(self) -> None:
        self._consumer.close(self._jvm.java.time.Duration.ofSeconds(1))

    def _place(self, partition: int) -> Any:
        return self._jvm.org.apache.kafka.common.TopicPartition(self._topic, partition)

    def _places(self, partitions: list[int]) -> Any:
        places = self._jvm.java.util.ArrayList()
        for partition in partitions:
            places.add(self._place(partition))
        return places
