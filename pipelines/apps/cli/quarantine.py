"""`stitchlake quarantine list | show | replay`: what was refused and why, and reading it again once that is mended."""

from __future__ import annotations

import argparse
import getpass
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from conf.bad_input import REASONS, explained
from conf.policy import load_policy
from conf.settings import Settings, load_settings
from pipelines.apps.cli.problems import BadUsage, Exit, reported
from pipelines.apps.cli.sql import as_table
from pipelines.lake.lake import existing_lake
from pipelines.lake.snapshot import Snapshot, published
from pipelines.operations.quarantine.corrections import Corrections, read_corrections
from pipelines.operations.quarantine.overview import described, summary
from pipelines.operations.quarantine.replay import replay, replay_request
from pipelines.operations.quarantine.reread import NO_CORRECTIONS
from pipelines.operations.quarantine.selection import Selection, selected, with_payloads
from pipelines.operations.requests.holder import holder_of
from pipelines.operations.requests.requests import run_request
from transforms.ingest.values.instants import instant

EMPTY = "nothing is in quarantine"
NONE_SUCH = "nothing in quarantine is like that; `stitchlake quarantine list` shows what is"
AFTER_A_FIX = (
    "after a fix: stitchlake quarantine replay; records that are wrong themselves: show --json > FILE, correct the "
    "payloads there, replay --payloads FILE"
)
DEFAULT_LIMIT = 10


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "quarantine",
        help="what was refused and why; replay it after a fix",
        description="What was refused and why, and reading it again once the cause is mended.",
        epilog="Reasons: " + "; ".join(f"{code}: {meaning}" for code, (meaning, _) in REASONS.items()) + ".",
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="list|show|replay")
    listing = actions.add_parser(
        "list",
        help="counts by reason, source and mapping",
        description="Counts by reason, source and mapping, with batches and times of receipt. Prints no payloads.",
    )
    _common(listing, _list)
    showing = actions.add_parser(
        "show",
        help="records with their payloads",
        description="Single records, their reasons in words, and their payloads, which hold personal data. With --json "
        "one record a line and whole: correct payloads there and give the file to `replay --payloads`.",
    )
    showing.add_argument(
        "--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help=f"at most N (default {DEFAULT_LIMIT})"
    )
    _common(showing, _show)
    replaying = actions.add_parser(
        "replay",
        help="read it again after a fix, and publish what is acceptable now",
        description="Reads the selected records again by today's mappings and settings, and publishes what is "
        "acceptable now, as if it had been from the start; the rest stays, with its reasons of today. With a stream "
        "running the stream does it between two batches; it continues to read new records as it was started, so start "
        "it anew after a change of a mapping or a setting.",
    )
    replaying.add_argument(
        "--payloads",
        type=Path,
        metavar="FILE",
        help="corrected payloads, as `show --json` prints records; only these are replayed. What came stays in bronze",
    )
    replaying.add_argument("--author", help="who has corrected them; default: you")
    replaying.add_argument("--dry-run", action="store_true", help="say what would happen, and write nothing")
    replaying.add_argument(
        "--policy", metavar="FILE", help="the lake's identity policy; default: the shipped one"
    )
    replaying.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    _common(replaying, _replay)


def _common(p: argparse.ArgumentParser, act: Any) -> None:
    p.add_argument(
        "--reason", action="append", default=[], metavar="CODE", help="refused for this; repeatable"
    )
    for name in ("source", "mapping", "origin", "tenant"):
        p.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help="* is any text; repeatable"
        )
    p.add_argument("--since", metavar="INSTANT", help="received then or later, such as 2026-03-01T12:00:00Z")
    p.add_argument("--until", metavar="INSTANT", help="received before then")
    p.add_argument("--batch", metavar="A..B", help="came in batches A to B, or in batch A")
    p.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    p.add_argument("--json", action="store_true", help="JSON on standard output")
    p.set_defaults(run=run, act=act)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported(f"quarantine {args.action}"):
            selection = _selection(args)
            snapshot = published(existing_lake(args.lake))
            return int(args.act(args, selection, snapshot))
    except Exit as e:
        return e.code


def _selection(args: argparse.Namespace) -> Selection:
    if unknown := sorted(set(args.reason) - set(REASONS)):
        raise BadUsage(f"--reason {unknown[0]}: no such reason; there are {', '.join(REASONS)}")
    first, last = _batches(args.batch)
    return Selection(
        reasons=tuple(args.reason),
        sources=tuple(args.source),
        origins=tuple(args.origin),
        mappings=tuple(args.mapping),
        tenants=tuple(args.tenant),
        since=_instant("--since", args.since),
        until=_instant("--until", args.until),
        first_batch=first,
        last_batch=last,
    )


def _batches(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    first, dots, last = text.partition("..")
    numbers = [first, last] if dots else [first, first]
    if not any(numbers) or not all(n.isdecimal() or not n for n in numbers):
        raise BadUsage(f"--batch {text}: write A..B, such as 12..15, or A, A.. or ..B")
    low, high = (int(n) if n else None for n in numbers)
    return low, high


def _instant(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    at, _ = instant(text)
    if at is None:
        raise BadUsage(f"{option} {text}: write an instant such as 2026-03-01T12:00:00Z")
    return at


def _list(args: argparse.Namespace, selection: Selection, snapshot: Snapshot | None) -> int:
    found = {"event_count": 0, "groups": []} if snapshot is None else summary(selected(snapshot, selection))
    if args.json:
        print(json.dumps(found))
    elif not found["event_count"]:
        print(_nothing(selection))
    else:
        print(_as_text(found))
    return 0


def _as_text(found: dict[str, Any]) -> str:
    names = ("reason", "events", "mapping", "batches", "first received", "last received", "source")
    rows = [
        (
            g["reason"],
            g["event_count"],
            g["mapping"],
            f"{g['first_batch_id']}..{g['last_batch_id']}",
            g["first_received_at"],
            g["last_received_at"],
            g["source"],
        )
        for g in found["groups"]
    ]
    table = as_table(names, rows).rpartition("\n")[0]
    reasons = list(dict.fromkeys(g["reason"] for g in found["groups"]))
    words = ["{}: {}\n  → {}".format(code, *explained(code)) for code in reasons]
    head = f"{found['event_count']:,} events in quarantine"
    return "\n".join([head, "", table, "", *words, "", AFTER_A_FIX])


def _show(args: argparse.Namespace, selection: Selection, snapshot: Snapshot | None) -> int:
    if args.limit < 1:
        raise BadUsage("--limit must be 1 or more")
    events = None if snapshot is None else selected(snapshot, selection)
    if snapshot is None or events is None or not events.num_rows:
        if not args.json:
            print(_nothing(selection))
        return 0
    rows = described(with_payloads(snapshot, events.slice(0, args.limit)))
    if args.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return 0
    width = max(40, shutil.get_terminal_size((120, 24)).columns)
    print("\n\n".join(_record(row, width) for row in rows))
    if events.num_rows > len(rows):
        print(f"\n{len(rows):,} of {events.num_rows:,}; --limit shows more")
    return 0


def _record(row: dict[str, Any], width: int) -> str:
    position = f", event {row['record_position']}" if row["record_position"] else ""
    lines = [
        f"{row['source']}  {row['origin']}  record {row['origin_ordinal']}{position}",
        f"  received   {row['received_at']}, batch {row['batch_id']}, mapping {row['mapping']}, tenant {row['tenant']}",
    ]
    for code in row["reasons"]:
        lines.append("  {}: {}\n    → {}".format(code, *explained(code)))
    payload = row["payload"] if "payload" in row else f"(no text; base64) {row['payload_base64']}"
    lines.append("  payload    " + ("none" if payload is None else _cut(payload, width - 13)))
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    """On one line of a terminal, and nothing in it that a terminal would obey."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: width + 1])
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _replay(args: argparse.Namespace, selection: Selection, snapshot: Snapshot | None) -> int:
    policy, settings = load_policy(args.policy), load_settings(args.env)
    corrections = NO_CORRECTIONS
    if args.payloads is not None:
        corrections = read_corrections(args.payloads, args.author or getpass.getuser())
    say = _say if not args.json else lambda text: None
    if args.dry_run:
        holder = holder_of(existing_lake(args.lake), policy, settings)
        found = replay(holder, selection, corrections, is_dry=True, progress=say).as_json()
    else:
        arguments = _arguments(selection, settings, corrections)
        handlers = {"replay": partial(replay_request, progress=say)}
        found = run_request(args.lake, policy, settings, "replay", handlers, arguments, say=say)
    found = {"is_dry_run": args.dry_run, **found}
    print(json.dumps(found) if args.json else _report(found, selection))
    return 0


def _arguments(selection: Selection, settings: Settings, corrections: Corrections) -> dict[str, Any]:
    found = {"selection": selection.as_json(), "max_record_bytes": settings.max_record_bytes}
    return found if not corrections.payloads else {**found, "corrections": corrections.as_json()}


def _report(found: dict[str, Any], selection: Selection) -> str:
    if not found["selected_count"]:
        return _nothing(selection)
    lines = [
        f"{found['selected_count']:,} events read again: {found['valid_count']:,} valid, "
        f"{found['duplicate_count']:,} duplicate, {found['quarantined_count']:,} stay in quarantine"
    ]
    lines += [f"  {code} {count:,}" for code, count in found["reasons"].items()]
    lines += [f"  left alone {count:,}: {why}" for why, count in found["left_alone"].items()]
    if found["is_dry_run"]:
        lines.append("nothing was written (--dry-run)")
    elif found["batch_ids"]:
        lines.append(f"published as batch {', '.join(f'{b:,}' for b in found['batch_ids'])}")
    else:
        lines.append("nothing has changed, so nothing was published")
    return "\n".join(lines)


def _nothing(selection: Selection) -> str:
    return EMPTY if selection == Selection() else NONE_SUCH


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
