"""Recorded rows as a table: target, figure, verdict, what stood beside it, and the conditions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.targets import TARGETS, verdict

HEADINGS = ("what", "target (stretch)", "figure", "verdict", "also measured, same run")
NOT_JUDGED = "not judged"
NOT_ASKED = "not asked"
FAILED = "failed"
ON_RECORD = "on record"
# Where `make bench` asks the same at a smaller size: what of the conditions tells it.
SIZES = {"freshness": "seconds", "many_batches": "batches"}
# Said of every figure on record, also where it is the same as of this run.
MACHINE = ("cores", "memory_gib", "loop_ms")
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


def cells_on_record(row: Row) -> Cells:
    """One row of the largest scale, which another run has measured: judged by the targets as they are now."""
    what, bound, found, _, beside = cells(row)
    size = SIZES.get(question_of(row))
    marks = [f"{_value(row['conditions'][size])} {size}", ON_RECORD] if size else [ON_RECORD]
    return f"{what} ({', '.join(marks)})", bound, found, verdict(row["name"], row["value"]), beside


def lines_of(rows: Sequence[Row], kept: Sequence[Row]) -> list[Cells]:
    """A line for every row, and one for what is on record and worth telling: beside its like."""
    left = {row["name"]: row for row in _worth_telling(kept, rows)}
    lines = []
    for question in dict.fromkeys(map(question_of, [*rows, *kept])):
        for row in rows:
            if question_of(row) == question:
                lines.append(cells(row))
                if row["name"] in left:
                    lines.append(cells_on_record(left.pop(row["name"])))
        names = [name for name, row in left.items() if question_of(row) == question]
        lines += [cells_on_record(left.pop(name)) for name in names]
    return lines


def _worth_telling(kept: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Of the rows on record those that a target is about, or that `rows` have no like of."""
    told = {row["name"] for row in rows}
    return [row for row in kept if row["name"] in TARGETS or row["name"] not in told]


def unasked(rows: Sequence[Row], by: str = "make bench-large") -> list[Cells]:
    """A line for every target that none of `rows` is about; `by` is the command that asks."""
    told = {row["name"] for row in rows}
    failed = {question_of(row) for row in rows if row["verdict"] == FAILED}
    return [
        (target.what, f"{target.text()} {target.unit}", "–", NOT_ASKED, f"`{by}` asks")
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


def as_text(rows: Sequence[Row], more: Sequence[Cells] = (), kept: Sequence[Row] = ()) -> str:
    """For a terminal: columns as wide as they need to be, `more` lines, conditions below. `kept`: rows on record."""
    lines = [HEADINGS, *lines_of(rows, kept), *more]
    widths = [max(len(line[n]) for line in lines) for n in range(len(HEADINGS) - 1)]
    table = [
        "  ".join([*(text.ljust(w) for text, w in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    ]
    table.insert(1, "─" * min(_WIDTH, max(map(len, table))))
    shared, own = conditions_of(rows)
    below = [*_below(own, shared, kept), f"all: {said(shared)}"]
    wrapped = [textwrap.fill(line, _WIDTH, subsequent_indent="    ") for line in below]
    return "\n".join([*table, "", "conditions", *wrapped])


def as_markdown(rows: Sequence[Row], more: Sequence[Cells] = (), kept: Sequence[Row] = ()) -> str:
    """For a page: the same table, conditions as a list below."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *lines_of(rows, kept), *more]
    table = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
    shared, own = conditions_of(rows)
    below = [f"- {line}" for line in _below(own, shared, kept)]
    return "\n".join([*table, "", f"Conditions: {said(shared)}.", "", *below]).rstrip()


def _below(own: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any], kept: Sequence[Row]) -> list[str]:
    """The conditions of every question; then, of what is on record, size, machine, and what differs from `shared`."""
    lines = [f"{name}: {said(own[name])}" for name in own if own[name]]
    for name in dict.fromkeys(map(question_of, kept)):
        its: dict[str, Any] = {}
        for row in kept:
            if question_of(row) == name:
                its |= row["conditions"]
        told = {
            k: v for k, v in its.items() if k in MACHINE or (v != shared.get(k) and k not in ("scale", "on"))
        }
        lines.append(f"{name}, {ON_RECORD}, `make bench-large` of {its['on']}: {said(told)}")
    return lines


def said(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {_value(v)}" for k, v in conditions.items())


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)
    return number(value)
