"""Spark reads the same rules, and counts what DuckDB counts."""

from __future__ import annotations

import pytest

from conf.tables import IDENTITY_MAP
from pipelines.apps.jobs import quality
from pipelines.lake.views import register_spark
from pipelines.operations.quality.run import newest_run
from quality.measure import measure
from quality.rules import suites
from tests.pipelines.lake_rows import drop_lake
from tests.quality.spoiled import SPOILED, spoil
from tests.quality.test_rules import broken


def columns_of(rules) -> tuple[str, ...]:
    return next(rule.columns for rule in rules if rule.kind == "columns")


@pytest.mark.slow  # Spark plans two hundred queries
def test_spark_reads_every_rule_and_counts_the_same(spark, clean_lake, copy_of):
    lake = copy_of(clean_lake)
    spoil(lake, IDENTITY_MAP, SPOILED[IDENTITY_MAP, "key_is_unique"])
    spoil(lake, IDENTITY_MAP, SPOILED[IDENTITY_MAP, "node_id_is_known"])
    register_spark(spark, lake)
    try:
        for spec, rules in suites().items():
            # Only read, not run: a query that Spark does not understand would be counted by nobody.
            understood = measure(
                spec, rules, columns_of(rules), lambda query: [0 for _ in spark.sql(query).columns]
            )
            assert [one.rule for one in understood if one.unexpected_count is None] == []
        rules = suites()[IDENTITY_MAP]
        counted = measure(
            IDENTITY_MAP, rules, columns_of(rules), lambda query: tuple(spark.sql(query).first())
        )
        found = {(one.rule.suite, one.rule.name) for one in counted if one.unexpected_count != 0}
        assert found == broken(lake, IDENTITY_MAP)
        assert len(found) > 1
    finally:
        drop_lake(spark)


@pytest.mark.slow  # two hundred expectations, one Spark job or more for most of them
def test_the_job_checks_a_whole_lake_with_spark(spark, clean_lake, copy_of):
    lake = copy_of(clean_lake)
    try:
        assert quality.main(["--lake", str(lake.path)]) == 0
    finally:
        drop_lake(spark)
    assert newest_run(lake).broken == []
