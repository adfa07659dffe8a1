"""`stitchlake sql` and `stitchlake status`: what they print, and what they say when they cannot."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conf.tables import BRONZE_EVENTS, PROFILES
from pipelines.apps.cli import sql as sql_command
from pipelines.apps.cli import status as status_command
from pipelines.lake.lake import Lake
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import make_lake, minute, publish, rows_of

pytestmark = pytest.mark.thorough  # many small tables; left to the whole run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def lake(lake_dir: Path) -> Lake:
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    people = [{"canonical_id": n, "login_count": n, "updated_batch_id": 1} for n in range(1, 4)]
    writer.append(PROFILES.hot, rows_of(PROFILES.hot, *people), Txn("s", 1))
    writer.append(BRONZE_EVENTS, rows_of(BRONZE_EVENTS, {"batch_id": 1}), Txn("s", 1))
    publish(lake, writer, 1)
    return lake


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    sql_command.register(subparsers)
    status_command.register(subparsers)
    args = parser.parse_args(words)
    return args.run(args)


def ask(lake: Lake, query: str, *words: str) -> int:
    return run("sql", query, "--lake", str(lake.path), *words)


def test_a_question_is_answered_as_a_table_people_can_read(lake: Lake, capsys) -> None:
    assert (
        ask(lake, "SELECT canonical_id, is_identified, NULL AS nothing FROM gold.profiles_live ORDER BY 1")
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["canonical_id", "is_identified", "nothing"]
    assert lines[2].split() == ["1", "true", "∅"]
    assert lines[-1] == "(3 rows)"


def test_json_lines_carry_instants_maps_and_bytes(lake: Lake, capsys) -> None:
    query = "SELECT first_seen_at, identifier_counts, platforms FROM gold.profiles_live ORDER BY canonical_id"
    assert ask(lake, query, "--json", "--limit", "1") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "first_seen_at": "2026-03-01T12:00:00.123456Z",
        "identifier_counts": {"one": 0, "two": 1},
        "platforms": ["-0"],
    }
    assert "only the first 1 rows" in said.err
    assert ask(lake, "SELECT payload FROM bronze.events", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"payload": "AP8A"}


def test_json_stays_json_with_what_json_has_no_word_for(lake: Lake, capsys) -> None:
    numbers = "'nan'::DOUBLE a, 2.50::DECIMAL(9,2) a, 3::HUGEINT h"
    assert (
        ask(lake, f"SELECT {numbers}, MAP([DATE '2026-01-01'], [{{'x': NULL}}]) m, '日本' j", "--json") == 0
    )
    assert json.loads(capsys.readouterr().out) == {
        **{"a": None, "a_2": 2.5, "m": {"2026-01-01": {"x": None}}},
        **{"j": "日本", "h": 3},
    }


def test_a_value_cannot_move_the_cursor_and_wide_letters_keep_columns_straight(lake: Lake, capsys) -> None:
    assert ask(lake, "SELECT * FROM (VALUES ('日本', 1), ('a' || chr(27) || '[2Jb', 2)) t(word, n)") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "日本    1"
    assert lines[3] == "a�[2Jb  2"


def test_rows_wider_than_the_terminal_are_shown_as_records(lake: Lake, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert ask(lake, "SELECT * FROM gold.profiles_live ORDER BY canonical_id") == 0
    said = capsys.readouterr().out
    assert "─ 3 ─\n" in said
    assert max(map(len, said.splitlines())) <= 80 + 60
    assert re.search(r"^canonical_id +1$", said, re.MULTILINE)
    assert said.endswith("(3 rows)\n")
    assert ask(lake, "SELECT 1 AS one") == 0
    assert capsys.readouterr().out.startswith("one\n")


def test_plans_are_shown_whole_and_show_tables_lists_every_schema(lake: Lake, capsys) -> None:
    assert ask(lake, "EXPLAIN SELECT canonical_id FROM gold.profiles") == 0
    assert capsys.readouterr().out.count("\n") > 5
    assert ask(lake, "SHOW TABLES;", "--csv", "--limit", "100") == 0
    names = [row["table_name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert {"gold.profiles_live", "gold.person_sessions", "ops.batches", "bronze.events"} <= set(names)
    assert not [name for name in names if "__" in name]


@pytest.mark.thorough
def test_a_terminal_without_the_letters_gets_an_answer_all_the_same(lake: Lake) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.apps.cli",
        "sql",
        "SELECT 'größer' AS w",
        "--lake",
        str(lake.path),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfer" in done.stdout


def test_csv_has_a_header_and_empty_cells_for_nulls(lake: Lake, capsys) -> None:
    assert ask(lake, "SELECT 'a, b' AS words, NULL AS nothing, true AS yes", "--csv") == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["words", "nothing", "yes"],
        ["a, b", "", "true"],
    ]


@pytest.mark.parametrize(
    "query",
    ["WITH p AS (FROM gold.profiles_live) SELECT count(*) FROM p", "DESCRIBE gold.events", "SHOW ALL TABLES"],
)
def test_every_statement_that_reads_is_answered(lake: Lake, query: str) -> None:
    assert ask(lake, query, "--json") == 0


@pytest.mark.parametrize(
    "query, said",
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM gold.persons", "persons"),
        ("SELECT nme FROM gold.profiles", "nme"),
        ("SELECT 1/0::INT + 'x'::INT", "Could not convert"),
        ("", "one statement at a time; these are 0"),
        ("SELECT 1; SELECT 2", "one statement at a time; these are 2"),
        ("DROP VIEW gold.profiles", "only questions are answered"),
        ("COPY (SELECT 1) TO 'stolen.csv'", "only questions are answered"),
        ("SET threads = 1", "only questions are answered"),
        ("SELECT * FROM read_text('/etc/hostname')", "Permission"),
        ("SELECT * FROM lake", "lake"),
    ],
)
def test_a_wrong_question_gets_one_line_and_exit_code_2(lake: Lake, capsys, query: str, said: str) -> None:
    assert ask(lake, query) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("sql: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("status",)])
def test_without_a_lake_both_commands_say_how_to_make_one(
    tmp_path: Path, capsys, command: tuple[str, ...]
) -> None:
    assert run(*command, "--lake", str(tmp_path / "nowhere")) == 1
    err = capsys.readouterr().err
    assert "stitchlake run --source" in err
    assert err.count("\n") == 1


def test_a_limit_that_is_no_number_is_bad_usage(lake: Lake, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        ask(lake, "SELECT 1", "--limit", "few")
    assert stopped.value.code == 2
    assert "number of rows" in capsys.readouterr().err


def test_status_shows_the_last_batch_the_sums_and_the_tables(lake: Lake, capsys) -> None:
    assert run("status", "--lake", str(lake.path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["last_batch_id"], found["streams"]) == (1, ["s"])
    assert found["conservation"] == {
        **{"record_count": 3, "received_count": 3, "valid_count": 2},
        **{"quarantined_count": 1, "duplicate_count": 0},
        **{"holds": True, "broken_batch_ids": []},
    }
    hot = next(t for t in found["tables"] if t["table"] == "gold.profiles_hot")
    assert (hot["row_count"], hot["file_count"], hot["is_hot"]) == (3, 1, True)
    assert hot["byte_count"] > 0
    assert run("status", "--lake", str(lake.path)) == 0
    text = capsys.readouterr().out
    assert "3 received = 2 valid + 1 quarantined + 0 duplicate" in text
    assert "gold.profiles_hot" in text


def test_lag_is_the_time_since_the_last_batch_was_published(lake: Lake) -> None:
    assert status_command.status(lake, minute(3.5))["lag_seconds"] == 150.0


def test_a_batch_that_lost_a_record_is_named_even_if_the_totals_agree(lake: Lake, capsys) -> None:
    publish(lake, DeltaRsWriter(lake), 2, received_count=5)
    publish(lake, DeltaRsWriter(lake), 3, received_count=1)
    assert run("status", "--lake", str(lake.path), "--json") == 1
    found = json.loads(capsys.readouterr().out)["conservation"]
    assert found["received_count"] == found["valid_count"] + found["quarantined_count"]
    assert (found["holds"], found["broken_batch_ids"]) == (False, [2, 3])
    assert run("status", "--lake", str(lake.path)) == 1
    assert "BROKEN in 2 batches" in capsys.readouterr().out


def test_status_of_a_lake_without_batches_says_so(lake_dir: Path, capsys) -> None:
    make_lake(lake_dir)
    assert run("status", "--lake", str(lake_dir)) == 0
    assert "nothing published yet" in capsys.readouterr().out


@pytest.mark.slow  # Spark plans the views of every question anew
def test_spark_answers_the_same_question_and_refuses_the_same_statements(
    lake: Lake, capsys, spark: SparkSession
) -> None:
    try:
        query = "SELECT canonical_id, first_seen_at, platforms FROM gold.profiles_live ORDER BY 1"
        assert ask(lake, query, "--json", "--engine", "spark") == 0
        in_spark = capsys.readouterr().out
        assert ask(lake, query, "--json") == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            json.loads(line) for line in in_spark.splitlines()
        ]
        for refused in ("DROP TABLE gold.profiles", "SELECT nothing FROM gold.profiles", "SELECT FROM WHERE"):
            assert ask(lake, refused, "--engine", "spark") == 2
            assert capsys.readouterr().err.count("\n") == 1
    finally:
        for schema in ("bronze", "silver", "gold", "ops"):
            spark.sql(f"DROP DATABASE IF EXISTS {schema} CASCADE")
