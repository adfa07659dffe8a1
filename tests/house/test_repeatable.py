"""`make test` repeats itself, `make test-random` says how to have its examples again, and CI runs no test twice."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).parents[2]
DRAWS = """
import random
from pathlib import Path
from hypothesis import given, strategies as st

drawn = Path(__file__).with_suffix(".txt").open("a")

@given(st.integers(), st.randoms(use_true_random=False))
def test_drawn(number, dice):
    print(number, dice.random(), file=drawn, flush=True)

def test_chance():
    print(random.random(), file=drawn, flush=True)
"""


def drawn(folder: Path, *words: str, is_random: bool = False) -> tuple[str, str]:
    """What the tests of a run have drawn, and the run's line about its examples."""
    file = folder / "test_draws.py"
    file.write_text(DRAWS)
    file.with_suffix(".txt").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STITCHLAKE_", "PYTEST_", "CI"))}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"STITCHLAKE_RANDOM_TESTS": "1"} if is_random else {})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-c",
        os.devnull,
        f"--rootdir={folder}",
    ]
    done = subprocess.run(
        [*command, *words, str(file)], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    (line,) = re.findall("^examples: .*$", done.stdout, re.MULTILINE)
    return file.with_suffix(".txt").read_text(), line


@pytest.mark.thorough  # seconds
def test_a_run_repeats_itself_and_a_random_one_by_the_seed_that_it_prints(tmp_path: Path) -> None:
    fixed, line = drawn(tmp_path)
    assert "the same in every run" in line
    assert drawn(tmp_path) == (fixed, line)
    found, line = drawn(tmp_path, is_random=True)
    assert found != fixed
    (seed,) = re.findall(r'ARGS="(--hypothesis-seed=\d+)"', line)
    assert drawn(tmp_path, seed, is_random=True)[0] == found
    assert not (tmp_path / ".hypothesis" / "examples").exists()


def test_ci_runs_the_readmes_test_command_and_no_test_twice() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    steps = [shlex.split(line) for line in script.splitlines() if line.startswith("make ")]
    tests = {
        step[1]: " ".join(step[2:])
        for step in steps
        if step[1].startswith("test") and "faults" not in step[1]
    }
    assert list(tests) == ["test", "test-random"]
    assert "make test " in (ROOT / "README.md").read_text()
    # Of several -m, pytest heeds the last one: that of the script, or else that of the Makefile.
    selections = [
        Expression.compile(re.findall(r'-m "([^"]+)"', recipe(target) + words)[-1])
        for target, words in tests.items()
    ]
    for marks in itertools.chain.from_iterable(
        itertools.combinations(("slow", "spark", "hypothesis"), n) for n in range(4)
    ):
        chosen = [
            selection.evaluate(lambda mark, marks=marks, **_: mark in marks) for selection in selections
        ]
        assert sum(chosen) == ("slow" not in marks), marks


def recipe(target: str) -> str:
    """What the Makefile runs for a target."""
    (found,) = re.findall(rf"^{target}:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return found
