"""The import graph: no circles, and no folder that has to be searched. lint-imports holds the layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("conf", "transforms", "quality", "pipelines", "serving")
MOST_MODULES = 20

Imports = Mapping[str, Iterable[str]]


def imports() -> dict[str, set[str]]:
    """Each module and those that it imports, at any place in it, and for types only."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle_in(graph: Imports) -> list[str] | None:
    """Modules that import one another in a circle, the first one again at the end; None if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        return e.args[1]
    return None


def test_imports_have_no_circle():
    """Seen to fail while sources and topics imported one another."""
    assert circle_in(imports()) is None


@pytest.mark.parametrize("more", [{"a": ["b"], "b": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["a"]}])
def test_a_circle_would_be_found(more):
    found = circle_in(imports() | more)
    assert found is not None
    assert set(found) == set(more)


def test_no_folder_has_more_than_twenty_modules():
    """Seen to fail while all benchmarks stood in one folder."""
    files = (file for folder in (*PACKAGES, "benchmarks", "tests") for file in (ROOT / folder).rglob("*.py"))
    count = Counter(str(file.parent.relative_to(ROOT)) for file in files if file.name != "__init__.py")
    assert sum(count.values()) > 200
    assert {folder: n for folder, n in count.items() if n > MOST_MODULES} == {}
