"""Stream sources into a lake: `stitchlake run` as a job.

spark-submit --packages … --py-files stitchlake-0.1.0-py3-none-any.whl stream.py --source native:FOLDER --lake LAKE
"""

from __future__ import annotations

import argparse
import sys

from pyspark.sql import SparkSession

from conf.settings import Settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.run import declare_arguments, session_of, stream
from pipelines.runtime.process_end import run_and_end


def main(argv: list[str] | None = None) -> int:
    """Run with the arguments of `stitchlake run`. Returns 0, 1 when it failed, 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="stream.py", description="Stream sources into a lake.")
    declare_arguments(parser)
    args = parser.parse_args(argv)
    try:
        with reported("stream"):
            spark, settings = session_of(args, "stitchlake stream")
            return run(spark, settings, args)
    except Exit as e:
        return e.code


def run(spark: SparkSession, settings: Settings, args: argparse.Namespace) -> int:
    """Stream in the session given, until a signal or with --once until everything there is published."""
    return stream(spark, settings, args)


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
