"""Asks a broker about a topic: whether it exists, its partitions, their first and last offsets."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError

from pipelines.lake.topic_address import TopicAddress
from pipelines.stream.kafka.problems import BrokerUnavailable

_CONNECT_SECONDS = 3.0
_SHOWN = 5


class TopicMissing(ValueError):
    """The broker answers and has no such topic; the message names it and the way out."""


@dataclass(frozen=True)
class TopicState:
    """`topic_id` is another when a topic is made anew under its name; empty from a broker that knows none. `earliest`
    is the first offset there is, `latest` the one after the last, both by partition."""

    topic_id: str
    earliest: dict[int, int]
    latest: dict[int, int]


def look_at(jvm: Any, topic: TopicAddress, client: Mapping[str, str], wait_seconds: float) -> TopicState:
    """The topic as its broker describes it now, through the Kafka client in `jvm`.

    BrokerUnavailable when nobody answers within `wait_seconds` or access is refused; TopicMissing when it is not there.
    """
    _require_somebody_listening(topic)
    with closing(Asked(jvm, topic, client, wait_seconds)) as asked:
        return asked.state(topic)


class Asked:
    """A connection to the cluster of a topic, for questions about it and its neighbours; close it.

    BrokerUnavailable when nobody answers within `wait_seconds` or access is refused; TopicMissing for a topic that is
    not there.
    """

    def __init__(self, jvm: Any, topic: TopicAddress, client: Mapping[str, str], wait_seconds: float) -> None:
        self.jvm, self.wait_seconds = jvm, wait_seconds
        try:
            self.admin = jvm.org.apache.kafka.clients.admin.Admin.create(
                properties_of(jvm, topic, client, wait_seconds)
            )
        except Py4JJavaError:
            raise BrokerUnavailable(
                f"the Kafka client for {topic.bootstrap} does not start with the settings under `kafka:`; "
                "check their spelling, and that files they name are there"
            ) from None

    def state(self, topic: TopicAddress) -> TopicState:
        """Ask the broker for the topic: its id, its partitions and their offsets. Raises if it does not answer."""
        try:
            found = self._described(topic.topic)
            partitions = [p.partition() for p in found.partitions()]
            spec = self.jvm.org.apache.kafka.clients.admin.OffsetSpec
            return TopicState(
                self._id(found),
                self._offsets(topic.topic, partitions, spec.earliest()),
                self._offsets(topic.topic, partitions, spec.latest()),
            )
        except Py4JJavaError as e:
            raise _problem_of(e, self, topic) from None

    def topic_id(self, topic: TopicAddress) -> str:
        """Empty from a broker that knows none."""
        try:
            return self._id(self._described(topic.topic))
        except Py4JJavaError as e:
            raise _problem_of(e, self, topic) from None

    def _described(self, topic: str) -> Any:
        names = self.jvm.java.util.ArrayList()
        names.add(topic)
        return self._get(self.admin.describeTopics(names).allTopicNames())[topic]

    def _id(self, described: Any) -> str:
        found = str(described.topicId().toString())
        return "" if found == self.jvm.org.apache.kafka.common.Uuid.ZERO_UUID.toString() else found

    def others(self) -> list[str]:
        """Topics there are, to show to somebody who has misspelt one."""
        try:
            return sorted(self._get(self.admin.listTopics().names()))
        except Py4JError:
            return []

    def close(self) -> None:
        """Close the client."""
        self.admin.close(self.jvm.java.time.Duration.ofSeconds(1))

    def _offsets(self, topic: str, partitions: list[int], spec: Any) -> dict[int, int]:
        place = self.jvm.org.apache.kafka.common.TopicPartition
        asked = self.jvm.java.util.HashMap()
        for partition in partitions:
            asked.put(place(topic, partition), spec)
        found = self._get(self.admin.listOffsets(asked).all())
        return {at.partition(): found[at].offset() for at in found}

    def _get(self, future: Any) -> Any:
        milliseconds = int(self.wait_seconds * 1000) + 1000
        return future.get(milliseconds, self.jvm.java.util.concurrent.TimeUnit.MILLISECONDS)


def properties_of(jvm: Any, topic: TopicAddress, client: Mapping[str, str], wait_seconds: float) -> Any:
    """Settings for a Kafka client that gives up after `wait_seconds`."""
    properties = jvm.java.util.Properties()
    milliseconds = str(int(wait_seconds * 1000))
    for key, value in {
        **client,
        "bootstrap.servers": topic.bootstrap,
        "request.timeout.ms": milliseconds,
        "default.api.timeout.ms": milliseconds,
    }.items():
        properties.setProperty(key, value)
    return properties


def _require_somebody_listening(topic: TopicAddress) -> None:
    """The Kafka client would knock on a closed door until its time is up; this knows at once."""
    problems = []
    for broker in topic.brokers:
        host, _, port = broker.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
            return
        except socket.gaierror:
            problems.append(f"{broker} (no such host)")
        except TimeoutError:
            problems.append(f"{broker} (no answer)")
        except OSError as e:
            problems.append(f"{broker} ({(e.strerror or 'unreachable').lower()})")
    raise BrokerUnavailable(
        f"no Kafka broker answers at {', '.join(problems)}; start it, or correct the address, then run again"
    )


def _problem_of(error: Py4JJavaError, asked: Asked, topic: TopicAddress) -> Exception:
    """A Java exception as one of ours, by the names of its classes alone: its text may repeat a setting."""
    names: list[str] = []
    cause = error.java_exception
    while cause is not None and len(names) < 10:
        names.append(cause.getClass().getSimpleName())
        cause = cause.getCause()
    last = names[-1]
    if "UnknownTopicOrPartitionException" in names:
        others = [name for name in asked.others() if not name.startswith("__")]
        more = " …" if len(others) > _SHOWN else ""
        there = f"it has {', '.join(others[:_SHOWN])}{more}" if others else "it has none"
        return TopicMissing(
            f"the broker at {topic.bootstrap} has no topic {topic.topic!r} ({there}); "
            "create the topic, or correct its name"
        )
    if last.endswith(("AuthenticationException", "AuthorizationException")):
        return BrokerUnavailable(
            f"the broker at {topic.bootstrap} refuses access ({last}); look at the settings under `kafka:` and at the "
            "broker's rules for them"
        )
    if last.endswith("TimeoutException"):
        return BrokerUnavailable(
            f"{topic.bootstrap} accepts connections and does not answer as a Kafka broker within "
            f"{asked.wait_seconds:g} s; if it wants TLS or a login, set security.protocol and the rest under "
            "`kafka:` in the settings file"
        )
    return BrokerUnavailable(
        f"the broker at {topic.bootstrap} does not tell about topic {topic.topic!r} ({last})"
    )
