"""Put the records of files into a topic, to try things out.

    python -m pipelines.stream.kafka.produce --to localhost:9092/events landing/part-00000.jsonl

Each record goes under its event_id as the key, so that the records of one event stay in order.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson
from py4j.protocol import Py4JJavaError

from pipelines.lake.topic_address import AddressError, TopicAddress, parse_address
from pipelines.stream.kafka.cluster import TopicMissing, look_at
from pipelines.stream.kafka.gateway import kafka_gateway
from pipelines.stream.kafka.problems import BrokerUnavailable
from transforms.ingest.framing.frames import format_of, frame


def produce(jvm: Any, topic: TopicAddress, files: list[Path]) -> int:
    """Send every record of `files`, as one value each; returns how many."""
    properties = jvm.java.util.Properties()
    for key, value in {
        "bootstrap.servers": topic.bootstrap,
        "key.serializer": "org.apache.kafka.common.serialization.ByteArraySerializer",
        "value.serializer": "org.apache.kafka.common.serialization.ByteArraySerializer",
        "linger.ms": "20",
    }.items():
        properties.setProperty(key, value)
    producer = jvm.org.apache.kafka.clients.producer.KafkaProducer(properties)
    record = jvm.org.apache.kafka.clients.producer.ProducerRecord
    count = 0
    try:
        for file in files:
            for framed in frame(file.name, file.read_bytes()):
                producer.send(record(topic.topic, _key(framed.payload), framed.payload))
                count += 1
        producer.flush()
    finally:
        producer.close()
    return count


def _key(payload: bytes) -> bytes | None:
    try:
        return str(orjson.loads(payload)["event_id"]).encode()
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def main(argv: list[str] | None = None) -> int:
    """Send the records of files to a topic. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream.kafka.produce", description=__doc__.splitlines()[0]
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines, JSON or Parquet")
    parser.add_argument("--to", required=True, metavar="HOST:PORT/TOPIC")
    args = parser.parse_args(argv)
    try:
        topic = parse_address(args.to)
        for file in args.files:
            if not file.is_file() or format_of(file.name)[0] in (None, "csv"):
                raise AddressError(f"{file} is not a file of JSON lines, JSON or Parquet")
        with kafka_gateway() as jvm:
            look_at(jvm, topic, {}, 10.0)
            print(f"{produce(jvm, topic, args.files):,} records sent to {topic.location}")
    except (AddressError, TopicMissing) as problem:
        print(problem, file=sys.stderr)
        return 2
    except (BrokerUnavailable, Py4JJavaError) as problem:
        report = (
            problem
            if isinstance(problem, BrokerUnavailable)
            else "the broker went away while records were sent"
        )
        print(report, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
