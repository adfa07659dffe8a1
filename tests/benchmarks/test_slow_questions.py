"""The questions that start many processes, at tiny size: they end, and what they measured was right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("question", ["naive", "cluster"])
def test_a_question_of_many_processes_is_answered(question: str, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from benchmarks import {question}
from pipelines.runtime.process_end import run_and_end
def main():
    for row in {question}.measure("quick", Path({str(tmp_path)!r})):
        assert row.value is not None and row.baseline, row
        print(row.name, row.value, row.baseline)
run_and_end(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0
