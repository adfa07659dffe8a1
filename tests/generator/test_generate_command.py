from __future__ import annotations

import argparse
import json

import pytest

from pipelines.apps.cli import generate as command


def stitchlake(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="stitchlake")
    command.register(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in ("generate", *words)])
    return args.run(args)


def test_json_summary_counts_what_was_written(tmp_path, capsys):
    out, truth = tmp_path / "events", tmp_path / "truth.jsonl"
    code = stitchlake("--persons", 30, "--events", 500, "--seed", 2, "--out", out, "--truth", truth, "--json")
    captured = capsys.readouterr()
    assert code == 0
    assert json.loads(captured.out)["records"] == 500
    assert "500 of 500 records" in captured.err
    assert truth.exists()


def test_readable_summary_names_the_groups(tmp_path, capsys):
    assert stitchlake("--persons", 30, "--events", 500, "--seed", 2, "--out", tmp_path / "events") == 0
    assert "shared_household" in capsys.readouterr().out


def test_a_folder_that_is_not_empty_is_refused_in_one_line_and_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert stitchlake("--persons", 30, "--events", 500, "--seed", 2, "--out", tmp_path) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "is not empty" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "words",
    [
        ("--persons", 0, "--events", 500),
        ("--persons", 30, "--events", -5),
        ("--persons", 900, "--events", 100),
    ],
)
def test_impossible_numbers_are_bad_usage(tmp_path, capsys, words):
    assert stitchlake(*words, "--seed", 1, "--out", tmp_path / "events") == 2
    assert capsys.readouterr().err.count("\n") == 1
