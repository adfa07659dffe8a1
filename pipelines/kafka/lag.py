"""How far a lake is behind its topics: the offsets of record, and the ends that their brokers tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.kafka.address import parse_address
from pipelines.kafka.cluster import TopicMissing, look_at
from pipelines.kafka.offsets import Offsets
from pipelines.kafka.problems import BrokerUnavailable


@dataclass(frozen=True)
class TopicLag:
    """One topic: its offsets of record by partition, and the records behind them, None where the broker cannot tell."""

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
                count = sum(
                    max(0, end - read.next.get(partition, state.earliest[partition]))
                    for partition, end in state.latest.items()
                )
            else:
                problem = "deleted and made anew"
        except (BrokerUnavailable, TopicMissing) as e:
            problem = str(e)
        found.append(TopicLag(source, read.next, count, problem))
    return found
