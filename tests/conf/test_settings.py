"""Settings: every number has a range, and what is outside is refused with file, key and what would work."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from conf.settings import RANGES, Settings, SettingsError, load_settings

NUMBERS = [f.name for f in fields(Settings) if type(f.default) in (int, float)]


def test_every_number_declares_its_range() -> None:
    """A setting that does not is found here, and not by whoever writes 0."""
    assert set(NUMBERS) == {*RANGES, "history_days"}  # which has a rule of its own


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused(name: str, tmp_path: Path) -> None:
    """Seen to fail: `write_threads: 0` ended in a stack trace once the first batch was written."""
    low, high = RANGES.get(name, (0, 30))
    for value in (low - 1, high * 2, math.nan, math.inf):
        with pytest.raises(SettingsError, match=f"^{name}: must be from"):
            replace(Settings(), **{name: value})
    file = tmp_path / "mine.yaml"
    file.write_text(f"{name}: {int(low) - 1}\n")
    with pytest.raises(SettingsError, match=f"mine.yaml: {name}: must be from"):
        load_settings(str(file))


@pytest.mark.parametrize("line", ["driver_memory: lots", "driver_memory: '0'", "master: ' '"])
def test_a_text_that_spark_cannot_use_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{line}\n")
    with pytest.raises(SettingsError, match=f"mine.yaml: {line.partition(':')[0]}: must be"):
        load_settings(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["laptop", "cluster"])
def test_shipped_environments_are_in_range(name: str) -> None:
    assert load_settings(name)


def test_a_setting_of_an_earlier_version_is_named_and_changes_nothing(tmp_path: Path) -> None:
    """A lake's settings file must not stop its stream after an upgrade."""
    file = tmp_path / "mine.yaml"
    file.write_text("graphframes_from_edges: 5\nwrite_threads: 3\n")
    with pytest.warns(UserWarning, match=r"mine.yaml: graphframes_from_edges: has no effect any more"):
        assert load_settings(str(file)) == replace(Settings(), write_threads=3)
