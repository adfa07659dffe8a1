"""`stitchlake profile`: one person, by canonical id or by an identifier."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from conf.policy import load_policy
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.sql import as_table, plain_json
from pipelines.apps.results import connect
from pipelines.lake.lake import existing_lake
from pipelines.lake.person import find_person, person


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "profile",
        help="one person, by canonical id or by an identifier",
        description="Shows who it is, counts, platforms, touches, identifiers and the newest sessions, as of the last "
        "published batch. A retired canonical id leads to its successor. "
        "Exit code 1: nobody has that id; 2: it is not an id.",
    )
    parser.add_argument("id", metavar="ID", help="a canonical id, or namespace:value such as user_id:42")
    parser.add_argument(
        "--tenant", metavar="T", help="whose data; needed where several tenants have the value"
    )
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    parser.add_argument(
        "--policy",
        metavar="FILE",
        help="identity policy, to spell the value as the lake does; default: the shipped one",
    )
    parser.add_argument(
        "--sessions", type=_count, default=10, metavar="N", help="at most N sessions; default 10"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("profile"), connect(existing_lake(args.lake).path) as db:
            found = person(db, find_person(db, load_policy(args.policy), args.id, args.tenant), args.sessions)
    except Exit as e:
        return e.code
    print(json.dumps(plain_json(found), ensure_ascii=False) if args.json else as_text(found))
    return 0


def as_text(found: dict[str, Any]) -> str:
    """The person for people: a section each, empty ones left out."""
    lines = [f"person {found['canonical_id']} of tenant {found['tenant']}"]
    if found["redirected_from"] is not None:
        lines.append(f"  {found['redirected_from']} is retired and redirects to {found['canonical_id']}")
    lines += [
        f"  {'identified' if found['is_identified'] else 'anonymous'}",
        f"  seen      {_instant(found['first_seen_at'])} to {_instant(found['last_seen_at'])}",
    ]
    if found["first_login_at"] is not None:
        lines.append(f"  login     {_instant(found['first_login_at'])} to {_instant(found['last_login_at'])}")
    if found["retired_ids"]:
        lines.append(f"  formerly  {', '.join(map(str, found['retired_ids']))}")
    lines += ["", "counts"]
    lines += [f"  {count:>7,}  {_words(name)}" for name, count in found["counts"].items()]
    if found["platforms"]:
        lines += ["", "platforms", f"  {', '.join(found['platforms'])}"]
    touches = {which: touch for which, touch in found["touches"].items() if touch}
    if touches:
        lines += ["", "touches"]
        for which, touch in touches.items():
            text = ", ".join(f"{name} {value}" for name, value in touch.items() if value)
            lines.append(f"  {which:<5}  {text}")
    lines += ["", "identifiers"]
    lines += [
        f"  {i['namespace']}:{i['value']}  since {_instant(i['since_at'])}"
        + ("  (shared with others)" if i["is_shared"] else "")
        for i in found["identifiers"]
    ]
    if found["sessions"]:
        lines += ["", f"newest sessions ({len(found['sessions'])} of {found['counts']['session_count']:,})"]
        lines += [f"  {line}" for line in _sessions(found["sessions"]).splitlines()[:-1]]
    return "\n".join(lines)


def _sessions(sessions: list[dict[str, Any]]) -> str:
    names = ("start", "minutes", "events", "logged in", "platforms", "source", "campaign")
    rows = [
        (
            _instant(s["start_at"]),
            round((s["end_at"] - s["start_at"]).total_seconds() / 60, 1),
            s["event_count"],
            "no" if s["is_anonymous"] else "yes",
            ", ".join(s["platforms"] or ()),
            s["touch_source"] or "",
            s["touch_campaign"] or "",
        )
        for s in sessions
    ]
    return as_table(names, rows)


def _instant(value: datetime | None) -> str:
    return "never" if value is None else f"{value:%Y-%m-%d %H:%M:%S}Z"


def _words(name: str) -> str:
    noun, _, rest = name.partition("_count")
    return f"{noun.replace('_', ' ')}s{rest.replace('_', ' ')}"


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number of sessions, 0 or more")
    return int(text)
