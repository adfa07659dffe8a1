"""Every rule is kept by a clean lake and broken by the defect that it is for.

Seen to fail: with every `unexpected` and `holds` replaced by what finds nothing, no defect is found.
"""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from conf.lake_rules import LAKE_RULES, LakeRule
from conf.table_spec import Check, SpecError, TableSpec
from conf.tables import ALL, BATCHES, BRONZE_EVENTS, BY_NAME, EVENTS, PROFILES, SESSIONS
from pipelines.apps.cli.__main__ import main
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.views import register_duckdb
from pipelines.operations.quality.run import columns_of
from quality.measure import measure
from quality.rules import rows_of, rules_of, suites
from tests.quality.conftest import BATCHES_OF_LINES, feed, line, processor_of
from tests.quality.spoiled import SPOILED, publish_as_it_is
from tests.scenarios.cases import arrivals, cases_of, policy_of


def broken(lake: Lake, *wanted: TableSpec) -> set[tuple[str, str]]:
    """(suite, rule) of what the lake breaks, of all its suites or of those wanted."""
    with duckdb.connect() as con:
        register_duckdb(con, lake)
        return broken_as_shown(con, lake, *wanted)


def broken_as_shown(con: duckdb.DuckDBPyConnection, lake: Lake, *wanted: TableSpec) -> set[tuple[str, str]]:
    """The same, of what a connection shows of the lake."""
    return {
        (one.rule.suite, one.rule.name)
        for spec, rules in suites().items()
        if not wanted or spec in wanted
        for one in measure(
            spec, rules, columns_of(lake, spec), lambda query: con.execute(query).fetchone() or ()
        )
        if one.unexpected_count != 0
    }


def test_every_table_and_every_hot_part_has_a_suite_with_its_columns_and_its_key():
    found = suites()
    assert list(found) == list(with_hot_parts(ALL))
    for spec, rules in found.items():
        assert len({rule.name for rule in rules}) == len(rules), spec.full_name
        by_name = {rule.name: rule for rule in rules}
        assert by_name["key_is_unique"].columns == spec.key
        assert {f"{c.name}_is_not_null" for c in spec.columns if not c.nullable} <= set(by_name)
        assert len(by_name["columns_are_declared"].columns) == len(spec.columns)


def test_rules_come_from_the_declaration():
    names = {rule.name for rule in rules_of(PROFILES)}
    assert {"canonical_id_is_not_null", "event_count_is_at_least_0", "sessions_add_up"} <= names
    severities = {rule.name: rule.severity for rule in suites()[EVENTS]}
    assert severities["not_from_the_future"] == "warning"
    assert severities["key_is_unique"] == "critical"


def test_tables_are_made_from_tables_that_there_are():
    for spec in ALL:
        assert all(name in BY_NAME for name in spec.made_from), spec.full_name


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Check("Not Snake", "says", "true"),
        lambda: Check("nothing_said", "", "true"),
        lambda: LakeRule(EVENTS, "no_batch", "says", "SELECT 1 FROM silver.events"),
        lambda: LakeRule(EVENTS, "braces", "says", "SELECT {x} FROM {batch}"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_where_it_is_declared(declare):
    with pytest.raises(SpecError):
        declare()


def test_every_check_and_every_rule_between_tables_has_its_defect():
    declared = {(spec, check.name) for spec in ALL for check in spec.checks}
    declared |= {(rule.table, rule.name) for rule in LAKE_RULES}
    assert declared <= set(SPOILED)
    assert {(spec.full_name, name) for spec, name in SPOILED} <= {
        (rule.suite, rule.name) for rules in suites().values() for rule in rules
    }


@pytest.mark.thorough
def test_a_clean_lake_keeps_every_rule(clean_lake):
    assert broken(clean_lake) == set()


@pytest.mark.thorough
@pytest.mark.parametrize("policy", ["default", "attach_weak"])
def test_every_scenario_keeps_every_rule(tmp_path, policy):
    """Shared devices, hubs, refused edges, aliases, late events, weak identifiers: none of them is a defect."""
    lake = Lake(tmp_path / "lake")
    processor = processor_of(lake, policy_of(policy))
    for number, records in enumerate(batch for batch in arrivals(cases_of(policy)) if batch):
        feed(processor, [json.dumps(record).encode() for record in records], number)
        if number == 1:
            processor.compact()
    assert broken(lake) == set()


@pytest.mark.thorough
def test_decisions_keep_every_rule(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    at = ("--lake", str(lake.path), "--reason", "because")
    assert main(["merge", "user_id:u-ada", "user_id:u-bob", "--force", *at]) == 0
    assert broken(lake) == set()
    assert main(["split", "user_id:u-bob", "--identifier", "device_id:dev-bob", *at]) == 0
    assert broken(lake) == set()


@pytest.mark.thorough
@pytest.mark.slow
def test_a_replay_and_an_archive_keep_every_rule(clean_lake, copy_of, tmp_path, capsys):
    """Both move rows that earlier batches have counted; a record that is nowhere is found all the same."""
    lake = copy_of(clean_lake)
    at = ("--lake", str(lake.path))
    assert main(["quarantine", "show", "--json", *at]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    record["payload"] = line(50, 8, "page_view", device_id="dev-ada").decode()
    (tmp_path / "fixed.jsonl").write_text(json.dumps(record) + "\n")
    assert main(["quarantine", "replay", "--payloads", str(tmp_path / "fixed.jsonl"), *at]) == 0
    assert min(published(lake).arrow(BATCHES)["quarantined_count"].to_pylist()) == -1
    assert broken(lake) == set()

    archive = ("--archive-older-than", "0", "--archive-to", str(tmp_path / "archive"))
    assert main(["upkeep", *archive, *at]) == 0
    snapshot = published(lake)
    assert snapshot.arrow(BRONZE_EVENTS).num_rows == 0
    assert dict(snapshot.row["metrics"])["archived_record_count"] == sum(map(len, BATCHES_OF_LINES))
    assert broken(lake) == set()
    assert main(["upkeep", "--restore-archive", *at]) == 0
    assert broken(lake) == set()


@pytest.fixture(scope="module")
def shown(clean_lake):
    """A connection that shows the clean lake; whoever changes it changes it back."""
    with duckdb.connect() as con:
        register_duckdb(con, clean_lake)
        yield con


@pytest.mark.thorough
@pytest.mark.parametrize("spec, rule", SPOILED, ids=lambda v: v if isinstance(v, str) else v.full_name)
def test_each_defect_is_found(clean_lake, shown, spec, rule):
    """The table's rows are exchanged for spoiled ones in the connection; test_quality_run.py spoils tables on disk."""
    rows = SPOILED[spec, rule](published(clean_lake).arrow(spec).to_pylist())
    shown.register("spoiled", pa.Table.from_pylist(rows, schema=nullable(spec)))
    shown.execute("BEGIN")
    try:
        shown.execute("CREATE TEMP TABLE spoiled_rows AS FROM spoiled")
        shown.execute(f"CREATE OR REPLACE VIEW {rows_of(spec)} AS FROM spoiled_rows")
        assert (spec.full_name, rule) in broken_as_shown(shown, clean_lake, spec)
    finally:
        shown.execute("ROLLBACK")
        shown.unregister("spoiled")


def nullable(spec: TableSpec) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in spec.arrow])


@pytest.mark.thorough
def test_a_hot_row_without_a_value_that_must_be_there_is_found(clean_lake, copy_of):
    """A hot part may hold nulls, because tombstones do; only the live view shows that this row is none."""
    lake = copy_of(clean_lake)
    hot = lake.open(SESSIONS.hot).to_pyarrow_table().to_pylist()
    rows = pa.Table.from_pylist(
        2 * [{**row, "owner_node_id": None, "updated_batch_id": 5} for row in hot], schema=SESSIONS.hot.arrow
    )
    write_deltalake(str(lake.table_path(SESSIONS.hot)), rows, mode="append")
    publish_as_it_is(lake)
    found = broken(lake, SESSIONS, SESSIONS.hot)
    assert (SESSIONS.full_name, "owner_node_id_is_not_null") in found
    assert (SESSIONS.hot.full_name, "key_is_unique") in found  # batch 5 wrote the same key twice


@pytest.mark.thorough
@pytest.mark.parametrize(
    "change, critical, warned",
    [
        (lambda t: t.append_column("extra", pa.nulls(t.num_rows, pa.string())), True, True),
        (lambda t: t.drop_columns(["event_count"]), False, True),  # may be null: reads as null
        (lambda t: t.drop_columns(["tenant"]), True, True),
        (lambda t: t.set_column(
            t.schema.get_field_index("event_count"), "event_count", t["event_count"].cast(pa.string())
        ), True, True),
    ],
    ids=["a column too many", "one that may be null is missing", "one that must be there is missing", "retyped"],
)  # fmt: skip
def test_other_columns_than_the_declared_ones_are_found(clean_lake, copy_of, change, critical, warned):
    lake = copy_of(clean_lake)
    table = change(lake.open(SESSIONS).to_pyarrow_table())
    write_deltalake(str(lake.table_path(SESSIONS)), table, mode="overwrite", schema_mode="overwrite")
    publish_as_it_is(lake)
    found = broken(lake, SESSIONS)
    assert ((SESSIONS.full_name, "columns_are_declared") in found) is critical
    assert ((SESSIONS.full_name, "columns_are_complete") in found) is warned
