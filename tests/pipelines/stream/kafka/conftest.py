"""A real broker for the tests of this folder, and topics of a test's own on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from pipelines.apps.run_stream import StreamResult, run_stream
from pipelines.stream.kafka.broker import Broker, free_port
from pipelines.stream.source import Source, parse_source

# A user that only these tests know, at a second door that asks for it.
PASSWORD = "swordfish-7f3a"
LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="tester" password="{PASSWORD}";'
)


class TestBroker:
    """The broker, and what tests do with it. Topics are numbered, so that no test meets another's."""

    __test__ = False

    def __init__(self, broker: Broker, login_port: int) -> None:
        from confluent_kafka.admin import AdminClient

        self.broker, self.login_port = broker, login_port
        self.admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        self._numbers = count()

    def topic(self, partitions: int = 3, name: str | None = None) -> str:
        """Make a topic; returns its name."""
        from confluent_kafka.admin import NewTopic

        name = name or f"topic-{next(self._numbers)}"
        for made in self.admin.create_topics([NewTopic(name, partitions, 1)]).values():
            made.result(30)
        return name

    def delete(self, topic: str) -> None:
        for gone in self.admin.delete_topics([topic]).values():
            gone.result(30)

    def forget(self, topic: str, partition: int, before: int) -> None:
        """What retention does: the partition's records before an offset are gone."""
        from confluent_kafka import TopicPartition

        for gone in self.admin.delete_records([TopicPartition(topic, partition, before)]).values():
            gone.result(30)

    def send(self, topic: str, *records: object, partition: int | None = None, headers=None) -> None:
        """Records as they are (bytes, or None for a tombstone) or as JSON, keyed by their event_id."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.broker.address, "log_level": 0, "linger.ms": 5})
        for record in records:
            value = record if record is None or isinstance(record, bytes) else json.dumps(record).encode()
            place = {} if partition is None else {"partition": partition}
            producer.produce(topic, value, key=key_of(value), headers=headers, **place)
            producer.poll(0)
        assert producer.flush(30) == 0

    def transaction(self, topic: str, *records: object, is_committed: bool = True) -> None:
        """Records of one transaction, in partition 0."""
        from confluent_kafka import Producer

        name = {"transactional.id": f"tests-{next(self._numbers)}"}
        producer = Producer({"bootstrap.servers": self.broker.address, "log_level": 0, **name})
        producer.init_transactions(60)
        producer.begin_transaction()
        for record in records:
            producer.produce(topic, json.dumps(record).encode(), partition=0)
        assert producer.flush(30) == 0
        (producer.commit_transaction if is_committed else producer.abort_transaction)(60)

    def source(self, topic: str, mapping: str = "native", host: str = "127.0.0.1") -> Source:
        return parse_source(f"{mapping}:kafka://{host}:{self.broker.port}/{topic}")


def key_of(value: bytes | None) -> bytes | None:
    try:
        return str(json.loads(value or b"")["event_id"]).encode()
    except (ValueError, KeyError, TypeError):
        return None


@pytest.fixture(scope="session")
def kafka(tmp_path_factory) -> Iterator[TestBroker]:
    port, login_port = free_port(), free_port()
    controller = free_port()
    broker = Broker(
        tmp_path_factory.mktemp("broker"),
        port,
        {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": LOGIN.removesuffix(";")
            + f' user_tester="{PASSWORD}";',
            "auto.create.topics.enable": "false",
        },
    )
    broker.start()
    try:
        yield TestBroker(broker, login_port)
    finally:
        broker.stop()


@pytest.fixture
def once() -> Callable[..., StreamResult]:
    """Stream topics (and folders) into a test lake until everything there is published."""

    def once(world, *sources: Source, **settings: object) -> StreamResult:
        chosen = replace(world.settings, **settings)
        return run_stream(world.spark, world.path, sources, world.policy, chosen, once=True)

    return once


def event(number: int, **more: object) -> dict:
    """A valid event. Without an event_id it is known by its place alone, so that a repetition would be seen."""
    return {
        "timestamp": f"2026-03-01T10:{number % 60:02d}:00Z",
        "event_type": "page_view",
        "identifiers": {"device_id": f"d{number}"},
        **more,
    }
