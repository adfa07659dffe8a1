"""The command line: what it answers, and that a user's mistake is one line and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from conf.tables import BATCHES, PROFILES
from pipelines.apps.cli.__main__ import main
from pipelines.generator import generate
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lock import lake_lock


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    generate(20, 80, seed=3, out=folder)
    return folder / "part-00000.jsonl"


def _resolved(events, folder, *options: str) -> list[bytes]:
    folder.mkdir()
    outputs = [folder / name for name in ("people", "events", "rejected")]
    flags = ("--output", "--events-output", "--rejected-output")
    paths = [text for pair in zip(flags, map(str, outputs), strict=True) for text in pair]
    assert main(["resolve", str(events), *paths, *options]) == 0
    return [path.read_bytes() for path in outputs]


def test_resolve_answers_the_same_at_once_and_in_batches(spark, events, tmp_path):
    whole = _resolved(events, tmp_path / "whole")
    assert _resolved(events, tmp_path / "cut", "--batch-size", "13") == whole
    people = [json.loads(line) for line in whole[0].splitlines()]
    assert people
    assert all(set(p) == {"tenant", "namespace", "value", "canonical_id"} for p in people)
    named = {f"{p['namespace']}:{p['value']}" for p in people}
    assert {p["canonical_id"] for p in people} <= named
    assert whole[0].splitlines() == sorted(whole[0].splitlines())
    assert {"tenant", "event_id", "canonical_id", "session_id"} == set(json.loads(whole[1].splitlines()[0]))


@pytest.mark.slow  # 344 batches
def test_resolve_answers_the_same_for_300_records_one_seven_and_all_at_a_time(spark, tmp_path):
    generate(60, 300, seed=8, out=tmp_path / "in")
    (file,) = (tmp_path / "in").iterdir()
    whole = _resolved(file, tmp_path / "whole")
    assert _resolved(file, tmp_path / "seven", "--batch-size", "7") == whole
    assert _resolved(file, tmp_path / "one", "--batch-size", "1") == whole


def test_attached_weak_identifiers_join_people_and_are_neither_listed_nor_anybodys_name(spark, tmp_path):
    shown = [
        {"email": "a@b.com", "browser_id": "br1"},
        {"wallet_address": "0xABC123", "browser_id": "br1"},
        {"email": "a@b.com", "ip_address": "1.2.3.4"},
        {"wallet_address": "0xXYZ999", "browser_id": "br2"},
    ]
    lines = [{"event_id": str(n), "timestamp": 1700000000 + n, "identifiers": i} for n, i in enumerate(shown)]
    events = tmp_path / "events.jsonl"
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    people, owned, _ = _resolved(events, tmp_path / "out", "--policy", "attach_weak")
    assert {(p["value"], p["canonical_id"]) for p in map(json.loads, people.splitlines())} == {
        ("a@b.com", "email:a@b.com"),
        ("0xABC123", "email:a@b.com"),
        ("0xXYZ999", "wallet_address:0xXYZ999"),
    }
    assert [json.loads(e)["canonical_id"] for e in owned.splitlines()] == [
        "email:a@b.com",
        "email:a@b.com",
        "email:a@b.com",
        "wallet_address:0xXYZ999",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--source", "native:/no/such/folder", "--once"], "/no/such/folder"),
        (["run", "--source", "nosuch:.", "--once"], "nosuch"),
        (["run", "--source", "native:in", "--policy", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--source", "native:in", "--env", "moon"], "moon"),
        (["resolve", "missing.jsonl", "--output", "x"], "missing.jsonl"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_second_writer_is_refused(make_lake, capsys):
    world = make_lake()
    with lake_lock(world.path):
        assert main(["run", "--source", f"native:{world.landing}", "--once", "--lake", str(world.path)]) == 1
    assert "being written by process" in capsys.readouterr().err


def test_another_policy_is_refused_and_says_what_to_do(make_lake, capsys, tmp_path):
    world = make_lake()
    world.drop(
        "1.jsonl", [{"event_id": "a", "timestamp": "2026-01-01T00:00:00Z", "identifiers": {"user_id": "u"}}]
    )
    world.once()
    (tmp_path / "other.yaml").write_text("namespaces: {user_id: {strength: unique, priority: 1}}\n")
    source = f"native:{world.landing}"
    policy = str(tmp_path / "other.yaml")
    assert main(["run", "--source", source, "--once", "--lake", str(world.path), "--policy", policy]) == 1
    assert "another identity policy" in capsys.readouterr().err


def test_a_missing_key_is_refused_and_not_replaced(make_lake, capsys):
    world = make_lake()
    world.drop(
        "1.jsonl", [{"event_id": "a", "timestamp": "2026-01-01T00:00:00Z", "identifiers": {"user_id": "u"}}]
    )
    world.once()
    key_path(world.path).unlink()
    assert main(["run", "--source", f"native:{world.landing}", "--once", "--lake", str(world.path)]) == 1
    assert "put it back" in capsys.readouterr().err
    assert not key_path(world.path).exists()


def test_a_failed_batch_is_one_line_without_data_and_the_next_run_completes_it(make_lake, capfd, monkeypatch):
    world = make_lake()
    world.drop(
        "1.jsonl", [{"event_id": "a", "timestamp": "2026-01-01T00:00:00Z", "identifiers": {"user_id": "u"}}]
    )

    def fail(*_: object) -> None:
        raise ValueError("somebody@example.com")

    command = ["run", "--source", f"native:{world.landing}", "--once", "--lake", str(world.path)]
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.steps.identify", fail)
        assert main(command) == 1
    said = capfd.readouterr()
    assert "could not be published: ValueError" in said.err
    assert "somebody" not in said.err + said.out
    assert "Traceback" not in said.err
    assert main(command) == 0
    assert world.people() == {frozenset({"user_id:u"})}


@pytest.mark.spark
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_running_stream_stops_cleanly_and_leaves_complete_tables(make_lake, events, number, tmp_path):
    world = make_lake()
    world.drop("1.jsonl", events.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pipelines.apps.cli",
        "run",
        "--json",
        "--source",
        f"native:{world.landing}",
    ]
    process = subprocess.Popen(
        [*command, "--lake", str(world.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["received"] == 80
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert max(world.rows(BATCHES), key=lambda b: b["batch_id"])["kind"] == "compaction"
    assert world.lake.open(PROFILES).count() == len(world.rows(PROFILES)) > 0
