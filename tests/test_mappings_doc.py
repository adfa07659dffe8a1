"""docs/mappings.md shows what the command really says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from conf.source_mapping import shipped_mappings
from pipelines.apps.cli.__main__ import main

PAGE = (Path(__file__).parents[1] / "docs" / "mappings.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(json|yaml|sh|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_the_example_is_what_the_command_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("doors.jsonl").write_text(BLOCKS["json"])
    Path("doors.yaml").write_text(BLOCKS["yaml"])
    program, *words = shlex.split(BLOCKS["sh"])
    assert program == "stitchlake"
    assert main(words) == 0
    assert capsys.readouterr().out == BLOCKS["text"]


def test_every_shipped_mapping_has_its_row():
    table = PAGE.partition("## Shipped")[2].partition("\n### ")[0]
    assert tuple(sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))) == shipped_mappings()
