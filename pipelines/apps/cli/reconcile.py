"""`stitchlake reconcile`: are the published tables correct? Two independent checks; a stream may run meanwhile.

1. The records are read and resolved again, and the result is compared with the published tables.
2. GraphFrames computes the connected components of the published edges, which have to be the published persons.

Exit code 0: both checks pass; 1: the tables differ, or a check failed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from conf.policy import load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.apps.cli.rebuild import add_dates, dates_of, refuse_unnamed_policy, say, spark_of
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import existing_lake
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.rebuild.graph_check import as_text as graph_text
from pipelines.operations.rebuild.graph_check import check_components
from pipelines.operations.rebuild.rebuild import OpenSpark, something_published
from pipelines.operations.rebuild.reconcile import as_text, reconcile


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "reconcile",
        help="check tables against their records, persons by GraphFrames",
        description=__doc__,
    )
    declare_arguments(p)
    p.set_defaults(run=run)


def declare_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of `stitchlake reconcile` and of the job pipelines/apps/jobs/reconcile.py."""
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    p.add_argument(
        "--policy", metavar="FILE", help="the lake's identity policy, where it is not the shipped one"
    )
    add_dates(p)
    which = p.add_mutually_exclusive_group()
    which.add_argument("--only-graph", action="store_true", help="only the check by GraphFrames, in seconds")
    which.add_argument("--no-graph", action="store_true", help="without the check by GraphFrames")
    p.add_argument("--json", action="store_true", help="the report as one JSON object")
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("reconcile"):
            settings = load_settings(args.env)
            return report(args, settings, spark_of("reconcile", settings))
    except Exit as e:
        return e.code


def report(args: argparse.Namespace, settings: Settings, spark: OpenSpark) -> int:
    """Run the checks that `args` asks for and print what they found; 0 where both pass, else 1."""
    dates, policy, lake = dates_of(args), load_policy(args.policy), existing_lake(args.lake)
    refuse_unnamed_policy(lake, policy, args.policy)
    snapshot = something_published(lake)
    if not same_policy(snapshot, policy):
        raise RebuildRefused(
            "this lake was made under another policy; give that one (`stitchlake rebuild --dry-run` says what "
            "another policy would change)"
        )
    if other := other_identifier_rules(snapshot, policy):
        raise RebuildRefused(other)
    if args.only_graph and dates:
        raise BadUsage(
            "--since and --until choose records to read again; --only-graph reads none, leave them out"
        )
    derived = None if args.only_graph else reconcile(lake, policy, settings, spark, dates, say)
    if not args.no_graph:
        say("GraphFrames computes the connected components of the published edges")
    checked = None if args.no_graph else check_components(snapshot, policy, spark())
    if args.json:
        found = {} if derived is None else derived.as_dict()
        found |= {} if checked is None else {"graph_check": checked.as_dict()}
        print(json.dumps(found, default=str), flush=True)
    else:
        texts = [as_text(derived)] if derived is not None else []
        texts += [graph_text(checked)] if checked is not None else []
        print("\n".join(texts), flush=True)
    return 0 if (derived is None or derived.is_equal) and (checked is None or checked.agrees) else 1
