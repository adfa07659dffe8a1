"""How a topic is named, and what is put on record of it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipelines.lake.topic_address import is_topic, parse_address, without_credentials
from pipelines.stream.kafka.offsets import (
    EARLIEST,
    TopicOffsets,
    advanced,
    from_json,
    start_offsets,
    to_json,
)
from pipelines.stream.kafka.problems import OffsetsLost, is_loss, is_outage, is_refusal

A, B = "native:kafka://h:9092/a", "native:kafka://h:9092/b-c.d"


def test_an_address_is_brokers_and_a_topic():
    address = parse_address("kafka://B:9092,[::1]:9093,a:9092/x.y-z_1")
    assert (address.bootstrap, address.topic) == ("[::1]:9093,a:9092,b:9092", "x.y-z_1")
    assert parse_address(address.location) == address


def test_topics_and_folders_are_told_apart_by_name():
    assert is_topic(A)
    assert not is_topic("native:/srv/kafka:/events")


def test_what_stands_before_an_at_sign_is_not_shown():
    assert "hunter2" not in without_credentials("native:kafka://me:hunter2@h:9092/a")
    assert "hunter2" not in without_credentials("kafka://hunter2@h:9092/a")
    assert without_credentials("native:events/") == "native:events/"


def received(*places: tuple[str, str, int]) -> pa.Table:
    columns = zip(*places, strict=True)
    return pa.table(dict(zip(("source", "origin", "origin_ordinal"), map(list, columns), strict=True)))


def test_offsets_of_record_follow_what_was_received_and_know_no_files():
    before = {A: TopicOffsets("id-a", {0: 5, 1: 7})}
    after = advanced(
        before,
        received(
            (A, "a-0", 5), (A, "a-0", 9), (A, "a-2", 0), (B, "b-c.d-0", 3), ("native:/in", "x-1.jsonl", 8)
        ),
        {A: "id-a", B: "id-b"},
    )
    assert after == {A: TopicOffsets("id-a", {0: 10, 1: 7, 2: 1}), B: TopicOffsets("id-b", {0: 4})}
    assert before == {A: TopicOffsets("id-a", {0: 5, 1: 7})}
    assert from_json(to_json(after)) == after
    assert json.loads(to_json(after))[A] == {"topic_id": "id-a", "next": {"0": 10, "1": 7, "2": 1}}


def test_reading_starts_at_the_offsets_of_record_and_where_a_new_partition_begins():
    assert start_offsets("s", {0: 5}, {0: 2, 1: 0}, {0: 9, 1: 4}, False) == {0: 5, 1: EARLIEST}
    assert start_offsets("s", {0: 9}, {0: 9}, {0: 9}, False) == {0: 9}


@pytest.mark.parametrize(
    ("read", "earliest", "latest", "said"),
    [
        ({0: 5}, {0: 8}, {0: 9}, "removed up to 3 records that were not read"),
        ({0: 5}, {0: 0}, {0: 3}, "read up to offset 5 and ends at 3"),
        ({0: 5, 1: 1}, {0: 0}, {0: 9}, "partition 1 has been read and is not there any more"),
    ],
)
def test_records_that_are_gone_are_told_with_the_way_out(read, earliest, latest, said):
    with pytest.raises(OffsetsLost, match=said) as lost:
        start_offsets("native:kafka://h:9092/a", read, earliest, latest, False)
    assert "kafka_fail_on_data_loss: false" in str(lost.value)


def test_with_loss_accepted_reading_goes_on_where_the_broker_begins():
    assert start_offsets("s", {0: 5, 1: 9}, {0: 8, 1: 2}, {0: 9, 1: 4}, True) == {0: 8, 1: 2}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (is_outage, "Caused by: org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node."),
        (is_outage, "java.util.concurrent.TimeoutException: Cannot fetch record for offset 5 in 30000 milliseconds"),
        (is_loss, "[KAFKA_DATA_LOSS.START_OFFSET_RESET] Some data may have been lost"),
        (is_refusal, "org.apache.kafka.common.errors.SaslAuthenticationException: no"),
        (is_refusal, "org.apache.kafka.common.errors.TopicAuthorizationException: no"),
    ],
)  # fmt: skip
def test_a_failed_query_is_of_one_kind(kind, said):
    assert [k for k in (is_outage, is_loss, is_refusal) if k(said)] == [kind]
    assert not any(k("java.lang.NullPointerException") for k in (is_outage, is_loss, is_refusal))
