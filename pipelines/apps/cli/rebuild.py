"""`stitchlake rebuild`: derives all tables again from bronze while the stream runs, then publishes the difference."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from conf.policy import Policy, load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.numbers import amount
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.lake.identifier_rules import same_policy
from pipelines.lake.lake import Lake, existing_lake
from pipelines.lake.snapshot import published
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.rebuild.backfill import Done, rebuild
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.rebuild.rebuild import OpenSpark, Plan, planned
from pipelines.runtime.session import build_session
from transforms.compare.effects import GONE, MERGE, Effect, Effects


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "rebuild", help="derive a lake again from its records, ids stay", description=__doc__
    )
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    p.add_argument("--policy", metavar="FILE", help="identity policy (YAML); default: the shipped one")
    p.add_argument("--yes", action="store_true", help="write without asking")
    add_dry_run(p)
    add_dates(p)
    p.add_argument(
        "--wait",
        type=amount,
        default=3600.0,
        metavar="SECONDS",
        help="for a running stream's turn, or under another policy for its end; default: %(default)s",
    )
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    p.set_defaults(run=run)


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """The options of a dry run, which `resolve` has as well."""
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and write nothing")
    parser.add_argument(
        "--show-identifiers", action="store_true", help="name a few identifiers of the largest effects"
    )
    parser.add_argument("--json", action="store_true", help="what changes, as one JSON object")


def add_dates(parser: argparse.ArgumentParser) -> None:
    """The options of a range of dates, which `reconcile` has as well."""
    for name, says in (("since", "from this date on"), ("until", "up to and including this date")):
        parser.add_argument(
            f"--{name}",
            metavar="DATE",
            help=f"read only records again that came or happened {says} (UTC, as 2026-03-31)",
        )


def dates_of(args: argparse.Namespace) -> Dates | None:
    """The range that was asked for; None for everything. BadUsage when it is none."""
    found: dict[str, date | None] = {"since": None, "until": None}
    for name in found:
        if (text := getattr(args, name)) is not None:
            try:
                found[name] = date.fromisoformat(text)
            except ValueError:
                raise BadUsage(f"--{name}: write a date as 2026-03-31") from None
    since, until = found["since"], found["until"]
    if since and until and since > until:
        raise BadUsage("--since is later than --until; exchange them")
    return Dates(since, until) if since or until else None


def spark_of(command: str, settings: Settings) -> OpenSpark:
    """A session, once somebody needs one."""
    return partial(
        build_session, f"stitchlake {command}", settings.master, driver_memory=settings.driver_memory
    )


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("rebuild"):
            if args.dry_run:
                return dry_run("rebuild", args.lake, args, load_settings(args.env), dates_of(args))
            return _rebuild(args)
    except Exit as e:
        return e.code


def dry_run(
    command: str, lake_path: Path, args: argparse.Namespace, settings: Settings, dates: Dates | None = None
) -> int:
    """What a rebuild of the lake under args.policy would do, on standard output."""
    policy, lake = load_policy(args.policy), existing_lake(lake_path)
    refuse_unnamed_policy(lake, policy, args.policy)
    with planned(lake, policy, settings, spark_of(command, settings), dates, say) as (plan, _):
        _show(plan, policy, args, is_dry=True)
    return 0


def _rebuild(args: argparse.Namespace) -> int:
    policy, settings = load_policy(args.policy), load_settings(args.env)
    refuse_unnamed_policy(existing_lake(args.lake), policy, args.policy)
    dates = dates_of(args)
    if not args.yes and not sys.stdin.isatty():
        print(
            "stitchlake rebuild: nobody is there to ask; give --yes to write, or --dry-run to see what changes",
            file=sys.stderr,
        )
        return 2

    def confirm(plan: Plan) -> bool:
        _show(plan, policy, args, is_dry=False)
        if args.yes:
            return True
        print("write this? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    done = rebuild(
        args.lake,
        policy,
        settings,
        spark=spark_of("rebuild", settings),
        dates=dates,
        confirm=confirm,
        progress=say,
        patience_seconds=args.wait,
    )
    say("nothing was written" if done is None else _published(done))
    return 0


def _published(done: Done) -> str:
    rest = f", {done.rest_event_count:,} events of them had come meanwhile" if done.rest_event_count else ""
    return f"published batch {done.batch_id}; the lake was held for {done.pause_seconds:.1f} s{rest}"


def refuse_unnamed_policy(lake: Lake, policy: Policy, named: str | None) -> None:
    """Nobody's own policy is exchanged for the shipped one just because it was not mentioned."""
    snapshot = published(lake)
    if named is None and snapshot and not same_policy(snapshot, policy):
        raise RebuildRefused(
            "this lake was made under a policy of its own, or by an older version of the program; say which policy to "
            "rebuild it under: --policy FILE (or --policy default for the shipped one)"
        )


def say(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)


def _show(plan: Plan, policy: Policy, args: argparse.Namespace, is_dry: bool) -> None:
    names = _names(plan) if args.show_identifiers else {}
    if args.json:
        print(json.dumps(as_json(plan, policy, names, is_dry)), flush=True)
    else:
        same = same_policy(plan.snapshot, policy)
        head = f"lake as of batch {plan.snapshot.batch_id:,}; " + (
            "the policy it was made under" if same else "another policy than it was made under"
        )
        print("\n".join([head, *as_text(plan.effects, names)]), flush=True)


def as_json(plan: Plan, policy: Policy, names: dict[int, str], is_dry: bool) -> dict[str, Any]:
    """The whole report as JSON can carry it; identifiers only those in `names`."""
    found = plan.effects.as_dict()
    for shown, effect in zip(found["largest"], plan.effects.largest, strict=True):
        if names:
            shown["identifiers"] = [names[n] for n in effect.node_ids if n in names]
    return {
        "is_dry_run": is_dry,
        "published_batch_id": plan.snapshot.batch_id,
        "policy_fingerprint_before": plan.snapshot.row["policy_fingerprint"],
        "policy_fingerprint_after": policy.fingerprint,
        **found,
    }


def as_text(effects: Effects, names: dict[int, str]) -> list[str]:
    """The report as lines for people."""
    e = effects
    columns = ", ".join(f"{name} of {count:,}" for name, count in e.changed_profile_columns.items())
    lines = [
        f"persons      {e.person_count_before:,} → {e.person_count_after:,}: "
        f"{e.merged_person_count:,} merged into others, {e.split_person_count:,} split, {e.gone_person_count:,} gone",
        f"identifiers  {e.moved_identifier_count:,} to another person, {e.new_identifier_count:,} link now, "
        f"{e.gone_identifier_count:,} link no longer",
        f"profiles     {e.profile_count_before:,} → {e.profile_count_after:,}: "
        f"{e.changed_profile_count:,} of those that stay change" + (f" ({columns})" if columns else ""),
        f"sessions     {e.session_count_before:,} → {e.session_count_after:,}: {e.new_session_count:,} new, "
        f"{e.gone_session_count:,} gone, {e.session_owner_change_count:,} to another person",
        f"events       {e.valid_count_before:,} → {e.valid_count_after:,} valid: "
        f"{e.newly_valid_count:,} more, {e.no_longer_valid_count:,} no longer",
        f"quarantine   {e.quarantined_count_before:,} → {e.quarantined_count_after:,}",
        f"refused      {e.refused_pair_count_before:,} → {e.refused_pair_count_after:,} pairs of identifiers",
    ]
    if e.largest:
        lines.append("largest effects")
        lines += [f"  {_effect(effect, names)}" for effect in e.largest]
    return lines


def _effect(effect: Effect, names: dict[int, str]) -> str:
    others = ", ".join(str(i) for i in effect.others)
    more = effect.other_count - len(effect.others)
    others += f" and {more:,} more" if more > 0 else ""
    happens = {
        MERGE: f"takes in from {others}",
        GONE: "has no identifier left",
    }.get(effect.effect, f"loses to {others}")
    text = (
        f"{effect.effect:<5}  {effect.canonical_id} {happens}: "
        f"{effect.identifier_count:,} identifiers, {effect.session_count:,} sessions"
    )
    shown = [names[n] for n in effect.node_ids if n in names]
    return text + (f"  [{', '.join(shown)}]" if shown else "")


def _names(plan: Plan) -> dict[int, str]:
    """`namespace:value` of the few identifiers that the largest effects name."""
    return plan.identifiers({n for effect in plan.effects.largest for n in effect.node_ids})
