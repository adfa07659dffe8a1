"""The quality job on a real lake: its verdicts, its results, its pages, and the gate that heeds them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import socket
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from conf.tables import ALL, EVENTS, IDENTITY_REDIRECTS, PROFILES, QUALITY_RESULTS
from pipelines.apps.cli.__main__ import main
from pipelines.apps.cli.status import status
from pipelines.apps.jobs import cohorts
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.lock import lake_lock
from pipelines.lake.snapshot import published
from pipelines.lake.views import cohort_query
from pipelines.operations.quality.gate import QualityBroken, require_quality, tables_behind
from pipelines.operations.quality.run import DOCS, check_quality, newest_run
from quality.rules import suites
from tests.pipelines.lake_rows import rows_of
from tests.quality.conftest import BATCHES_OF_LINES, SECRETS, feed, processor_of
from tests.quality.spoiled import SPOILED, spoil

COHORT = "SELECT canonical_id FROM gold.profiles_live WHERE has_used_mobile"

pytestmark = pytest.mark.thorough  # Great Expectations takes seconds to import


@pytest.fixture(scope="module")
def checked_lake(clean_lake, tmp_path_factory) -> Lake:
    """A clean lake, checked twice: while somebody holds its lock, and where any connection raises. To be read only."""
    folder = tmp_path_factory.mktemp("checked") / "lake"
    shutil.copytree(clean_lake.path, folder)
    with lake_lock(folder):
        assert main(["quality", "--lake", str(folder), "--json"]) == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", lambda *_: pytest.fail("the quality job calls out"))
        patched.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it looks up a name"))
        check_quality(Lake(folder))
    return Lake(folder)


@pytest.fixture(scope="module")
def broken_lake(clean_lake, tmp_path_factory) -> tuple[Lake, int, str]:
    """Of every kind of expectation one is broken; the command's exit code and what it said. To be read only."""
    folder = tmp_path_factory.mktemp("broken") / "lake"
    shutil.copytree(clean_lake.path, folder)
    lake = Lake(folder)
    for spec, rule in BROKEN:
        spoil(lake, spec, SPOILED[spec, rule])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(["quality", "--lake", str(folder)])
    return lake, code, said.getvalue()


BROKEN = [(spec, name) for spec, name in SPOILED if name in ("key_is_unique", "cause_is_accepted")] + [
    (PROFILES, "event_count_is_at_least_0"),
    (PROFILES, "first_login_is_seen"),
    (EVENTS, "not_from_the_future"),
]


def pages(folder: Path) -> dict[Path, str]:
    return {page: page.read_text(encoding="utf-8") for page in folder.rglob("*.html")}


class Links(HTMLParser):
    """What a page fetches or leads to, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]


def test_a_clean_lake_meets_every_expectation_beside_a_running_stream(checked_lake):
    run = newest_run(checked_lake)
    assert run is not None
    assert run.broken == []
    assert run.checked_batch_id == published(checked_lake).batch_id
    expected = {(rule.suite, rule.name) for rules in suites().values() for rule in rules}
    assert set(zip(run.rows["suite"].to_pylist(), run.rows["rule"].to_pylist(), strict=True)) == expected


@pytest.mark.slow
def test_runs_are_kept_one_after_the_other_and_are_no_part_of_a_batch(checked_lake):
    results = checked_lake.open(QUALITY_RESULTS).to_pyarrow_table()
    assert len(set(results["run_id"].to_pylist())) == 2
    keys = list(zip(*(results[k].to_pylist() for k in QUALITY_RESULTS.key), strict=True))
    assert len(set(keys)) == len(keys)
    assert QUALITY_RESULTS.full_name not in published(checked_lake).table_versions
    assert QUALITY_RESULTS not in ALL


def test_every_kind_of_defect_is_judged_told_and_kept(broken_lake):
    lake, code, said = broken_lake
    assert code == 1
    run = newest_run(lake)
    found = {(row["suite"], row["rule"]): row for row in run.broken}
    for spec, rule in BROKEN:
        row = found[spec.full_name, rule]
        assert row["unexpected_count"] > 0
        assert rule in said
    assert found[EVENTS.full_name, "not_from_the_future"]["severity"] == "warning"
    kinds = {row["expectation"] for row in run.broken}
    assert kinds == {
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "unexpected_rows_expectation",
    }
    everything = set(run.rows["expectation"].to_pylist())
    assert everything - kinds == {"expect_column_values_to_not_be_null", "expect_table_columns_to_match_set"}


def test_what_cannot_be_counted_is_not_met(clean_lake):
    from quality.measure import measure
    from quality.suites import judge

    def no_answer(query: str):
        raise ValueError("somebody@example.org cannot be cast")

    rules = suites()[PROFILES]
    columns = next(rule.columns for rule in rules if rule.kind == "columns")
    judged = [judge(one) for one in measure(PROFILES, rules, columns, no_answer)]
    for one in judged:
        assert one.is_success is (one.measured.rule.kind == "columns")
        assert "example.org" not in str(one.result)


def test_great_expectations_finds_what_was_counted_for_every_single_rule():
    """One unexpected row, or one other column, is enough for every rule to fail, and none for it to be met."""
    from quality.measure import Measured
    from quality.suites import judge

    for rules in suites().values():
        for rule in rules:
            other = (*rule.columns, "extra string") if rule.kind == "columns" else ()
            null_count = 1 if rule.kind == "not_null" else 0
            met = judge(Measured(rule, 10, 0, 0, rule.columns if rule.kind == "columns" else ()))
            broken = judge(Measured(rule, 10_000_000, 1, null_count, other))
            assert (met.is_success, broken.is_success) == (True, False), rule


def test_pages_open_without_a_network_and_name_no_identifier(broken_lake):
    lake, _, _ = broken_lake
    docs = lake.path / DOCS
    found = pages(docs)
    assert len(found) == 1 + 2 * len(list(with_hot_parts(ALL)))
    for page, text in found.items():
        links = Links(text)
        assert not {"script", "img", "iframe", "link", "object"} & set(links.open), page
        assert "url(" not in re.sub(r"url\(#", "", text)
        for target in links.targets:
            if not target.startswith(("#", "https://greatexpectations.io")):
                assert (page.parent / unquote(target.split("#")[0])).exists(), (page.name, target)
    index = found[docs / "index.html"]
    assert "silver.identity_log" in index
    assert "cause is one of" in index
    (broken_page,) = (p for p in found if "validations/silver/identity_log/" in p.as_posix())
    assert "unexpected values found" in found[broken_page]
    everything = "".join(found.values()) + json.dumps(
        lake.open(QUALITY_RESULTS).to_pyarrow_table().to_pylist(), default=str
    )
    for secret in (*SECRETS, "a whim"):
        assert secret not in everything


def test_somebody_elses_folder_is_not_replaced(clean_lake, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("dear")
    assert main(["quality", "--lake", str(clean_lake.path), "--docs", str(mine)]) == 2
    assert "something else in it" in capsys.readouterr().err
    assert (mine / "thesis.txt").read_text() == "dear"


def test_where_there_is_nothing_to_check_one_line_says_so(tmp_path, capsys):
    assert main(["quality", "--lake", str(tmp_path / "no")]) == 1
    assert "no lake in" in capsys.readouterr().err
    Lake(tmp_path / "empty").create_missing()
    assert main(["quality", "--lake", str(tmp_path / "empty")]) == 1
    assert "no batch has been published" in capsys.readouterr().err.splitlines()[-1]


def test_status_and_sql_show_the_newest_verdict(checked_lake, capsys):
    assert status(checked_lake, datetime.now(UTC))["quality"]["is_success"] is True
    assert main(["status", "--lake", str(checked_lake.path)]) == 0
    assert "expectations met, checked at" in capsys.readouterr().out
    question = "SELECT count(DISTINCT run_id) AS runs FROM ops.quality_results"
    assert main(["sql", "--json", "--lake", str(checked_lake.path), question]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 2}


# -- the gate --------------------------------------------------------------------------------------------------------


def test_a_cohort_relies_on_what_its_tables_are_made_from():
    assert {spec.full_name for spec in tables_behind(COHORT)} == {
        "gold.profiles",
        "silver.sessions",
        "silver.identity_map",
        "silver.identity_edges",
        "silver.identity_decisions",
        "silver.identifiers",
        "silver.events",
        "bronze.events",
        "bronze.corrections",
        "ops.batches",
    }
    for name in ("logged_in_and_used_mobile", "anonymous_three_times_then_logged_in"):
        assert PROFILES in tables_behind(cohort_query(name))
    assert EVENTS in tables_behind("SELECT * FROM `GOLD` . `Daily_Activity`")
    assert IDENTITY_REDIRECTS not in tables_behind(COHORT)
    assert tables_behind("SELECT 1") == set(ALL)


def write_run(lake: Lake, batch_id: int, **first: object) -> None:
    """A quality run of one row, as the job would write it."""
    from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
    from pipelines.lake.writing.writer import Txn

    lake.create_missing((QUALITY_RESULTS,))
    row = {
        "checked_batch_id": batch_id,
        "suite": "silver.events",
        "severity": "critical",
        "is_success": False,
    }
    rows = rows_of(QUALITY_RESULTS, {**row, **first})
    DeltaRsWriter(lake).append(QUALITY_RESULTS, rows, Txn(f"run {first}", 0))


def test_without_a_run_the_gate_is_open_and_says_so(clean_lake):
    said: list[str] = []
    require_quality(clean_lake, [COHORT], say=said.append)
    assert "never checked" in said[0]


def test_a_broken_table_stops_what_relies_on_it_and_nothing_else(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    write_run(lake, 4)
    with pytest.raises(
        QualityBroken, match=r"batch 4 .* silver.events rule-0; nothing was written.*--despite-quality"
    ):
        require_quality(lake, [COHORT])
    said: list[str] = []
    require_quality(lake, [COHORT], despite=True, say=said.append)
    assert "publishing all the same" in said[0]
    require_quality(lake, ["SELECT * FROM silver.quarantine"])  # not made from events


@pytest.mark.parametrize(
    "row", [{"severity": "warning"}, {"is_success": True}, {"suite": "silver.identity_redirects"}]
)
def test_a_warning_and_a_table_that_nobody_relies_on_stop_nothing(clean_lake, copy_of, row):
    lake = copy_of(clean_lake)
    write_run(lake, published(lake).batch_id, **row)
    said: list[str] = []
    require_quality(lake, [COHORT], say=said.append)
    assert said == []


def test_a_broken_hot_part_counts_for_its_table(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    write_run(lake, 4, suite="gold.profiles_hot")
    with pytest.raises(QualityBroken):
        require_quality(lake, [COHORT])


def test_an_older_run_is_heeded_and_its_batch_is_said(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    write_run(lake, 1, is_success=True)
    said: list[str] = []
    require_quality(lake, [COHORT], say=said.append)
    assert said == ["its quality is known as of batch 1, and batch 4 is published"]


def test_the_stream_goes_on_after_a_run_and_the_next_clean_run_opens_the_gate(clean_lake, copy_of):
    lake = copy_of(clean_lake)
    before = published(lake).batch_id
    write_run(lake, before)
    processor = processor_of(lake)
    feed(processor, BATCHES_OF_LINES[2], 3)  # the same events again: duplicates
    processor.compact()
    assert published(lake).batch_id > before
    assert newest_run(lake).checked_batch_id == before
    with pytest.raises(QualityBroken):
        require_quality(lake, [COHORT])
    assert check_quality(lake).broken == []
    require_quality(lake, [COHORT])


def test_the_cohorts_job_writes_nothing_from_a_broken_lake(broken_lake, tmp_path, capsys):
    """No Spark: it refuses before a session is started."""
    lake, _, _ = broken_lake
    assert cohorts.main(["--lake", str(lake.path), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "found critical expectations broken" in said
    assert not (tmp_path / "out").exists()
