"""`stitchlake reconcile`: are the published tables what the lake's records give? Reads only, beside a running stream.

Exit code 0: they are; 1: they differ, or it failed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from conf.policy import load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.rebuild import add_dates, dates_of, refuse_unnamed_policy, say, spark_of
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import existing_lake
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.rebuild.rebuild import OpenSpark, something_published
from pipelines.operations.rebuild.reconcile import as_text, reconcile


def register(subparsers: argparse._SubParsersAction) -> None:
    p = subparsers.add_parser("reconcile", help="hold the tables against their records", description=__doc__)
    declare_arguments(p)
    p.set_defaults(run=run)


def declare_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of `stitchlake reconcile` and of the job pipelines/apps/jobs/reconcile.py."""
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    p.add_argument(
        "--policy", metavar="FILE", help="the lake's identity policy, where it is not the shipped one"
    )
    add_dates(p)
    p.add_argument("--json", action="store_true", help="the report as one JSON object")
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )


def run(args: argparse.Namespace) -> int:
    try:
        with reported("reconcile"):
            settings = load_settings(args.env)
            return report(args, settings, spark_of("reconcile", settings))
    except Exit as e:
        return e.code


def report(args: argparse.Namespace, settings: Settings, spark: OpenSpark) -> int:
    """Reconcile and print; 0 where everything is equal, else 1."""
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
    found = reconcile(lake, policy, settings, spark, dates, say)
    print(json.dumps(found.as_dict(), default=str) if args.json else as_text(found), flush=True)
    return 0 if found.is_equal else 1
