"""Resolve files of events: `stitchlake resolve` as a job.

spark-submit --packages … --py-files stitchlake-0.1.0-py3-none-any.whl resolve.py EVENTS… --output FILE
"""

from __future__ import annotations

import argparse
import sys

from pyspark.sql import SparkSession

from conf.settings import Settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.resolve import declare_arguments, resolve, session_of
from pipelines.runtime.process_end import run_and_end


def main(argv: list[str] | None = None) -> int:
    """Run with the arguments of `stitchlake resolve`. Returns 0, 1 when it failed, 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="resolve.py", description="Resolve files of events.")
    declare_arguments(parser)
    args = parser.parse_args(argv)
    try:
        with reported("resolve"):
            spark, settings = session_of(args, "stitchlake resolve")
            return run(spark, settings, args)
    except Exit as e:
        return e.code


def run(spark: SparkSession, settings: Settings, args: argparse.Namespace) -> int:
    """Resolve in the session given, and write the outputs asked for."""
    return resolve(spark, settings, args)


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
