"""`stitchlake merge | split | keep-apart | decisions`: what a person decides about identities, and its undo."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb

from conf.policy import Policy, load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.apps.cli.sql import as_table
from pipelines.apps.results import connect
from pipelines.lake.lake import existing_lake
from pipelines.lake.person import choose_tenant
from pipelines.operations.decisions import records
from pipelines.operations.decisions.inbox import apply
from pipelines.operations.decisions.persons import Person, find_person
from transforms.ingest.plain_events import DEFAULT_TENANT

_LIST = """
SELECT tenant, decision_id, decision, is_in_force, decided_at, author, stated_reason, undoes
FROM silver.identity_decisions_live WHERE tenant = coalesce(?, tenant) ORDER BY batch_id, batch_ordinal
"""
_PERSON = "a person: canonical id, or namespace:value"


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "merge",
        help="two persons are one",
        description="Decide that two persons are one; `decisions undo` takes it back.",
    )
    p.add_argument("left", metavar="A", help=_PERSON)
    p.add_argument("right", metavar="B", help=_PERSON)
    p.add_argument(
        "--force", action="store_true", help="even if one person then has more values than she may have"
    )
    _common(p, _merge)

    p = subparsers.add_parser(
        "keep-apart",
        help="two persons are never one",
        description="Decide that two persons are never one, whatever the evidence.",
    )
    p.add_argument("left", metavar="A", help=_PERSON)
    p.add_argument("right", metavar="B", help=_PERSON)
    _common(p, _keep_apart)

    p = subparsers.add_parser(
        "split",
        help="a person is two, or a session is somebody else's",
        description="Part identifiers from a person, or give one session to another person or to nobody.",
    )
    p.add_argument("person", metavar="PERSON", nargs="?", help=_PERSON)
    p.add_argument(
        "--identifier", action="append", metavar="NS:VALUE", help="one that is somebody else's; repeatable"
    )
    p.add_argument("--session", type=int, metavar="ID", help="a session that is not hers")
    p.add_argument("--to", metavar="PERSON", help="whose the session is; default: nobody's")
    _common(p, _split)

    p = subparsers.add_parser(
        "decisions",
        help="list decisions, or undo one",
        description="Every decision ever made, in order; or undo one.",
    )
    p.add_argument("action", nargs="?", choices=("list", "undo"), default="list")
    p.add_argument("decision_id", nargs="?", metavar="ID", help="the decision to undo")
    _common(p, _decisions, needs_reason=False)


def _common(
    p: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace, Policy, Settings], int],
    needs_reason: bool = True,
) -> None:
    p.add_argument("--reason", required=needs_reason, help="why; kept with the decision")
    p.add_argument("--author", help="who decides; default: you")
    p.add_argument("--tenant", help="needed where several tenants have the identifier, or the decision")
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    p.add_argument("--policy", metavar="FILE", help="the lake's identity policy; default: the shipped one")
    p.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    p.add_argument("--json", action="store_true", help="JSON on standard output")
    p.set_defaults(run=run, act=act)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported(args.command):
            existing_lake(args.lake)
            return int(args.act(args, load_policy(args.policy), load_settings(args.env)))
    except Exit as e:
        return e.code


def _merge(args: argparse.Namespace, policy: Policy, settings: Settings) -> int:
    with connect(args.lake) as db:
        a, b = _two(db, args, policy)
        body = records.merge(db, a, b, policy, args.force)
    return _apply(args, policy, settings, "merge", body, [a, b])


def _keep_apart(args: argparse.Namespace, policy: Policy, settings: Settings) -> int:
    with connect(args.lake) as db:
        a, b = _two(db, args, policy)
    return _apply(args, policy, settings, "keep_apart", records.keep_apart(a, b, policy), [a, b])


def _two(db: duckdb.DuckDBPyConnection, args: argparse.Namespace, policy: Policy) -> tuple[Person, Person]:
    """The persons meant by A and B; from here on the tenant is theirs."""
    a, b = (find_person(db, text, policy, args.tenant) for text in (args.left, args.right))
    args.tenant = a.tenant
    return a, b


def _split(args: argparse.Namespace, policy: Policy, settings: Settings) -> int:
    if bool(args.session) == bool(args.identifier):
        raise BadUsage("say what is not hers: --identifier NS:VALUE (repeatable), or --session ID")
    with connect(args.lake) as db:
        if args.session:
            session = records.session(db, args.session, args.tenant)
            args.tenant = session.tenant
            to = find_person(db, args.to, policy, args.tenant) if args.to else None
            body = records.assign(session, to, policy)
            return _apply(args, policy, settings, "assign", body, [])
        if not args.person:
            raise BadUsage("say whose identifiers they are: split PERSON --identifier NS:VALUE")
        person = find_person(db, args.person, policy, args.tenant)
        args.tenant, body = person.tenant, records.split(db, person, args.identifier, policy)
    return _apply(args, policy, settings, "split", body, [person])


def _decisions(args: argparse.Namespace, policy: Policy, settings: Settings) -> int:
    with connect(args.lake) as db:
        found = db.execute(_LIST, [args.tenant])
        names = [c[0] for c in found.description]
        rows = found.fetchall()
    if args.action == "list":
        if args.json:
            print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
        else:
            print(as_table(names, rows) if rows else "nobody has decided anything")
        return 0
    if not args.decision_id or not args.reason:
        raise BadUsage("write `decisions undo ID --reason TEXT`; `decisions` lists them")
    tenants = sorted({row[0] for row in rows if row[1] == args.decision_id})
    if not tenants:
        raise records.Refused("there is no decision of that id; `decisions` lists them")
    if len(tenants) > 1:
        raise BadUsage(choose_tenant("that decision", tenants))
    args.tenant = tenants[0]
    return _apply(args, policy, settings, "undo", {"undoes": args.decision_id}, [])


def _apply(
    args: argparse.Namespace,
    policy: Policy,
    settings: Settings,
    kind: str,
    body: dict[str, object],
    persons: list[Person],
) -> int:
    record = {**records.head(kind, args.tenant, args.reason, args.author), **body}
    decision_id = apply(
        args.lake, policy, settings, record, say=lambda text: print(text, file=sys.stderr, flush=True)
    )
    with connect(args.lake) as db:
        now = _owners(db, persons)
    if args.json:
        print(
            json.dumps({"decision_id": decision_id, "decision": kind, "canonical_ids": [str(i) for i in now]})
        )
        return 0
    outcome = (
        f"; one person: {now[0]}" if len(now) == 1 else f"; {len(now)} persons: {', '.join(map(str, now))}"
    )
    print(f"decision {decision_id} ({kind}) is on record{outcome if now else ''}")
    tenant = "" if args.tenant == DEFAULT_TENANT else f" --tenant {args.tenant}"
    print(f"undo it with: stitchlake decisions undo {decision_id}{tenant} --lake {args.lake} --reason …")
    return 0


def _owners(db: duckdb.DuckDBPyConnection, persons: list[Person]) -> list[int]:
    """The persons that the identifiers of `persons` belong to now, shared ones aside."""
    nodes = [m.node_id for p in persons for m in p.members if not m.is_shared]
    query = "SELECT DISTINCT canonical_id FROM silver.identity_map_live WHERE list_contains(?, node_id) ORDER BY 1"
    return [i for (i,) in db.execute(query, [nodes]).fetchall()]
