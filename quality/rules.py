"""What is expected of every table: derived from its declaration, and from the rules that hold between tables.

TableSpec ──▶ columns, not-null, key, accepted values, counts, checks ┐
LakeRules ──▶ between tables                                          ┴──▶ Rule ──▶ measured ──▶ judged
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from conf.lake_rules import LAKE_RULES
from conf.table_spec import Severity, TableSpec
from conf.tables import ALL

Kind = Literal["columns", "not_null", "unique", "accepted", "at_least", "check", "between"]
NOT_NULL = " not null"


@dataclass(frozen=True)
class Rule:
    """One expectation of a table: its name in the table's suite, and what it needs to be measured and judged.

    `columns` are those it is about, of kind `columns` the declared ones as `name type`. `accepted` and `least` are for
    the kinds of these names, `holds` is a check's condition, `query` finds what breaks the rule and is for reading.
    """

    suite: str
    name: str
    kind: Kind
    says: str
    severity: Severity
    columns: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    least: int = 0
    holds: str = ""
    query: str = ""


def suites() -> dict[TableSpec, tuple[Rule, ...]]:
    """The rules of every table of the stream and of every hot part, in the order in which a batch writes them."""
    found: dict[TableSpec, tuple[Rule, ...]] = {}
    for spec in ALL:
        between = tuple(rule for rule in _between_tables() if rule.suite == spec.full_name)
        found[spec] = (*rules_of(spec), *between)
        if spec.write == "upsert":
            # A hot part is what its live view makes of it; by itself it has its columns and its key.
            found[spec.hot] = tuple(
                rule for rule in rules_of(spec.hot) if rule.kind in ("columns", "not_null", "unique")
            )
    return found


def rules_of(spec: TableSpec) -> tuple[Rule, ...]:
    """What a table's own declaration says of its rows."""
    return tuple(_declared(spec))


def rows_of(spec: TableSpec) -> str:
    """The name under which a table's rows are looked at: an upserted table with its hot part."""
    return f"{spec.full_name}_live" if spec.write == "upsert" else spec.full_name


def described(name: str, kind: str, is_nullable: bool) -> str:
    """A column in the words of a `columns` rule, of letters that a page shows as they are."""
    plain = kind.replace(" ", "").translate(str.maketrans("<>", "()"))
    return f"{name} {plain}" + ("" if is_nullable else NOT_NULL)


def _declared(spec: TableSpec) -> Iterator[Rule]:
    table = spec.full_name
    columns = tuple(described(c.name, c.type, c.nullable) for c in spec.columns)
    says = (
        "the table has the declared columns and types; one that may be null may be missing and reads as null"
    )
    yield Rule(table, "columns_are_declared", "columns", says, "critical", columns)
    says = "no declared column is missing: the next run of the stream adds those that may be null"
    yield Rule(table, "columns_are_complete", "columns", says, "warning", columns)
    for c in spec.columns:
        if not c.nullable:
            yield Rule(
                table,
                f"{c.name}_is_not_null",
                "not_null",
                f"every row has a {c.name}",
                "critical",
                (c.name,),
            )
    key = ", ".join(spec.key)
    yield Rule(table, "key_is_unique", "unique", f"no two rows have the same {key}", "critical", spec.key)
    for c in spec.columns:
        if c.accepted:
            says = f"{c.name} is one of {', '.join(c.accepted)}"
            yield Rule(
                table, f"{c.name}_is_accepted", "accepted", says, "critical", (c.name,), accepted=c.accepted
            )
        if c.at_least is not None:
            says = f"{c.name} is at least {c.at_least}"
            yield Rule(
                table,
                f"{c.name}_is_at_least_{c.at_least}",
                "at_least",
                says,
                "critical",
                (c.name,),
                least=c.at_least,
            )
    for check in spec.checks:
        query = f"SELECT 1 FROM {{batch}} WHERE NOT ({check.holds})"
        yield Rule(table, check.name, "check", check.says, check.severity, holds=check.holds, query=query)


def _between_tables() -> Iterator[Rule]:
    for rule in LAKE_RULES:
        yield Rule(
            rule.table.full_name, rule.name, "between", rule.says, rule.severity, query=rule.unexpected
        )
