"""docs/tour.md against the code: its functions exist, it names a module once, and a batch calls them in its order."""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.direct_lake import DirectLake

PAGE = Path(__file__).parents[2] / "docs" / "tour.md"
NAME = re.compile(r"`((?:pipelines|transforms)(?:\.\w+)+)`")
# These parts are run by Spark, by another thread, or by a class that is made and not called.
ELSEWHERE = ("## A stream starts", "Meanwhile a thread", "`Attempt.finish` waits")


def named(text: str) -> list[str]:
    return NAME.findall(text)


def found(name: str) -> tuple[str, Any]:
    """(module, what is named in it)."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            value: Any = import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return module, value
    raise LookupError(name)


def test_every_function_of_the_tour_exists_and_every_module_is_named_once():
    """Seen to fail for a function that had been renamed."""
    names = named(PAGE.read_text(encoding="utf-8"))
    assert len(names) > 50
    modules = Counter(found(name)[0] for name in names)
    assert [module for module, count in modules.items() if count > 1] == []


def main_line(page: str) -> list[str]:
    """The names of the parts that this thread runs in a batch, in the order of the page."""
    sections = re.split(r"\n(?=#|Meanwhile a thread|`Attempt.finish` waits)", page)
    return [name for s in sections if not s.startswith(ELSEWHERE) for name in named(_first_cells(s))]


def _first_cells(section: str) -> str:
    return "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))


def test_a_batch_calls_them_in_the_order_of_the_page(tmp_path):
    """Seen to fail with two lines of the page exchanged."""
    lake = DirectLake(tmp_path / "lake")
    event = {
        "event_id": "e0",
        "timestamp": 1_700_000_000,
        "platform": "web",
        "identifiers": {"cookie_id": "c1"},
    }
    lake.feed([event])
    order: dict[CodeType, int] = {}

    def called(frame: FrameType, what: str, _: object) -> None:
        if what == "call":
            order.setdefault(frame.f_code, len(order))

    login = event | {
        "event_id": "e1",
        "event_type": "login",
        "identifiers": {"cookie_id": "c1", "user_id": "u1"},
    }
    sys.setprofile(called)
    try:
        lake.feed([login])
    finally:
        sys.setprofile(None)
    lake.processor.close()
    line = [
        name for name in main_line(PAGE.read_text(encoding="utf-8")) if not isinstance(found(name)[1], type)
    ]
    assert len(line) > 30
    places = {name: order.get(found(name)[1].__code__) for name in line}
    assert [name for name, place in places.items() if place is None] == []
    assert list(places) == sorted(places, key=lambda name: places[name] or 0)
