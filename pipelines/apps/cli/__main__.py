"""The command line `stitchlake`: one module per command, one way to fail."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from pipelines.apps.cli.problems import Exit, reported
from pipelines.runtime.process_end import run_and_end

COMMANDS = (
    "run",
    "resolve",
    "rebuild",
    "reconcile",
    "mapping",
    "generate",
    "profile",
    "explain",
    "decide",
    "quarantine",
    "sql",
    "quality",
    "status",
    "repair",
    "upkeep",
    "backup",
)
FAILED, BAD_USAGE = 1, 2


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with every command."""
    top = argparse.ArgumentParser(
        prog="stitchlake", description="One profile per person from raw events, on Spark and Delta Lake."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"pipelines.apps.cli.{name}").register(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns 0, 1 when it failed, 2 on bad usage; a user's mistake never shows a stack trace."""
    args = parser().parse_args(argv)
    try:
        with reported(args.command):
            return int(args.run(args))
    except Exit as e:
        return e.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return 0


def command() -> NoReturn:
    """The program `stitchlake`: one command, and the process ends with its exit code."""
    run_and_end(main)


if __name__ == "__main__":
    command()
