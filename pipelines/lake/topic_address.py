"""`kafka://host:port[,host:port]/topic`: how a topic is named on the command line and in the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "kafka://"
EXAMPLE = "native:kafka://localhost:9092/events"
# Kafka's own rule for topics; a comma would make two of one.
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")


class AddressError(ValueError):
    """An address that names no topic; the message says what is wrong with it. It never quotes credentials."""


@dataclass(frozen=True)
class TopicAddress:
    """`brokers`: host:port pairs to begin with, sorted, so that one topic has one name; `topic` as Kafka spells it."""

    brokers: tuple[str, ...]
    topic: str

    @property
    def bootstrap(self) -> str:
        """The brokers as Kafka clients take them, separated by commas."""
        return ",".join(self.brokers)

    @property
    def location(self) -> str:
        """Brokers and topic, as the source is named in the tables."""
        return f"{self.bootstrap}/{self.topic}"


def parse_address(text: str) -> TopicAddress:
    """The topic that `host:port[,host:port]/topic` names, with or without `kafka://`. AddressError otherwise."""
    text = text.removeprefix(SCHEME)
    if "@" in text:
        raise AddressError(
            "a user or password has no place in a source, which is written into the tables; "
            "put it under `kafka:` in the settings file (docs/kafka.md)"
        )
    where, _, topic = text.partition("/")
    if not where or not topic:
        raise AddressError(f"write a topic as MAPPING:kafka://HOST:PORT/TOPIC, for example {EXAMPLE}")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise AddressError(
            "the topic's name has characters that Kafka does not allow; letters, digits, `.`, `_` and `-` may be in it"
        )
    brokers = set()
    for broker in where.split(","):
        found = _BROKER.fullmatch(broker.strip())
        if not found or not 0 < int(found[2]) < 65536:
            raise AddressError(f"broker {broker.strip()!r} is not HOST:PORT, for example localhost:9092")
        brokers.add(f"{found[1].lower()}:{int(found[2])}")
    return TopicAddress(tuple(sorted(brokers)), topic)


def without_credentials(text: str) -> str:
    """A source as the user wrote it, fit to be shown: what stands before an `@` may be a password."""
    return re.sub(r"(//|:)[^/]*@", r"\1…@", text)


def is_topic(source_name: str) -> bool:
    """Whether the `source` column of a record names a topic, and not a folder."""
    return source_name.partition(":")[2].startswith(SCHEME)
