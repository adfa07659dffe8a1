"""Topics as sources, for real: broker → Structured Streaming → Delta tables, nothing lost and nothing repeated."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from zlib import adler32

import pytest

from conf.settings import load_settings
from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, QUARANTINE
from pipelines.apps.cli.__main__ import main
from pipelines.apps.run_stream import StreamFailed, run_stream
from pipelines.generator import generate
from pipelines.lake.snapshot import published
from pipelines.stream.kafka.offsets import offsets_of_record
from pipelines.stream.kafka.problems import OffsetsLost
from pipelines.stream.kafka.topics import topics_of
from pipelines.stream.kafka.watch import TopicWatch
from pipelines.stream.source import Source, parse_source
from pipelines.stream.sources import read_stream
from tests.pipelines.stream.kafka.conftest import LOGIN, PASSWORD, event, key_of


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> list[bytes]:
    """Generated lines, defects and duplicates included, but for valid ones without an id of their own."""
    folder = tmp_path_factory.mktemp("generated")
    generate(100, 1_200, seed=7, out=folder, events_per_file=1_200)
    lines = (folder / "part-00000.jsonl").read_bytes().splitlines()
    return [line for line in lines if key_of(line)]


def folder_of(world) -> Source:
    return Source("native", str(world.landing), "file", "native:test")


def places(world) -> list[tuple[str, str, int]]:
    rows = world.rows(BRONZE_EVENTS, ["source", "origin", "origin_ordinal"])
    return sorted((r["source"], r["origin"], r["origin_ordinal"]) for r in rows)


def assert_conserved(world, received: int) -> None:
    batches = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    for b in batches:
        assert b["received_count"] == b["valid_count"] + b["quarantined_count"] + b["duplicate_count"]
    assert sum(b["received_count"] for b in batches) == received
    assert len(places(world)) == len(set(places(world))) == received


def test_the_same_events_by_topic_and_by_file_give_the_same_tables(make_lake, kafka, once, generated):
    by_file, by_topic = make_lake(), make_lake(max_offsets_per_trigger=800)
    by_file.drop("all.jsonl", b"\n".join(generated))
    by_file.once()

    one, two = kafka.topic(3), kafka.topic(1)
    # One event's records stay in one partition; the second half of each topic arrives while nothing runs.
    halves = [
        [line for line in generated if (adler32(key_of(line)) % 3 == 0) == is_two] for is_two in (False, True)
    ]
    sources = [kafka.source(one), kafka.source(two)]
    kafka.send(one, *halves[0][:700], headers=[("trace", b"t-1"), ("empty", None), ("trace", b"t-2")])
    kafka.send(two, *halves[1][:200])
    once(by_topic, *sources)
    kafka.send(one, *halves[0][700:])
    kafka.send(two, *halves[1][200:])
    assert once(by_topic, *reversed(sources)).received_count == len(generated) - 900
    assert once(by_topic, *sources).received_count == 0

    assert by_topic.contents() == by_file.contents()
    assert_conserved(by_topic, len(generated))
    assert len([b for b in by_topic.rows(BATCHES) if b["kind"] == "batch"]) >= 3
    rows = by_topic.rows(BRONZE_EVENTS)
    assert all(r["record_key"] == key_of(r["payload"]) for r in rows)
    headed = [r for r in rows if r["headers"]]
    assert len(headed) == 700
    assert headed[0]["headers"] == [
        {"key": "trace", "value": b"t-1"},
        {"key": "empty", "value": None},
        {"key": "trace", "value": b"t-2"},
    ]
    assert {r["source"] for r in headed} == {sources[0].name}
    assert {r["origin"] for r in rows} == {f"{one}-{p}" for p in range(3)} | {f"{two}-0"}
    assert all(r["received_at"] for r in by_topic.rows(EVENTS))


@pytest.mark.slow  # six streams on a broker
def test_sources_come_and_go_and_checkpoints_are_lost_and_every_record_is_read_once(make_lake, kafka, once):
    world = make_lake()
    a, b = kafka.topic(3), kafka.topic(2)
    topic_a, topic_b, folder = kafka.source(a), kafka.source(b), folder_of(world)
    numbers = iter(range(1000))

    def more(count: int) -> list[dict]:
        return [event(next(numbers)) for _ in range(count)]  # without ids: what is read twice is there twice

    kafka.send(a, *more(10))
    assert once(world, topic_a).received_count == 10
    kafka.send(b, *more(7))
    world.drop("1.jsonl", more(4))
    assert once(world, folder, topic_b, topic_a).received_count == 11
    kafka.send(a, *more(3))
    kafka.send(b, *more(2))
    world.drop("2.jsonl", more(1))
    assert once(world, folder, topic_b).received_count == 3
    assert once(world, topic_a).received_count == 3
    shutil.rmtree(world.path / "_checkpoints")
    kafka.send(a, *more(5))
    world.drop("3.jsonl", more(2))
    assert once(world, topic_a, topic_b, folder).received_count == 7
    # The same broker by another name is the same topic.
    kafka.send(a, *more(1))
    assert once(world, kafka.source(a, host="localhost")).received_count == 1
    # A checkpoint that was begun and killed before it published anything still passes over what others have read.
    _begin_checkpoint(world, folder, topic_a, topic_b)
    kafka.send(b, *more(2))
    assert once(world, folder, topic_a, topic_b).received_count == 2
    assert_conserved(world, 37)
    assert len(world.rows(EVENTS)) == 37


def _begin_checkpoint(world, *sources: Source) -> None:
    pointer = world.path / "_stitchlake" / "stream.json"
    last = json.loads(pointer.read_text())["stream"]
    fresh = world.path / "_checkpoints" / "begun"
    fresh.mkdir()
    shutil.copy(world.path / "_checkpoints" / last / "metadata", fresh / "metadata")
    pointer.write_text(json.dumps({"stream": "begun", "sources": sorted(s.name for s in sources)}))


def test_what_is_no_event_is_quarantined_with_its_key_in_bronze(make_lake, kafka, once):
    from confluent_kafka import Producer

    world = make_lake(max_record_bytes=1000)
    topic = kafka.topic(1)
    kafka.send(
        topic, event(1, event_id="good"), None, b"", b"{", b"[1]", event(2, properties={"x": "y" * 1000})
    )
    producer = Producer({"bootstrap.servers": kafka.broker.address})
    producer.produce(topic, None, key=b"gone")
    producer.produce(
        topic, json.dumps(event(3, event_id="late")), timestamp=4_200_000
    )  # 1970: not a time of ours
    producer.flush(30)
    once(world, kafka.source(topic))
    reasons = {r["origin_ordinal"]: r["reasons"] for r in world.rows(QUARANTINE)}
    assert reasons == {
        1: ["tombstone"], 2: ["malformed_json"], 3: ["malformed_json"], 4: ["not_an_object"],
        5: ["record_too_large"], 6: ["tombstone"],
    }  # fmt: skip
    rows = {r["origin_ordinal"]: r for r in world.rows(BRONZE_EVENTS)}
    assert (rows[6]["record_key"], rows[6]["payload"], rows[6]["payload_format"]) == (
        b"gone",
        None,
        "tombstone",
    )
    assert rows[2]["payload"] == b""
    assert rows[7]["received_at"] is None
    assert_conserved(world, 8)


def test_offsets_that_aged_out_stop_the_stream_with_the_way_out_and_that_way_leads_on(make_lake, kafka, once):
    world = make_lake()
    topic = kafka.topic(2)
    source = kafka.source(topic)
    kafka.send(topic, *(event(n) for n in range(10)), partition=0)
    once(world, source)
    kafka.send(topic, *(event(n) for n in range(10, 16)), partition=0)
    kafka.forget(topic, 0, before=14)
    for _ in range(2):  # with the checkpoint, and without it
        with pytest.raises(
            OffsetsLost, match="partition 0 is read up to offset 10 and the broker begins at 14"
        ):
            once(world, source)
        shutil.rmtree(world.path / "_checkpoints", ignore_errors=True)
    assert once(world, source, kafka_fail_on_data_loss=False).received_count == 2
    assert {o for _, _, o in places(world)} == {*range(10), 14, 15}


def test_a_topic_made_anew_is_not_taken_for_the_old_one(make_lake, kafka, once):
    world = make_lake()
    topic = kafka.topic(1)
    kafka.send(topic, event(1), event(2))
    once(world, kafka.source(topic))
    kafka.delete(topic)
    _made_again(kafka, topic)
    kafka.send(topic, event(3), event(4), event(5))
    with pytest.raises(OffsetsLost, match="deleted and made anew"):
        once(world, kafka.source(topic))
    assert once(world, kafka.source(topic), kafka_fail_on_data_loss=False).received_count == 3
    kafka.send(topic, event(6))
    assert once(world, kafka.source(topic)).received_count == 1
    assert_conserved(world, 6)
    assert len({source for source, _, _ in places(world)}) == 2


def lag_of(world, capsys) -> int | None:
    capsys.readouterr()
    assert main(["status", "--lake", str(world.path), "--json"]) == 0
    (topic,) = json.loads(capsys.readouterr().out)["topics"]
    return topic["lag_count"]


def test_markers_of_transactions_and_what_they_took_back_are_no_records(make_lake, kafka, once, capsys):
    """Each transaction ends in an offset without a record, and an aborted one is offsets without records."""
    world = make_lake()
    topic = kafka.topic(2)
    kafka.transaction(topic, event(1), event(2))
    kafka.transaction(topic, event(3), event(4), is_committed=False)
    kafka.send(topic, event(5), partition=1)
    assert once(world, kafka.source(topic)).received_count == 3
    assert {(origin.rpartition("-")[2], ordinal) for _, origin, ordinal in places(world)} == {
        *(("0", 0), ("0", 1), ("1", 0))
    }
    assert lag_of(world, capsys) == 0
    kafka.transaction(topic, event(6), is_committed=False)
    assert lag_of(world, capsys) == 0
    kafka.transaction(topic, event(7))
    assert lag_of(world, capsys) == 2  # from the record to the end, its marker included
    shutil.rmtree(world.path / "_checkpoints")  # a new one begins at the offsets of record
    assert once(world, kafka.source(topic)).received_count == 1
    assert lag_of(world, capsys) == 0
    assert_conserved(world, 4)


def test_a_topic_that_is_made_anew_while_its_stream_runs_publishes_nothing_of_the_new_one(
    make_lake, kafka, once
):
    """Between two batches: the new topic is longer than the old one was, so that the offsets fit by chance."""
    world = make_lake()
    topic = kafka.topic(1)
    source = kafka.source(topic)
    kafka.send(topic, event(1), event(2))
    once(world, source)
    known = offsets_of_record(world.lake, published(world.lake))
    _, topics = topics_of(world.spark, [source], known, world.settings)
    with closing(TopicWatch(world.spark, topics)) as watch:
        watch.require_same()
        assert watch.missing() is None
        kafka.delete(topic)
        _wait(lambda: watch.missing() == source.name)
        _made_again(kafka, topic)
        kafka.send(topic, *(event(n) for n in range(10, 16)))
        with pytest.raises(OffsetsLost, match="deleted and made anew while the stream ran"):
            watch.require_same()


@pytest.mark.parametrize("is_made_again", [False, True], ids=["deleted", "made anew"])
def test_a_stream_whose_topic_is_deleted_ends_and_says_so(make_lake, kafka, is_made_again, monkeypatch):
    monkeypatch.setattr("pipelines.apps.run_stream._RETRY_SECONDS", 0.5)
    short = {"default.api.timeout.ms": "2000", "request.timeout.ms": "2000"}
    world = make_lake(trigger_seconds=0.1, kafka=short)
    topic = kafka.topic(1)
    kafka.send(topic, event(1), event(2))
    seen: list[int] = []

    def on_published(report) -> None:
        seen.append(report.received)
        if len(seen) == 1:
            kafka.delete(topic)
            if is_made_again:
                _made_again(kafka, topic)
                kafka.send(topic, *(event(n) for n in range(10, 20)))

    with pytest.raises(StreamFailed, match="made anew" if is_made_again else "the topic was deleted"):
        run_stream(
            world.spark, world.path, [kafka.source(topic)], world.policy, world.settings,
            once=False, stop=threading.Event(), on_published=on_published,
        )  # fmt: skip
    assert sum(seen) == 2
    assert_conserved(world, 2)


def _wait(holds: Callable[[], object]) -> None:
    until = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def _made_again(kafka, topic: str) -> None:
    from confluent_kafka import KafkaException

    for _ in range(50):  # a topic is deleted a moment after the broker says so
        try:
            kafka.topic(1, name=topic)
            return
        except KafkaException:
            time.sleep(0.2)
    raise AssertionError("the topic cannot be made again")


def _settings_file(tmp_path, kafka, text: str = "") -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "engine: driver\nkafka_wait_seconds: 3\nkafka:\n  security.protocol: SASL_PLAINTEXT\n"
        "  sasl.mechanism: PLAIN\n  sasl.jaas.config: ${KAFKA_LOGIN}\n" + text
    )
    return str(path)


def test_a_login_works_and_its_password_is_found_nowhere(
    make_lake, kafka, tmp_path, capfd, monkeypatch, caplog
):
    world = make_lake()
    topic = kafka.topic(1)
    kafka.send(topic, event(1), event(2))
    source = f"native:kafka://127.0.0.1:{kafka.login_port}/{topic}"
    command = ["run", "--once", "--lake", str(world.path), "--source", source]
    command += ["--env", _settings_file(tmp_path, kafka)]

    monkeypatch.setenv("KAFKA_LOGIN", LOGIN.replace(PASSWORD, "wrong-" + PASSWORD))
    caplog.set_level("DEBUG", logger="stitchlake")
    assert main(command) == 1
    refused = capfd.readouterr().err
    assert "refuses access (SaslAuthenticationException)" in refused
    assert len(refused.strip().splitlines()) == 1
    monkeypatch.setenv("KAFKA_LOGIN", f"nonsense {PASSWORD}")
    assert main(command) == 1
    unusable = capfd.readouterr().err
    assert "does not start with the settings under `kafka:`" in unusable
    monkeypatch.setenv("KAFKA_LOGIN", LOGIN)
    assert main(command) == 0, capfd.readouterr().err
    kafka.send(topic, event(3))
    assert main(["status", "--lake", str(world.path), "--env", command[-1]]) == 0
    said = capfd.readouterr()
    assert f"{source}  1 partitions read to offsets of 2 in all; 1 records behind" in said.out
    assert len(world.rows(BRONZE_EVENTS)) == 2

    settings = load_settings(command[-1])
    named, topics = topics_of(world.spark, [parse_source(source)], {}, settings)
    plan = read_stream(world.spark, named, 1, topics)._jdf.queryExecution().toString()
    assert topic in plan or "kafka" in plan.lower()
    in_files = [
        path for path in world.folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]
    assert in_files == []
    for text in (refused, unusable, said.out, said.err, plan, repr(topics), caplog.text):
        assert PASSWORD not in text
        assert "PlainLoginModule" not in text


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("127.0.0.1:1/events", 1, "no Kafka broker answers at 127.0.0.1:1 (connection refused)"),
        ("{address}/no-such-topic", 2, "has no topic 'no-such-topic'"),
    ],
)
def test_a_broker_that_is_down_or_has_no_such_topic_is_one_line_at_the_start(
    kafka, spark, tmp_path, capfd, place, code, said
):
    source = f"native:kafka://{place.format(address=kafka.broker.address)}"
    started = time.monotonic()
    assert main(["run", "--lake", str(tmp_path / "lake"), "--source", source]) == code
    assert time.monotonic() - started < 60
    error = capfd.readouterr().err.strip().splitlines()
    assert said in error[-1]
    assert [line for line in error if "streaming into" not in line] == error[-1:]


@pytest.mark.slow  # waits for a broker that is away
def test_a_broker_that_is_killed_and_comes_back_changes_nothing(make_lake, kafka, capsys, monkeypatch):
    monkeypatch.setattr("pipelines.apps.run_stream._RETRY_SECONDS", 0.5)
    # Less patience than usual, so that the query gives up and is started again.
    short = {"default.api.timeout.ms": "2000", "request.timeout.ms": "2000"}
    world = make_lake(trigger_seconds=0.1, kafka=short)
    topic = kafka.topic(2)
    stop, seen, told, failed = threading.Event(), [], [], []

    def stream() -> None:
        try:
            run_stream(
                world.spark, world.path, [kafka.source(topic)], world.policy, world.settings,
                once=False, stop=stop, on_published=seen.append, on_trouble=told.append,
            )  # fmt: skip
        except Exception as e:
            failed.append(e)

    def wait_until(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not holds() and time.monotonic() < deadline and not failed:
            time.sleep(0.1)
        assert failed == []
        assert holds()

    def received() -> int:
        return sum(r.received for r in seen)

    running = threading.Thread(target=stream)
    running.start()
    try:
        kafka.send(topic, *(event(n) for n in range(20)))
        wait_until(lambda: received() == 20)
        kafka.broker.kill()
        assert main(["status", "--lake", str(world.path), "--json"]) == 0
        (status,) = json.loads(capsys.readouterr().out)["topics"]
        assert sum(status["next_offsets"].values()) == 20
        assert status["lag_count"] is None
        assert "no Kafka broker answers" in status["problem"]
        wait_until(lambda: told)
        kafka.broker.start()
        kafka.send(topic, *(event(n) for n in range(20, 50)))
        wait_until(lambda: received() == 50)
    finally:
        stop.set()
        running.join(300)
    assert failed == []
    assert_conserved(world, 50)
    assert Counter(r["mapping"] for r in world.rows(BRONZE_EVENTS)) == {"native": 50}
