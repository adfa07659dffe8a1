"""The pages of docs/: the index has them all, and links between them lead to a heading that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s:]*?)(?:#([^)\s]+))?\)")


def links(page: Path) -> list[tuple[Path, str]]:
    """(file, heading) of every link to a page of ours."""
    found = LINK.findall(page.read_text(encoding="utf-8"))
    return [((page.parent / file).resolve() if file else page, heading) for file, heading in found]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("folder", [DOCS, DOCS / "adr"], ids=["docs", "adr"])
def test_the_index_of_a_folder_has_every_page_of_it(folder):
    """Seen to fail for a page that had no reader."""
    index = folder / "README.md"
    pages = {page for page in folder.glob("*.md") if page != index}
    assert pages - {file for file, _ in links(index)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_heading_that_is_there(page):
    """Seen to fail for a heading that had been renamed."""
    for file, heading in links(page):
        assert file.exists(), file
        assert not heading or heading in headings(file), f"{file.name}#{heading}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
