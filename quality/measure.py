"""Counts the rows that break rules, with a few aggregating queries per table in DuckDB or Spark.

Only counts come back. A value never leaves the engine, so none can end up in a result or on a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conf.table_spec import TableSpec
from quality.rules import NOT_NULL, Rule, rows_of

# Asks the engine one query that answers with one row of counts. Raises what the engine raises.
Ask = Callable[[str], Sequence[int | None]]


@dataclass(frozen=True)
class Measured:
    """What was counted for one rule. `columns` is what the table has, for the rule about its columns.

    A count is None where the engine could not count; the rule then counts as broken.
    """

    rule: Rule
    element_count: int | None
    unexpected_count: int | None
    null_count: int | None = 0
    columns: tuple[str, ...] = ()


def measure(spec: TableSpec, rules: Sequence[Rule], columns: Sequence[str], ask: Ask) -> list[Measured]:
    """One measurement per rule of a table that has these `columns`, each as `name type`."""
    rows = rows_of(spec)
    # One pass over the table for everything that one row tells by itself.
    counted = ["count(*)"]
    for rule in rules:
        if condition := _breaks(rule):
            nulls = f"{rule.columns[0]} IS NULL" if rule.columns else "false"
            counted += [_count_where(condition), _count_where(nulls)]
    counts = iter(_answers(ask, counted, rows))
    element_count = next(counts)
    measured = []
    for rule in rules:
        if rule.kind == "columns":
            shown = _as_read(rule, columns) if rule.severity == "critical" else tuple(columns)
            differing = len(set(rule.columns) ^ set(shown))
            measured.append(Measured(rule, len(rule.columns), differing, columns=shown))
        elif _breaks(rule):
            unexpected, null_count = next(counts), next(counts)
            measured.append(Measured(rule, element_count, unexpected, null_count))
        else:
            measured.append(Measured(rule, element_count, _alone(ask, _whole(rule, rows))))
    return measured


def _as_read(rule: Rule, columns: Sequence[str]) -> tuple[str, ...]:
    """The table's columns as every reader sees them: a missing one that may be null reads as null."""
    present = {column.split(" ")[0] for column in columns}
    missing = (c for c in rule.columns if c.split(" ")[0] not in present and not c.endswith(NOT_NULL))
    return (*columns, *missing)


def _breaks(rule: Rule) -> str:
    """The condition of a row that breaks the rule; empty where it takes more than one row to tell."""
    if rule.kind == "not_null":
        return f"{rule.columns[0]} IS NULL"
    if rule.kind == "accepted":
        return f"{rule.columns[0]} NOT IN ({', '.join(map(_text, rule.accepted))})"
    if rule.kind == "at_least":
        return f"{rule.columns[0]} < {rule.least}"
    return f"NOT ({rule.holds})" if rule.kind == "check" else ""


def _whole(rule: Rule, rows: str) -> str:
    if rule.kind == "unique":
        key = ", ".join(rule.columns)
        repeated = f"SELECT count(*) AS times FROM {rows} GROUP BY {key} HAVING count(*) > 1"
        return f"SELECT CAST(coalesce(sum(times), 0) AS BIGINT) FROM ({repeated}) AS repeated"
    return f"SELECT count(*) FROM ({rule.query.replace('{batch}', rows)}) AS unexpected"


def _count_where(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _answers(ask: Ask, counted: Sequence[str], rows: str) -> list[int | None]:
    """All at once; where that fails, one by one, so that one broken column does not hide the others."""
    try:
        return list(ask(f"SELECT {', '.join(counted)} FROM {rows}"))
    except Exception:
        return [_alone(ask, f"SELECT {expression} FROM {rows}") for expression in counted]


def _alone(ask: Ask, query: str) -> int | None:
    try:
        (count,) = ask(query)
        return count
    except Exception:  # whatever it says may quote a value, so only that it failed is kept
        return None
