"""Instants are shown as UTC, whatever zone and language the machine has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.apps.cli.__main__ import main
from pipelines.apps.cli.sql import plain_json
from pipelines.apps.notebooks import as_text
from pipelines.runtime.spark_rows import rows_of
from tests.direct_lake import DirectLake

# Before and after the hour that Detroit repeats, half an hour's shift, and a change of half an hour.
ZONES = ("UTC", "America/Detroit", "Asia/Kolkata", "Australia/Lord_Howe")
STARTS, ENDS = "2026-11-01T05:50:00Z", "2026-11-01T06:10:00Z"


@pytest.fixture
def zones(monkeypatch) -> Iterator[Iterator[str]]:
    """The process in one zone after the other."""

    def each() -> Iterator[str]:
        for zone in ZONES:
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            yield zone

    yield each()
    monkeypatch.undo()
    time.tzset()


def test_spark_rows_are_utc_in_every_zone_and_a_session_ends_after_it_starts(spark, zones) -> None:
    frame = spark.sql(
        f"SELECT timestamp'{STARTS}' a, timestamp'{ENDS}' a, map('at', array(timestamp'{STARTS}')) m"
    )
    for zone in zones:
        assert plain_json(rows_of(frame)[0]) == [STARTS, ENDS, {"at": [STARTS]}], zone
        assert as_text(frame).count(ENDS) == 1, zone


READERS = (
    ("sql", "SELECT start_at, end_at FROM gold.person_sessions ORDER BY ALL", "--csv"),
    ("sql", "SELECT * FROM gold.events ORDER BY event_id", "--json"),
    ("sql", "SELECT start_at, published_at FROM gold.person_sessions, ops.batches"),
    ("profile", "user_id:u", "--json"),
    ("profile", "user_id:u"),
    ("explain", "user_id:u", "device_id:d", "--json"),
    ("quarantine", "list", "--json"),
    ("quarantine", "list", "--since", "2026-11-01T05:00:00Z"),
)


def test_every_reader_says_the_same_in_every_zone(tmp_path: Path, zones, capsys) -> None:
    lake = DirectLake(tmp_path / "lake")
    visit = [
        {"event_id": str(n), "timestamp": at, "identifiers": {"user_id": "u", "device_id": "d"}}
        for n, at in enumerate((STARTS, ENDS))
    ]
    lake.feed([*visit, {"event_id": "x"}])
    said: dict[str, list[str]] = {}
    for zone in zones:
        said[zone] = []
        for command in READERS:
            assert main([*command, "--lake", str(lake.path)]) == 0, (zone, command)
            said[zone].append(capsys.readouterr().out)
        assert main(["status", "--json", "--lake", str(lake.path)]) == 0
        published_at = json.loads(capsys.readouterr().out)["published_at"]
        assert abs((datetime.now(UTC) - datetime.fromisoformat(published_at)).total_seconds()) < 600
    assert [zone for zone in said if said[zone] != said["UTC"]] == []
    assert f"{STARTS},{ENDS}" in said["UTC"][0]


def test_the_generator_writes_the_same_bytes_in_every_zone(tmp_path: Path) -> None:
    """In processes of their own: much of it is made when it is imported."""
    written = []
    for zone in ZONES[:2]:
        folder = tmp_path / zone.replace("/", "-")
        words = ("--persons", "5", "--events", "60", "--seed", "3", "--out", str(folder))
        command = [sys.executable, "-m", "pipelines.apps.cli", "generate", *words]
        subprocess.run(command, env={**os.environ, "TZ": zone}, check=True, capture_output=True)
        written.append([(p.name, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()])
    assert written[0] == written[1] != []
