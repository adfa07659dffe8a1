"""Check the published tables of a lake against their declarations: `stitchlake quality` as a job.

spark-submit --packages … --py-files stitchlake-0.1.0-py3-none-any.whl quality.py --lake LAKE

The stream may be writing meanwhile. Jobs that publish refuse when it has found critical faults.
"""

from __future__ import annotations

import argparse
import sys

from pyspark.sql import SparkSession

from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.quality import check, declare_arguments, session_of
from pipelines.runtime.process_end import run_and_end


def main(argv: list[str] | None = None) -> int:
    """Returns 0, 1 when a critical expectation is not met or the lake cannot be read, 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="quality.py", description="Hold the published tables against what they declare."
    )
    declare_arguments(parser, "spark")
    args = parser.parse_args(argv)
    try:
        with reported("quality"):
            return run(session_of(args, "stitchlake quality"), args)
    except Exit as e:
        return e.code


def run(spark: SparkSession | None, args: argparse.Namespace) -> int:
    """Check with the session given, or with DuckDB without one."""
    return check(args, spark)


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
