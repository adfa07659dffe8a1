"""Great Expectations suites of the rules, and its verdicts on what was measured.

Great Expectations has no engine for DuckDB, and its others hold a table in memory or look at it for every expectation.
So its expectations get the counts that they would ask an engine for, and judge those: docs/adr/0005 has the figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import: nothing is reported to anybody

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.expectations.expectation import Expectation

from quality.measure import Measured
from quality.rules import Rule

# Counts and no values, neither in results nor on pages.
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}


@dataclass(frozen=True)
class Judged:
    """One rule, what was counted and what Great Expectations made of it."""

    measured: Measured
    expectation: str
    result: ExpectationValidationResult

    @property
    def is_success(self) -> bool:
        """Whether every expectation is met."""
        return bool(self.result.success)


def expectation_of(rule: Rule) -> Expectation:
    """The expectation that a rule is."""
    given: dict[str, Any] = {
        "severity": rule.severity,
        "meta": {"notes": {"format": "string", "content": [f"{rule.severity}: {rule.name}"]}},
    }
    if rule.kind == "columns":
        return gxe.ExpectTableColumnsToMatchSet(
            column_set=list(rule.columns), exact_match=True, description=rule.says, **given
        )
    if rule.kind == "not_null":
        return gxe.ExpectColumnValuesToNotBeNull(column=rule.columns[0], **given)
    if rule.kind == "accepted":
        return gxe.ExpectColumnValuesToBeInSet(column=rule.columns[0], value_set=list(rule.accepted), **given)
    if rule.kind == "at_least":
        return gxe.ExpectColumnValuesToBeBetween(column=rule.columns[0], min_value=rule.least, **given)
    if rule.kind == "unique" and len(rule.columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=rule.columns[0], **given)
    if rule.kind == "unique":
        return gxe.ExpectCompoundColumnsToBeUnique(column_list=list(rule.columns), **given)
    return gxe.UnexpectedRowsExpectation(unexpected_rows_query=rule.query, description=rule.says, **given)


def suite_of(name: str, rules: Sequence[Rule]) -> gx.ExpectationSuite:
    """The suite of one table."""
    return gx.ExpectationSuite(name=name, expectations=[expectation_of(rule) for rule in rules])


def judge(measured: Measured) -> Judged:
    """Great Expectations' verdict on one measurement. What could not be measured is not met."""
    expectation = expectation_of(measured.rule)
    kind = expectation.expectation_type
    if measured.element_count is None or measured.unexpected_count is None:
        problem = {"observed_value": "could not be counted"}
        return Judged(
            measured,
            kind,
            ExpectationValidationResult(
                success=False, expectation_config=expectation.configuration, result=problem
            ),
        )
    wanted = expectation.get_validation_dependencies(runtime_configuration={"result_format": COUNTS_ONLY})
    metrics = {
        configuration.id: _metric(name, measured)
        for name, configuration in wanted.metric_configurations.items()
    }
    result = expectation.metrics_validate(metrics, runtime_configuration={"result_format": COUNTS_ONLY})
    return Judged(measured, kind, result)


def _metric(name: str, measured: Measured) -> Any:
    """The answer that an execution engine would give for a metric, from the counts."""
    if name in ("table.row_count", "compound_columns.unique.filtered_row_count"):
        return measured.element_count
    if name == "table.columns":
        return list(measured.columns)
    if name.endswith((".unexpected_values", ".table")):
        return []
    if name == "column_values.nonnull.unexpected_count":
        return measured.null_count
    if name.endswith((".unexpected_count", ".row_count")):
        return measured.unexpected_count
    raise LookupError(f"{measured.rule.kind}: Great Expectations asks for {name}, which nobody has measured")


def suite_result(
    suite: str, judged: Sequence[Judged], meta: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    """The results of one table, as Great Expectations keeps them."""
    met = sum(one.is_success for one in judged)
    return ExpectationSuiteValidationResult(
        success=met == len(judged),
        results=[one.result for one in judged],
        suite_name=suite,
        statistics={
            "evaluated_expectations": len(judged),
            "successful_expectations": met,
            "unsuccessful_expectations": len(judged) - met,
            "success_percent": 100.0 * met / len(judged) if judged else None,
        },
        meta={"great_expectations_version": gx.__version__, **meta},
    )
