"""Write the members of cohorts to files, as of the last published batch.

    spark-submit --packages … --py-files stitchlake-0.1.0-py3-none-any.whl cohorts.py --lake LAKE --output FOLDER

The stream may be writing meanwhile. Nothing is written from tables that the newest quality run found broken, unless
--despite-quality says so. A cohort is one of those shipped in pipelines/sql/cohorts, or a file with one
SELECT. Each becomes a folder FOLDER/<cohort>, replaced as a whole.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, MapType, StructType

from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.sql import report_wrong_questions_once
from pipelines.lake.lake import Lake, existing_lake
from pipelines.lake.views import COHORTS, cohort_query, register_spark
from pipelines.operations.quality.gate import require_quality
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session

FORMATS = ("parquet", "json", "csv")


class CohortError(ValueError):
    """A cohort that cannot be asked for; the message has its name, the problem and the way out."""


@dataclass(frozen=True)
class Export:
    """What to write: cohort name → its query, as files of one format in folders of `output`."""

    lake: Path
    output: str
    queries: dict[str, str]
    file_format: str


def main(argv: list[str] | None = None) -> int:
    """Returns 0, 1 when there is no lake or its quality forbids it, 2 on bad usage."""
    args = _parser().parse_args(argv)
    try:
        with reported("cohorts"):
            export = Export(
                existing_lake(args.lake).path, args.output, _queries(args.cohort or COHORTS), args.format
            )
            settings = load_settings(args.env)
            require_quality(Lake(export.lake), export.queries.values(), args.despite_quality, _say)
            spark = build_session("stitchlake cohorts", settings.master, driver_memory=settings.driver_memory)
            for name, count in run(spark, settings, export).items():
                print(f"{count:,} members of {name} in {args.output.rstrip('/')}/{name}")
            return 0
    except CohortError as e:
        print(f"stitchlake cohorts: {e}", file=sys.stderr)
        return 2
    except Exit as e:
        return e.code


def run(spark: SparkSession, settings: Settings, export: Export) -> dict[str, int]:
    """Write every cohort of `export`; its member count by name. All are of the same published batch."""
    register_spark(spark, Lake(export.lake))
    members = {name: _members(spark, name, query) for name, query in export.queries.items()}
    counts = {}
    for name, rows in members.items():
        where = f"{export.output.rstrip('/')}/{name}"
        flat = _with_json_for_lists(rows) if export.file_format == "csv" else rows
        # A quote inside quotes is doubled, as every reader of CSV but Spark expects.
        options = {"header": "true", "escape": '"'} if export.file_format == "csv" else {}
        flat.write.format(export.file_format).options(**options).mode("overwrite").save(where)
        counts[name] = rows.count()
    return counts


def _members(spark: SparkSession, name: str, query: str) -> DataFrame:
    report_wrong_questions_once()
    try:
        return spark.sql(query)
    except (ParseException, AnalysisException) as e:
        reason = (e.getMessage() or str(e)).splitlines()[0]
        raise CohortError(f"cohort {name}: {reason}") from None


def _with_json_for_lists(rows: DataFrame) -> DataFrame:
    """A CSV cell holds one value: lists, maps and structs become JSON."""
    nested = (ArrayType, MapType, StructType)
    return rows.select(
        *(F.to_json(f.name).alias(f.name) if isinstance(f.dataType, nested) else f.name for f in rows.schema)
    )


def _queries(cohorts: list[str] | tuple[str, ...]) -> dict[str, str]:
    queries = {}
    for cohort in cohorts:
        if cohort in COHORTS:
            queries[cohort] = cohort_query(cohort)
        elif Path(cohort).suffix == ".sql" and Path(cohort).is_file():
            queries[Path(cohort).stem] = Path(cohort).read_text(encoding="utf-8")
        else:
            known = ", ".join(COHORTS)
            raise CohortError(f"cohort {cohort!r}: is neither a .sql file nor one of: {known}")
    return queries


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cohorts.py", description="Write the members of cohorts to files.")
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the cohorts' folders go")
    parser.add_argument(
        "--cohort",
        action="append",
        metavar="NAME",
        help=f"a shipped cohort or a .sql file, several times if need be; default: {', '.join(COHORTS)}",
    )
    parser.add_argument("--format", choices=FORMATS, default="parquet", help="default: parquet")
    parser.add_argument(
        "--despite-quality",
        action="store_true",
        help="write even what the newest quality run found critical faults in",
    )
    parser.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    return parser


def _say(line: str) -> None:
    print(f"stitchlake cohorts: {line}", file=sys.stderr)


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
