"""Every command in the README is run, as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.apps.cli.__main__ import main

ROOT = Path(__file__).parent.parent
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_readme_shows_the_two_commands_and_more():
    assert "make run" in COMMANDS
    assert "make test" in COMMANDS
    assert len(COMMANDS) > 5


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_knows_the_readmes_targets(command):
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_readmes_commands_work_in_the_order_in_which_they_stand(spark, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        if not command.startswith("make"):
            program, *arguments = shlex.split(command)
            assert program == ".venv/bin/stitchlake", command
            assert main(arguments) == 0, (command, capsys.readouterr().err)
