"""What a machine and a container say of their memory."""

from __future__ import annotations

import pytest

from pipelines.runtime.free_memory import free_memory


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "expected"),
    [
        ("MemTotal: 9 kB\nMemAvailable: 4 kB\n", None, None, 4096),
        ("MemAvailable: 4 kB\n", "max", "100", 4096),
        ("MemAvailable: 4 kB\n", "1100", "100", 1000),
        ("MemAvailable: 4 kB\n", "100", "300", 0),
        (None, "1100", "100", 1000),
        (None, None, None, None),
    ],
)
def test_the_smaller_of_machine_and_container_counts(tmp_path, meminfo, limit, used, expected):
    for name, text in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", used)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert free_memory(tmp_path / "meminfo", tmp_path) == expected


def test_this_machine_has_some():
    found = free_memory()
    assert found is None or found > 0
