"""What a process keeps of freed memory is said once, and to its children too."""

from __future__ import annotations

import os

import pytest

from pipelines.runtime import released_memory as freed_memory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the C library is asked for."""
    calls: list[tuple[int, int]] = []

    class Library:
        mallopt = staticmethod(lambda option, value: calls.append((option, value)))

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(os, "environ", {})
    return calls


def told() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}


def test_this_process_and_its_children_keep_what_is_freed(asked: list[tuple[int, int]]) -> None:
    freed_memory.keep_for_next()
    freed_memory.keep_for_next()
    assert asked == [(-1, 128 * 2**20), (-3, 64 * 2**20)]
    assert told() == {"MALLOC_TRIM_THRESHOLD_": "134217728", "MALLOC_MMAP_THRESHOLD_": "67108864"}


def test_what_somebody_has_set_stays(asked: list[tuple[int, int]]) -> None:
    os.environ["MALLOC_TRIM_THRESHOLD_"] = "0"
    freed_memory.keep_for_next()
    assert not asked
    assert told() == {"MALLOC_TRIM_THRESHOLD_": "0"}


def test_without_that_library_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(os, "environ", {})
    freed_memory.keep_for_next()
    freed_memory.give_back()
    assert told() == {}
