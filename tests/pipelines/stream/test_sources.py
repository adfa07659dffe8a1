"""Where records come from, and which files are taken."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest
from chispa import assert_df_equality

from pipelines.stream.source import Source, SourceError, parse_source
from pipelines.stream.sources import left_out, read_files, read_stream


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder whose name has everything that a pattern or a URL could trip over."""
    folder = tmp_path / "lände #1 [a]{b} 100%41"
    (folder / "süb dir%").mkdir(parents=True)
    return folder


def land(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_folder_is_known_by_its_mapping_and_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events").mkdir()
    assert parse_source("native:events/") == Source(
        "native", f"{tmp_path}/events", "file", f"native:{tmp_path}/events"
    )
    assert parse_source(f"flat:{tmp_path}/events/../events").name == f"flat:{tmp_path}/events"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("events/", "write it as MAPPING:FOLDER, for example native:events/"),
        ("native:", "write it as MAPPING:FOLDER"),
        ("natve:events/", "no source mapping 'natve'; known are .*native"),
        ("native:nowhere", "there is no folder .*nowhere; create it, or correct the path"),
        ("native:file.jsonl", "is a file; give the folder it is in"),
        ("native:kafka://host/topic", "broker 'host' is not HOST:PORT, for example localhost:9092"),
        ("native:kafka://host:9092", "write a topic as MAPPING:kafka://HOST:PORT/TOPIC"),
        ("native:kafka://host:9092/a,b", "characters that Kafka does not allow"),
        ("native:kafka://me:secret@host:9092/a", "put it under `kafka:` in the settings file"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_the_way_out(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.jsonl").touch()
    with pytest.raises(SourceError, match=said) as refused:
        parse_source(text)
    assert "secret" not in str(refused.value)


def test_a_topic_has_one_name_in_whatever_order_its_brokers_are_given():
    source = parse_source("native:kafka://Two:9092,one:09092/clicks")
    assert source == parse_source("native:kafka://one:9092,two:9092/clicks")
    assert source == Source(
        "native", "one:9092,two:9092/clicks", "kafka", "native:kafka://one:9092,two:9092/clicks"
    )
    assert left_out(source) == {}


def test_names_that_will_not_be_read_are_reported_and_those_in_flight_are_not(landing):
    land(landing, "a.jsonl", "süb dir%/b.CSV.GZ", "notes.txt", "süb dir%/x.jsonl.bz2", "jsonl", "jsonl.gz")
    land(landing, ".c.jsonl", "_d.txt", ".tmp/e.txt", "_tmp/f.txt", "g.txt._COPYING_")
    big = landing / "big.jsonl"
    with big.open("wb") as f:
        f.truncate(2**31)
    source = parse_source(f"native:{landing}")
    unknown = "no extension that is known (.ndjson, .jsonl, .json, .csv, .parquet, or .gz of it)"
    assert left_out(source) == {
        "larger than 2 GiB": ["big.jsonl"],
        unknown: ["jsonl", "jsonl.gz", "notes.txt", "süb dir%/x.jsonl.bz2"],
    }


def take(spark, sources: list[Source], checkpoint: Path) -> list:
    rows: list = []
    query = (
        read_stream(spark, sources, 100)
        .writeStream.option("checkpointLocation", str(checkpoint))
        .foreachBatch(lambda batch, _: rows.extend(batch.collect()))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    return rows


def test_every_landed_file_is_read_once_under_its_own_name(spark, landing, tmp_path):
    names = [
        "a b.jsonl",
        "ü#1.json",
        "p%41.ndjson",
        "2024-05-01T10:00:00.jsonl.gz",
        "U.JSONL",
        "süb dir%/q?.csv",
        "b*.csv",
    ]
    land(landing, *names)
    land(landing, ".h.jsonl", "_h.jsonl", "_h=1.jsonl", "_t/x.jsonl", ".t/x.jsonl", "x.txt", "jsonl")
    os.utime(landing / "a b.jsonl", (1e9, 1e9))  # decades older than the newest
    with (landing / "big.jsonl").open("wb") as f:
        f.truncate(2**31)
    other = tmp_path / "other"
    land(other, "a b.jsonl")
    sources = [parse_source(f"native:{landing}"), parse_source(f"flat:{other}")]

    rows = take(spark, sources, tmp_path / "checkpoint")

    taken = {(r.source, r.path) for r in rows}
    assert taken == {(sources[0].name, n) for n in names} | {(sources[1].name, "a b.jsonl")}
    assert all(bytes(r.content) == r.path.encode() for r in rows)
    assert {(r.mapping, r.feed, r.kind) for r in rows} == {
        ("native", "events", "file"),
        ("flat", "events", "file"),
    }
    (old,) = [r for r in rows if r.path == "a b.jsonl" and r.mapping == "native"]
    assert old.transport_at.timestamp() == 1e9

    land(landing, "later.jsonl")
    assert [r.path for r in take(spark, sources, tmp_path / "checkpoint")] == ["later.jsonl"]


def test_the_same_source_twice_or_none_is_refused(spark, tmp_path):
    source = parse_source(f"native:{tmp_path}")
    with pytest.raises(SourceError, match="given twice"):
        read_stream(spark, [source, source], 1)
    with pytest.raises(SourceError, match="no source"):
        read_stream(spark, [], 1)


def test_landed_files_are_rows_with_their_name_inside_the_folder_and_their_bytes(spark, tmp_path):
    """The folder's own name has brackets, which Spark would take for a pattern."""
    folder = tmp_path / "landing [1]"
    (folder / "day=1").mkdir(parents=True)
    for name, content in (("a.jsonl", b"{}\n"), ("day=1/b c.json", b"[]"), ("day=1/_c=1.json", b"[]")):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    source = parse_source(f"native:{folder}")
    at = datetime.fromtimestamp(
        1_700_000_000
    )  # Spark's own way to take an instant: this machine's local time
    kind = "source string, mapping string, feed string, kind string, path string, content binary"
    shared = (source.name, "native", "events", "file")
    wanted = [(*shared, "a.jsonl", bytearray(b"{}\n"), at), (*shared, "day=1/b c.json", bytearray(b"[]"), at)]
    assert_df_equality(
        read_files(spark, source, sorted(folder.rglob("*.json*"))),
        spark.createDataFrame(wanted, f"{kind}, transport_at timestamp"),
        ignore_row_order=True,
        ignore_nullable=True,
    )
