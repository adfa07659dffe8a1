"""Check a lake's tables against its records: `stitchlake reconcile` as a nightly job.

    spark-submit --packages … --py-files stitchlake-0.1.0-py3-none-any.whl reconcile.py --lake LAKE

The stream may be writing meanwhile. The job fails where the tables are not what the records give.
"""

from __future__ import annotations

import argparse
import sys

from pyspark.sql import SparkSession

from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.reconcile import declare_arguments, report
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session


def main(argv: list[str] | None = None) -> int:
    """Run with the arguments of `stitchlake reconcile`. Returns 0, 1 when it differs or failed, 2 on bad usage."""
    args = _parser().parse_args(argv)
    try:
        with reported("reconcile"):
            settings = load_settings(args.env)
            spark = build_session(
                "stitchlake reconcile", settings.master, driver_memory=settings.driver_memory
            )
            return run(spark, settings, args)
    except Exit as e:
        return e.code


def run(spark: SparkSession, settings: Settings, args: argparse.Namespace) -> int:
    """Reconcile in the session given, and print the report."""
    return report(args, settings, lambda: spark)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reconcile.py", description="Check a lake's tables against its records."
    )
    declare_arguments(parser)
    return parser


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
