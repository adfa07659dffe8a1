"""Recorded rows as a table: target, figure, verdict, what stood beside it, and the conditions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.targets import TARGETS

HEADINGS = ("what", "target (stretch)", "figure", "verdict", "beside it, same run")
NOT_JUDGED = "not judged"
NOT_ASKED = "not asked"
FAILED = "failed"
_WIDTH = 150
Row = Mapping[str, Any]
Cells = tuple[str, str, str, str, str]


def cells(row: Row) -> Cells:
    """One recorded row under HEADINGS."""
    target = TARGETS.get(row["name"])
    what = target.what if target else str(row["name"])
    bound = f"{target.text()} {target.unit}" if target else "–"
    beside = ", ".join(
        f"{k} {number(v) if isinstance(v, int | float) else v}" for k, v in (row["baseline"] or {}).items()
    )
    said = [text for text in (beside, row.get("note", "")) if text]
    return what, bound, figure(row), row["verdict"], "; ".join(said) or "–"


def unasked(rows: Sequence[Row]) -> list[Cells]:
    """A line for every target that none of `rows` is about: the largest sizes are asked by themselves."""
    told = {row["name"] for row in rows}
    failed = {question_of(row) for row in rows if row["verdict"] == FAILED}
    return [
        (target.what, f"{target.text()} {target.unit}", "–", NOT_ASKED, "`make bench-large` asks")
        for name, target in TARGETS.items()
        if name not in told and name.partition(".")[0] not in failed
    ]


def figure(row: Row) -> str:
    """The median with its unit; with spread and number of repetitions where there were several."""
    if row["value"] is None:
        return "–"
    text = f"{number(row['value'])} {row['unit']}"
    if row.get("spread"):
        low, high = row["spread"]
        text += f" ({number(low)}–{number(high)}, {row['repetitions']}×)"
    return text


def number(value: float) -> str:
    """Three significant digits, and whole numbers from a thousand on."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def conditions_of(rows: Sequence[Row]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(conditions that all rows share, by question those that its rows have beyond them)."""
    conditions = [row["conditions"] for row in rows]
    shared = {
        k: v
        for k, v in (conditions[0] if conditions else {}).items()
        if all(c.get(k) == v for c in conditions)
    }
    own: dict[str, dict[str, Any]] = {}
    for row in rows:
        rest = {k: v for k, v in row["conditions"].items() if k not in shared}
        own.setdefault(question_of(row), {}).update(rest)
    return shared, own


def question_of(row: Row) -> str:
    return str(row["name"]).partition(".")[0]


def as_text(rows: Sequence[Row], more: Sequence[Cells] = ()) -> str:
    """For a terminal: columns as wide as they need to be, `more` lines, conditions below."""
    lines = [HEADINGS, *(cells(row) for row in rows), *more]
    widths = [max(len(line[n]) for line in lines) for n in range(len(HEADINGS) - 1)]
    table = [
        "  ".join([*(text.ljust(w) for text, w in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    ]
    table.insert(1, "─" * min(_WIDTH, max(map(len, table))))
    shared, own = conditions_of(rows)
    below = [f"{name}: {said(own[name])}" for name in own if own[name]] + [f"all: {said(shared)}"]
    wrapped = [textwrap.fill(line, _WIDTH, subsequent_indent="    ") for line in below]
    return "\n".join([*table, "", "conditions", *wrapped])


def as_markdown(rows: Sequence[Row], more: Sequence[Cells] = ()) -> str:
    """For a page: the same table, conditions as a list below."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(row) for row in rows), *more]
    table = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
    shared, own = conditions_of(rows)
    below = [f"- {name}: {said(own[name])}" for name in own if own[name]]
    return "\n".join([*table, "", f"Conditions: {said(shared)}.", "", *below]).rstrip()


def said(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {_value(v)}" for k, v in conditions.items())


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)
    return number(value)
