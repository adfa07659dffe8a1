"""`stitchlake explain A [B]`: why two identifiers are one person or are not; what a person is made of."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from conf.policy import load_policy
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.sql import plain_json
from pipelines.apps.results import connect
from pipelines.lake.lake import existing_lake
from pipelines.operations.decisions.explanation import explain_pair, explain_person

_SHOWN = 40  # lines of one kind, for people; --json has all


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "explain", help="why two identifiers are one person, or are not", description=__doc__
    )
    p.add_argument("left", metavar="A", help="canonical id, or namespace:value")
    p.add_argument("right", metavar="B", nargs="?", help="another one; without it, A's person is shown")
    p.add_argument("--tenant", help="needed where several tenants have the identifier")
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    p.add_argument("--policy", metavar="FILE", help="the lake's identity policy; default: the shipped one")
    p.add_argument("--json", action="store_true", help="one JSON object")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("explain"), connect(existing_lake(args.lake).path) as db:
            policy = load_policy(args.policy)
            if args.right is None:
                found = explain_person(db, args.left, policy, args.tenant)
                text = person_text
            else:
                found = explain_pair(db, args.left, args.right, policy, args.tenant)
                text = pair_text
    except Exit as e:
        return e.code
    print(json.dumps(plain_json(found), ensure_ascii=False) if args.json else text(found))
    return 0


def pair_text(found: dict[str, Any]) -> str:
    """Why two identifiers are one person or are not, as lines for people."""
    ids = found["canonical_ids"]
    if found["is_one_person"]:
        lines = [f"One person: {ids[0]}"]
        lines += ["", *(_step(s) for s in found["path"])] if found["path"] else []
        return "\n".join(lines)
    lines = [f"Two persons: {ids[0]} and {ids[1]}", ""]
    for d in found["decisions"]:
        lines.append(
            f"kept apart by decision {d['decision_id']} ({d['decision']}) of {d['author']}: {d['stated_reason']}"
        )
    for r in found["refusals"]:
        lines.append(_refused(r))
    if not found["is_connected"]:
        lines.append("no evidence connects them")
    elif found["path"]:
        lines += ["what leads from one to the other:", *(_step(s) for s in found["path"])]
    return "\n".join(lines)


def person_text(found: dict[str, Any]) -> str:
    """What a person is made of, as lines for people."""
    lines = [f"Person {found['canonical_id']}"]
    if found["asked_for_retired_id"]:
        lines[0] += f"   ({found['asked_for_retired_id']} was merged into it)"
    if found["retired_ids"]:
        lines.append(f"once also {', '.join(map(str, found['retired_ids'][:10]))}")
    lines += ["", "identifiers"]
    for i in found["identifiers"]:
        lines.append(f"  {i['name']}" + ("   hub" if i["is_hub"] else "   shared" if i["is_shared"] else ""))
    sections = {
        "evidence": [
            f"  {e['left']}  ─  {e['right']}   {_times(e['evidence_count'], [e['kind']])}"
            f", {_span(e['first_seen_at'], e['last_seen_at'])}, by {e['source']}"
            + ("   → another person's" if e["leads_to_other_person"] else "")
            for e in found["evidence"]
        ],
        "refused": ["  " + _refused(r) for r in found["refusals"]],
        "decisions": [
            f"  {d['decision_id']}  {d['decision']}  {'in force' if d['is_in_force'] else 'undone'}"
            f"  {d['author']}: {d['stated_reason']}"
            for d in found["decisions"]
        ],
        "history": [
            f"  batch {h['batch_id']}  {h['cause']:<8}  {h['name']}  "
            f"{h['from_canonical_id'] or 'new'} → {h['to_canonical_id'] or 'links no longer'}"
            for h in found["history"]
        ],
    }
    for name, rows in sections.items():
        if rows:
            more = [f"  … and {len(rows) - _SHOWN:,} more (--json has all)"] if len(rows) > _SHOWN else []
            lines += ["", name, *rows[:_SHOWN], *more]
    return "\n".join(lines)


def _step(s: dict[str, Any]) -> str:
    mark = "  ✗ refused" if s.get("is_refused") else ""
    shared = [
        n for n, is_shared in ((s["from"], s["from_is_shared"]), (s["to"], s["to_is_shared"])) if is_shared
    ]
    note = f"  (shared: {', '.join(shared)})" if shared else ""
    return (
        f"  {s['from']}  ─  {s['to']}   {_times(s['evidence_count'], s['kinds'])}, "
        f"{_span(s['first_seen_at'], s['last_seen_at'])}, by {', '.join(s['sources'])}{note}{mark}"
    )


def _refused(r: dict[str, Any]) -> str:
    if r["reason"] == "decision":
        return f"{r['left']}  ✗  {r['right']}   refused: somebody decided to keep {' and '.join(r['blocking'])} apart"
    space = r["reason"].removeprefix("limit:")
    return (
        f"{r['left']}  ✗  {r['right']}   refused: one person may have {r['limit']} {space}, "
        f"and these would join {r['blocking'][0]} and {r['blocking'][1]}"
    )


def _times(count: int, kinds: list[str]) -> str:
    if kinds == ["merge"]:
        return "merged by decision"
    return f"seen together {count:,}×" + (" (alias)" if "alias" in kinds else "")


def _span(first: Any, last: Any) -> str:
    start, end = f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M}"
    return f"at {start}" if start == end else f"{start} to {end}"
