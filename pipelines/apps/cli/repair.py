"""`stitchlake repair`: take a lake back to its last published batch, after somebody else has changed its tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipelines.apps.cli.problems import Exit, reported
from pipelines.operations.repair import repair


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "repair",
        help="take the lake back to its last published batch",
        description="Undoes what others have changed in the tables since the last published batch, by Delta RESTORE "
        "(so it can be looked at afterwards). What is published stays; what is not is read again by the next run. "
        "Exit code 1: no lake, a stream is running, or a table cannot be brought back.",
    )
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("repair"):
            done = repair(args.lake)
    except Exit as e:
        return e.code
    if args.json:
        print(json.dumps({"taken_back": done}))
    else:
        print("\n".join(done) or "nothing to repair: every change is the lake's own")
    return 0
