"""Upkeep of a lake, for schedulers: `stitchlake upkeep` as a job. Needs no Spark session.

    upkeep.py --lake LAKE --env cluster --archive-older-than 400 --archive-to ARCHIVE

A stream may be writing on the same machine: it is asked to pause for a moment between two batches.
"""

from __future__ import annotations

import argparse
import sys

from pipelines.apps.cli.upkeep import declare_arguments, run
from pipelines.runtime.process_end import run_and_end


def main(argv: list[str] | None = None) -> int:
    """Run with the arguments of `stitchlake upkeep`. Returns 0, 1 when it failed, 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="upkeep.py", description="Upkeep of a lake.")
    declare_arguments(parser)
    return run(parser.parse_args(argv))


def task() -> None:
    """The job for a scheduler that looks at exceptions."""
    if code := main():
        sys.exit(code)


if __name__ == "__main__":
    run_and_end(main)
