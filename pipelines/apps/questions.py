"""Which SQL a user may run: one statement that only reads published tables.

The parser of the engine decides, never the first word: EXPLAIN ANALYZE runs what it explains, and a statement that
begins with WITH or FROM may end in an INSERT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from conf.tables import ALL

if TYPE_CHECKING:
    import duckdb

SCHEMAS = frozenset(spec.schema for spec in ALL)


class QueryRefused(ValueError):
    """A query that cannot be answered; the message is one line for whoever typed it."""


def duckdb_question(con: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """The one statement of `query`. QueryRefused when it is not one, or does more than read."""
    from duckdb import StatementType

    statements = con.extract_statements(query)
    if len(statements) != 1:
        raise QueryRefused(f"one statement at a time; these are {len(statements)}")
    kind = statements[0].type
    if kind is StatementType.EXPLAIN:
        kind = _explained_kind(con, query)
    if kind is not StatementType.SELECT:
        raise not_reading(str(kind).rpartition(".")[2])
    return statements[0]


def _explained_kind(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The type of the statement behind EXPLAIN [ANALYZE] [(option, …)]."""
    import duckdb

    data = query.encode()  # the tokenizer counts bytes
    starts = [at for at, kind in duckdb.tokenize(query) if kind is not duckdb.token_type.comment]
    words = [data[at : at + 1] for at in starts]
    first = 2 if data[starts[1] :][:7].lower() in (b"analyze", b"analyse") else 1
    places = [first]
    if words[first] == b"(":  # options, or the question itself in parentheses
        places.append(words.index(b")", first) + 1)
    for place in places:
        try:
            (explained,) = con.extract_statements(data[starts[place] :].decode())
        except (duckdb.Error, ValueError, IndexError):
            continue
        return explained.type
    raise not_reading("an EXPLAIN of something else")


def not_reading(what: str) -> QueryRefused:
    """The error for a statement that does more than read. `what`: how the message calls it."""
    return QueryRefused(f"only questions are answered (SELECT, WITH, DESCRIBE, SHOW, EXPLAIN), not {what}")


# What Spark's parser makes of a question; whatever is not here is refused.
_QUESTIONS = frozenset(
    """
    Aggregate Distinct Except Filter Generate GlobalLimit Intersect Join LateralJoin LocalLimit LocalRelation Offset
    OneRowRelation PipeOperator Pivot Project Range RelationTimeTravel Repartition RepartitionByExpression
    ResolvedInlineTable Sample Sort SubqueryAlias Tail Union
    UnresolvedHaving UnresolvedHint UnresolvedInlineTable UnresolvedRelation
    UnresolvedSubqueryColumnAliases UnresolvedTVFAliases UnresolvedTableValuedFunction UnresolvedWith Unpivot Window
    WithWindowDefinition
    """.split()
)
# Statements about tables and functions, and the names that they bring.
_ABOUT = frozenset(
    """
    CurrentNamespace DescribeColumn DescribeFunction DescribeFunctionCommand DescribeNamespace DescribeQueryCommand
    DescribeRelation ExplainCommand ResolvedIdentifier ShowCatalogsCommand ShowColumns ShowCreateTable
    ShowCurrentNamespaceCommand ShowFunctions ShowNamespaces ShowTableProperties ShowTables ShowTablesCommand ShowViews
    UnresolvedFunctionName UnresolvedNamespace UnresolvedTable UnresolvedTableOrView UnresolvedView
    """.split()
)
_NAMED = frozenset(("UnresolvedRelation", "UnresolvedTable", "UnresolvedTableOrView", "UnresolvedView"))
# Rows out of arguments. Delta's own functions read tables by their path.
_ROW_FUNCTIONS = frozenset(
    "explode explode_outer inline inline_outer json_tuple posexplode posexplode_outer range sql_keywords stack".split()
)
# Functions that run any method of any class on Java's class path.
_CALLS_JAVA = frozenset(("java_method", "reflect", "try_reflect"))


def require_spark_question(plan: Any, also: frozenset[str] = frozenset()) -> None:
    """QueryRefused when a plan of Spark's parser does more than read the lake's tables. `also`: further kinds of
    statement that are let through, by the names of their classes."""
    plans = [plan]
    while plans:
        node = plans.pop()
        kind = _name(node)
        if kind not in _QUESTIONS | _ABOUT | also:
            raise not_reading(kind.removesuffix("Command").removesuffix("Statement"))
        if kind in _NAMED:
            _require_in_lake(_items(node.multipartIdentifier()))
        elif kind == "UnresolvedTableValuedFunction":
            _require_function(node.name(), among=_ROW_FUNCTIONS)
        plans += _items(node.children())
        if kind in _HIDES:
            plans += _items(node.innerChildren())
            plans += [getattr(node, part)() for part in _HIDES[kind]]
        for expression in _expressions(node):
            if _name(expression) == "UnresolvedFunction":
                _require_function(expression.nameParts(), besides=_CALLS_JAVA)
            elif _has_plan(expression):
                plans.append(expression.plan())


# Statements with another one inside that is not among their children.
_HIDES = {
    "UnresolvedWith": (),
    "ExplainCommand": ("logicalPlan",),
    "DescribeQueryCommand": ("plan",),
    "RelationTimeTravel": ("relation",),
}


def _expressions(node: Any) -> Iterator[Any]:
    found = _items(node.expressions())
    while found:
        expression = found.pop()
        yield expression
        found += _items(expression.children())


def _require_in_lake(name: Sequence[str]) -> None:
    parts = name[1:] if len(name) == 3 and name[0].lower() == "spark_catalog" else name
    if len(parts) > 2 or (len(parts) == 2 and parts[0].lower() not in SCHEMAS):
        raise QueryRefused(f"only the lake's tables are read ({', '.join(sorted(SCHEMAS))}), not {parts[0]}")


def _require_function(
    name: Any, among: frozenset[str] | None = None, besides: frozenset[str] = frozenset()
) -> None:
    word = str(_items(name)[-1]).lower()
    if word in besides or (among is not None and word not in among):
        raise QueryRefused(f"the function {word} does more than read the lake's tables")


def _items(scala: Any) -> list[Any]:
    return [scala.apply(at) for at in range(scala.size())]


def _name(node: Any) -> str:
    return str(node.getClass().getSimpleName()).removesuffix("$")


def _has_plan(expression: Any) -> bool:
    """Whether an expression is a subquery."""
    kind = expression.getClass()
    while kind is not None:
        if kind.getSimpleName() == "PlanExpression":
            return True
        kind = kind.getSuperclass()
    return False
