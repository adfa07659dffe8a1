"""docs/tables.md says what the declarations say."""

from __future__ import annotations

from pathlib import Path

from conf.tables import ALL
from pipelines.apps.table_reference import reference
from pipelines.lake.views import ANALYST_VIEWS

PAGE = Path(__file__).parents[3] / "docs" / "tables.md"


def test_the_table_reference_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run `make table-reference` and commit docs/tables.md"
    )


def test_every_table_column_and_view_is_in_it():
    page = reference()
    for spec in ALL:
        section = page.split(f"### {spec.full_name}\n")[1].split("\n### ")[0].split("\n## ")[0]
        assert spec.grain in section
        for column in spec.columns:
            assert f"| `{column.name}` | `{column.type}` |" in section
            assert column.comment in section
    for name in ANALYST_VIEWS:
        assert f"### {name}\n" in page
