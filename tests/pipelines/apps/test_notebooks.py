"""Every notebook runs, on one lake, and shows what it says it shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from conf.tables import PROFILES
from pipelines.apps.notebooks import NotebookFailed, main, read_cells, run_notebook
from pipelines.lake.snapshot import published
from tests.pipelines.lake_rows import drop_lake

FOLDER = Path(__file__).parents[3] / "notebooks"
NOTEBOOKS = sorted(p for p in FOLDER.iterdir() if p.suffix in (".py", ".sql"))
READERS = [p for p in NOTEBOOKS if not p.name.startswith("01")]  # the first one makes the lake of the others
SLOW = ("02", "04")  # many views each, which Spark plans anew in every cell


@pytest.fixture(autouse=True)
def _catalog(request):
    yield
    if "spark" in request.fixturenames:
        drop_lake(request.getfixturevalue("spark"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_asks_questions_and_has_no_logic_of_its_own(path):
    cells = read_cells(path)
    assert cells[0].language == "md"
    assert cells[0].text.startswith("# ")
    for cell in cells:
        if cell.language == "python":
            nodes = list(ast.walk(ast.parse(cell.text)))
            assert not any(isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda) for n in nodes)
    assert re.match(r"0[1-9]_[a-z_]+$", path.stem)


def test_the_quickstart_makes_people_out_of_events_and_loses_nothing(analysts_lake):
    said = "\n".join(analysts_lake.shown)
    assert "600 records in" in said
    received, *parts = map(int, analysts_lake.shown[3].splitlines()[2].split())
    assert received == 600 == sum(parts)
    assert "true" in analysts_lake.shown[4]  # identified people


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name[:2] in SLOW else []) for p in READERS],
    ids=lambda p: p.name,
)
def test_every_notebook_runs_on_a_lake_and_its_answers_have_rows(path, spark, analysts_lake):
    shown = run_notebook(path, spark, {"lake": str(analysts_lake.path)}, show=lambda text: None)
    assert len(shown) >= 2
    empty = [n for n, text in enumerate(shown) if text.endswith("(0 rows)")]
    # No batch that lost a record, and possibly no refused pair, is the good answer.
    allowed = {"04_quarantine_review.py": {0}, "02_why_one_person.py": {3}}.get(path.name, set())
    assert set(empty) <= allowed, [shown[n] for n in empty]
    if path.name.startswith("04"):
        assert empty == [0]


def test_a_lookup_of_an_identifier_finds_whose_it_is(spark, analysts_lake):
    shown = run_notebook(
        FOLDER / "03_profile_lookup.py", spark, {"lake": str(analysts_lake.path)}, lambda _: None
    )
    person = re.search(r"person (\d+)", shown[0])
    user = re.search(r"user_id:\S+", shown[0])
    assert person
    assert user
    widgets = {"lake": str(analysts_lake.path), "id": user.group()}
    again = run_notebook(FOLDER / "03_profile_lookup.py", spark, widgets, lambda _: None)
    assert again[0].splitlines()[0] == shown[0].splitlines()[0]


def test_the_command_behind_make_notebooks_sets_widgets_and_prints_what_is_shown(
    spark, analysts_lake, capsys
):
    people = published(analysts_lake.lake).arrow(PROFILES, ["canonical_id"])["canonical_id"].to_pylist()
    notebook = FOLDER / "03_profile_lookup.py"
    for person in (min(people), max(people)):
        assert main(["--lake", str(analysts_lake.path), "--set", f"id={person}", str(notebook)]) == 0
        assert f"person {person} of tenant default" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("plain.py", "print(1)\n", "first line"),
        ("notes.md", "# text\n", "a .py or a .sql file"),
        ("shell.py", "# Databricks notebook source\n# MAGIC %sh ls\n", "%sh"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_line(tmp_path, name, text, said, capsys):
    (tmp_path / name).write_text(text)
    assert main([str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_failing_cell_is_named(tmp_path, spark):
    path = tmp_path / "wrong.py"
    path.write_text(
        "# Databricks notebook source\n1\n\n# COMMAND ----------\n\n# MAGIC %sql\n# MAGIC SELECT nothing\n"
    )
    with pytest.raises(NotebookFailed, match=r"wrong\.py, cell 2: .*nothing"):
        run_notebook(path, spark, {})
