"""The files that make a fresh machine work: pins, lock, Makefile, import rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(requirements: list[str]) -> dict[str, str]:
    return {canonical(name): version for name, version in (line.split("==") for line in requirements)}


LOCKED = pins([line for line in LOCK.splitlines() if line and not line.startswith("#")])
DIRECT = pins(sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]))


def test_the_lock_names_no_place_to_download_from() -> None:
    for forbidden in ("://", " @ ", "-e ", "--index", "--extra-index", "--find-links", "--hash"):
        assert forbidden not in LOCK


def test_what_pyproject_pins_is_what_the_lock_installs() -> None:
    assert {name: LOCKED.get(name) for name in DIRECT} == DIRECT


@pytest.mark.thorough
def test_everything_installed_agrees_with_everything_else() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_delta_jar_and_the_delta_package_have_one_version() -> None:
    from conf.jars import DELTA

    assert DELTA.version == LOCKED["delta-spark"]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_without_a_target_lists_what_there_is_and_does_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    said = subprocess.run(["make"], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    for target in (
        "setup",
        "jars",
        "run",
        "test",
        "test-fast",
        "test-slow",
        "lint",
        "format",
        "clean",
        "clean-all",
    ):
        assert re.search(rf"^  make {target} ", said.stdout, re.MULTILINE), target
    assert [entry.name for entry in tmp_path.iterdir()] == ["Makefile"]


def test_ci_is_executable_and_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    kept = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert kept.returncode == 0, kept.stdout
