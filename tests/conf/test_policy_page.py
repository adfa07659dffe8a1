"""docs/policy.md says what the data says: every key, every shipped namespace, every blocked entry with its sources."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from conf.blocked import BLOCKED_FILE, blocked_sources
from conf.policy import _NAMESPACE_KEYS, _POLICY_KEYS, NORMALIZERS, STRENGTHS, load_policy, shipped_policies

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
TEXT = PAGE.read_text(encoding="utf-8")


def between(name: str) -> str:
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- /{name} -->", TEXT, re.S)
    assert found
    return found[1]


def blocked_table() -> str:
    lines = ["| value or pattern | case | sources |", "|---|---|---|"]
    for raw in yaml.safe_load(BLOCKED_FILE.read_text(encoding="utf-8"))["values"]:
        shown = f"`{raw.get('pattern', raw.get('value'))}`" if raw.get("value") != "" else "(nothing)"
        shown = shown.replace("|", "\\|") + (" (pattern)" if "pattern" in raw else "")
        shown += f" in {', '.join(raw['namespaces'])}" if "namespaces" in raw else ""
        case = "" if "pattern" in raw else "any" if raw.get("case") == "any" else "exact"
        lines.append(
            f"| {shown} | {case}{', quoted' if raw.get('quoted') else ''} | {', '.join(raw['sources'])} |"
        )
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_blocked_entry_with_its_sources():
    assert between("blocked") == blocked_table()
    assert between("sources") == "".join(f"- *{s}*: {where}\n" for s, where in blocked_sources().items())


def test_the_page_names_every_key_strength_and_normaliser():
    for word in (*_POLICY_KEYS, *_NAMESPACE_KEYS, *STRENGTHS, *NORMALIZERS):
        assert f"`{word}`" in TEXT, word


def test_the_page_names_every_shipped_policy_and_namespace():
    shipped = TEXT.split("## Shipped namespaces")[1].split("\n## ")[0]
    for name in shipped_policies():
        assert f"`{name}`" in TEXT
        for namespace in load_policy(name).namespaces:
            assert f"`{namespace.name}`" in shipped
