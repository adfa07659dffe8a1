"""The quality job: checks one published snapshot against every suite, while a stream may run.

published batch ─▶ counts (DuckDB or Spark) ─▶ verdicts (Great Expectations) ─▶ pages, then ops.quality_results
It reads at pinned versions and takes no lock, so neither waits for the other.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from conf.errors import Refusal
from conf.table_spec import TableSpec
from conf.tables import ALL, QUALITY_RESULTS
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.views import register_duckdb, register_spark
from pipelines.lake.writing.compaction import compact_files
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.stream.batch.publish import ALL_TENANTS
from quality.docs_folder import require_ours
from quality.measure import Ask, measure
from quality.rules import described, suites

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from quality.suites import Judged

DOCS = "_stitchlake/quality"
DUCKDB_MEMORY = "2GB"  # beyond that it works on disk


class QualityProblem(Refusal):
    """The lake cannot be looked at; the message says what to do."""


@dataclass(frozen=True)
class QualityRun:
    """One run, as ops.quality_results keeps it: its rows in that table's columns."""

    run_id: str
    checked_batch_id: int
    checked_at: datetime
    rows: pa.Table

    @property
    def broken(self) -> list[dict[str, Any]]:
        """The expectations that were not met, critical ones first."""
        rows = self.rows.filter(pc.invert(self.rows["is_success"])).to_pylist()
        return sorted(rows, key=lambda row: (row["severity"] != "critical", row["suite"]))

    @property
    def broken_critical(self) -> list[dict[str, Any]]:
        """The broken rows of critical severity."""
        return [row for row in self.broken if row["severity"] == "critical"]


def check_quality(
    lake: Lake,
    docs: Path | None = None,
    spark: SparkSession | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> QualityRun:
    """Hold the last published batch against every suite, write the pages and then the results.

    Counts with DuckDB, or with `spark`. QualityProblem when there is nothing to look at; DocsFolderTaken.
    """
    folder = docs or lake.path / DOCS
    require_ours(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)  # or fail before anything is counted
    progress("loading Great Expectations")
    from quality.data_docs import write_data_docs
    from quality.suites import judge

    checked_at, earlier = datetime.now(UTC), newest_run(lake)
    if earlier is not None:  # of the same batch, perhaps, and its clock was ahead
        checked_at = max(checked_at, earlier.checked_at + timedelta(milliseconds=1))
    run_id = f"{checked_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    judged: dict[str, list[Judged]] = {}
    with tempfile.TemporaryDirectory(prefix="stitchlake-quality-") as scratch:
        snapshot, ask = _opened(lake, spark, scratch)
        wanted = {spec: rules for spec, rules in suites().items() if lake.has(spec)}
        for number, (spec, rules) in enumerate(wanted.items(), 1):
            progress(f"batch {snapshot.batch_id}: {spec.full_name}, {number} of {len(wanted)}")
            measured = measure(spec, rules, columns_of(lake, spec), ask)
            judged[spec.full_name] = [judge(one) for one in measured]
    progress("writing the pages")
    write_data_docs(folder, judged, f"batch {snapshot.batch_id}", checked_at)
    rows = _rows(judged, run_id, snapshot, checked_at)
    # Last, and in one commit: whoever sees a run sees the whole of it, and its pages are there.
    lake.create_missing((QUALITY_RESULTS,))
    DeltaRsWriter(lake).append(QUALITY_RESULTS, rows, Txn(f"quality:{run_id}", 0))
    compact_files(lake, QUALITY_RESULTS)
    return QualityRun(run_id, snapshot.batch_id, checked_at, rows)


def newest_run(lake: Lake) -> QualityRun | None:
    """The run that began last, or None where there was none."""
    if not lake.has(QUALITY_RESULTS):
        return None
    results = lake.open(QUALITY_RESULTS).to_pyarrow_dataset(schema=QUALITY_RESULTS.arrow)
    runs = results.to_table(columns=["run_id", "checked_batch_id", "checked_at"])
    if not runs.num_rows:
        return None
    # By batch first: a clock that was ahead once would make its run the newest for ever.
    order = [(name, "descending") for name in ("checked_batch_id", "checked_at", "run_id")]
    newest = runs.sort_by(order)["run_id"][0].as_py()
    rows = results.to_table(filter=pc.field("run_id") == newest)
    return QualityRun(newest, rows["checked_batch_id"][0].as_py(), rows["checked_at"][0].as_py(), rows)


def _opened(lake: Lake, spark: SparkSession | None, scratch: str) -> tuple[Snapshot, Ask]:
    """The last published batch and how to ask about it; every table is shown as of that batch from now on."""
    snapshot = published(lake)
    if snapshot is None:
        raise QualityProblem(
            f"there is nothing to check in {lake.path} yet: no batch has been published there"
        )
    for spec in with_hot_parts(ALL):
        if snapshot.version(spec) is not None and not lake.has(spec):
            raise QualityProblem(
                f"{spec.full_name} is gone, and batch {snapshot.batch_id} has it; restore {lake.table_path(spec)}"
            )
    try:
        if spark is not None:
            register_spark(spark, lake, at=snapshot)
            return snapshot, lambda query: tuple(spark.sql(query).first() or ())

        import duckdb

        con = duckdb.connect(config={"memory_limit": DUCKDB_MEMORY, "temp_directory": scratch})
        register_duckdb(con, lake, snapshot)
        return snapshot, lambda query: con.execute(query).fetchone() or ()
    except DeltaError:
        raise QualityProblem(
            f"the tables of batch {snapshot.batch_id} cannot be opened as they were then; run it again, and if that "
            "does not help, look for data files that somebody has removed"
        ) from None


def columns_of(lake: Lake, spec: TableSpec) -> list[str]:
    """The columns that a table has now; they change by declaration only, and before the next batch."""
    fields = lake.open(spec).schema().fields
    return [described(f.name, _type_text(json.loads(f.type.to_json())), f.nullable) for f in fields]


def _type_text(kind: Any) -> str:
    """A Delta type in the spelling of the declarations."""
    if isinstance(kind, str):
        return kind
    if kind["type"] == "array":
        return f"array<{_type_text(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{_type_text(kind['keyType'])},{_type_text(kind['valueType'])}>"
    return f"struct<{','.join(f['name'] + ':' + _type_text(f['type']) for f in kind['fields'])}>"


def _rows(judged: dict[str, list[Judged]], run_id: str, snapshot: Snapshot, checked_at: datetime) -> pa.Table:
    return pa.Table.from_pylist(
        [_row(one, run_id, snapshot, checked_at) for results in judged.values() for one in results],
        schema=QUALITY_RESULTS.arrow,
    )


def _row(one: Judged, run_id: str, snapshot: Snapshot, checked_at: datetime) -> dict[str, Any]:
    rule = one.measured.rule
    return {
        "tenant": ALL_TENANTS,
        "run_id": run_id,
        "checked_batch_id": snapshot.batch_id,
        "suite": rule.suite,
        "rule": rule.name,
        "expectation": one.expectation,
        "columns": [] if rule.kind == "columns" else list(rule.columns),
        "says": rule.says,
        "severity": rule.severity,
        "is_success": one.is_success,
        "unexpected_count": one.measured.unexpected_count,
        "element_count": one.measured.element_count,
        "checked_at": checked_at,
    }


def summary(broken: Sequence[dict[str, Any]]) -> str:
    """Which expectations were not met, in one line."""
    return ", ".join(f"{row['suite']} {row['rule']}" for row in broken)
