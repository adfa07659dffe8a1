"""The offsets of record: per topic-partition the offset after the last published record, in every row of ops.batches.

    {"native:kafka://localhost:9092/events": {"topic_id": "…", "next": {"0": 1200, "1": 1187}}}

Spark's checkpoint says the same while it lasts. A new one, for another set of sources or after a loss, begins here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.topic_address import is_topic
from pipelines.stream.kafka.problems import OffsetsLost

EARLIEST = -2  # Spark's and Kafka's own number for "where the partition begins"


@dataclass(frozen=True)
class TopicOffsets:
    """`next` offset to read by partition; partitions that are not in it have not been read. `topic_id` is Kafka's,
    empty where the broker knows none."""

    topic_id: str
    next: Mapping[int, int]


Offsets = Mapping[str, TopicOffsets]


def to_json(offsets: Offsets) -> str:
    """Offsets of record as the text in ops.batches."""
    return json.dumps(
        {
            source: {"topic_id": topic.topic_id, "next": {str(p): n for p, n in sorted(topic.next.items())}}
            for source, topic in sorted(offsets.items())
        }
    )


def from_json(text: str) -> dict[str, TopicOffsets]:
    """Read what `to_json` has made."""
    return {
        source: TopicOffsets(topic["topic_id"], {int(p): n for p, n in topic["next"].items()})
        for source, topic in json.loads(text).items()
    }


def offsets_of_record(lake: Lake, snapshot: Snapshot | None) -> dict[str, TopicOffsets]:
    """Where every topic's reading stands as of the last published batch."""
    if snapshot is None:
        return {}
    stored = snapshot.row.get("offsets")
    if stored is None:  # an older program, which knew no topics, published the last batch
        has_offsets = pc.field("offsets").is_valid()
        rows = BatchRows(lake).newest_first(["offsets"], snapshot.batch_id, has_offsets)
        stored = next((row["offsets"] for row in rows), None)
    return {} if stored is None else from_json(stored)


def advanced(offsets: Offsets, received: pa.Table, topic_ids: Mapping[str, str]) -> dict[str, TopicOffsets]:
    """`offsets` after a batch of `received` records (source, origin, origin_ordinal)."""
    after = dict(offsets)
    ends = received.group_by(["source", "origin"]).aggregate([("origin_ordinal", "max")])
    for source, origin, last in zip(
        *(ends[c].to_pylist() for c in ("source", "origin", "origin_ordinal_max")), strict=True
    ):
        if is_topic(source):
            topic = after.get(source, TopicOffsets("", {}))
            partition = int(origin.rpartition("-")[2])
            following = max(last + 1, topic.next.get(partition, 0))
            after[source] = TopicOffsets(
                topic_ids.get(source, topic.topic_id), {**topic.next, partition: following}
            )
    return after


def start_offsets(
    source: str,
    read: Mapping[int, int],
    earliest: Mapping[int, int],
    latest: Mapping[int, int],
    accept_loss: bool,
) -> dict[int, int]:
    """The offset each partition of a topic is read from. `earliest` and `latest`: what the broker has, [from, to).

    OffsetsLost when records between the offsets of record and the broker's first are gone, unless that is accepted.
    """
    if gone := sorted(set(read) - set(earliest)):
        raise OffsetsLost(
            f"{source}: partition {gone[0]} has been read and is not there any more, so the topic was made anew; "
            f"{_WAY_OUT}"
        )
    starts = {}
    for partition, first in sorted(earliest.items()):
        starts[partition] = read.get(partition, EARLIEST)
        if partition not in read or first <= read[partition] <= latest[partition]:
            continue
        if not accept_loss:
            raise OffsetsLost(
                f"{source}: {_what_is_lost(partition, read[partition], first, latest[partition])}"
            )
        starts[partition] = first
    return starts


def _what_is_lost(partition: int, following: int, first: int, end: int) -> str:
    if following < first:
        return (
            f"partition {partition} is read up to offset {following} and the broker begins at {first}: its retention "
            f"has removed up to {first - following} records that were not read; to go on from there, set "
            "`kafka_fail_on_data_loss: false` in the settings file"
        )
    return (
        f"partition {partition} is read up to offset {following} and ends at {end}: the broker has lost records, or "
        f"the topic was made anew; {_WAY_OUT}"
    )


_WAY_OUT = (
    "to read what it has now as a new source, set `kafka_fail_on_data_loss: false` in the settings file, "
    "or name another topic"
)
