"""`stitchlake mapping`: try a source mapping on a file of records, and see what comes out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from conf.policy import load_policy
from conf.settings import Settings
from conf.source_mapping import load_mapping, shipped_mappings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.operations.mapping_trial import SHOWN, Trial, try_mapping
from pipelines.stream.source import SourceError
from transforms.ingest.framing.frames import format_of

DEFAULT_LIMIT = 10


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    p = subparsers.add_parser(
        "mapping",
        help="try a source mapping on a file",
        description="Shows what a source mapping makes of a file: event by event, then in sum. Writes nothing, needs "
        "no lake. The file's values are printed.",
    )
    p.add_argument("mapping", nargs="?", help="a shipped mapping by its name, or a YAML file")
    p.add_argument("input", nargs="?", type=Path, help=".jsonl .ndjson .json .csv .parquet, gzip of each")
    p.add_argument("--list", action="store_true", help="name the shipped mappings")
    p.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"show the first N events; the sums are of the whole file (default {DEFAULT_LIMIT})",
    )
    p.add_argument("--policy", metavar="FILE", help="identity policy (YAML); default: the shipped one")
    p.add_argument("--json", action="store_true", help="one JSON object")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("mapping"):
            return _run(args)
    except Exit as e:
        return e.code


def _run(args: argparse.Namespace) -> int:
    if args.list:
        shipped = [load_mapping(name) for name in shipped_mappings()]
        if args.json:
            print(json.dumps([{"name": m.name, "description": m.description} for m in shipped]))
        else:
            print("\n".join(_line(m.name, m.description).strip() for m in shipped))
        return 0
    if args.mapping is None or args.input is None:
        raise SourceError(
            "give a mapping and a file, such as `stitchlake mapping native events.jsonl`; --list names the mappings"
        )
    if args.limit < 0:
        raise SourceError("--limit must be 0 or more")
    mapping, policy = load_mapping(args.mapping), load_policy(args.policy)
    if not args.input.is_file():
        raise SourceError(f"input {args.input} is not a file; give a file of records")
    if format_of(args.input.name)[0] is None:
        raise SourceError(
            f"input {args.input}: unknown extension; use .jsonl, .ndjson, .json, .csv or .parquet, or .gz of it"
        )
    try:
        trial = try_mapping(args.input, mapping, policy, args.limit, Settings().max_record_bytes)
    except OSError as e:
        raise SourceError(f"input {args.input} cannot be read: {e.strerror}") from None
    if args.json:
        print(
            json.dumps({"events": trial.events, "summary": trial.summary()}, ensure_ascii=False, default=str)
        )
    else:
        print("\n\n".join([*map(as_lines, trial.events), summary_lines(trial)]))
    return 0


def as_lines(event: dict[str, Any]) -> str:
    """One event for people."""
    place = f"record {event['record']}" + (f", event {event['position']}" if event["position"] else "")
    lines = [place + (f": refused, {', '.join(event['reasons'])}" if event["reasons"] else "")]
    if event["is_duplicate"]:
        lines[0] += ": a duplicate of an event above"
    for name in SHOWN:
        if event[name] is not None:
            lines.append(_line(name, event[name]))
    for identifier in event["identifiers"]:
        lines.append(_line(identifier["strength"], f"{identifier['namespace']}:{identifier['value']}"))
    for left in event["left_out"]:
        value = f"{left['namespace']}:{left['value']}" if "namespace" in left else left["value"]
        lines.append(_line("left out", f"{value}  ({left['reason']})"))
    for actor in event["actor"]:
        lines.append(_line("actor", f"{actor['namespace']}:{actor['value']}"))
    if event["anchor"]:
        lines.append(_line("anchor", event["anchor"]))
    if event["flags"]:
        lines.append(_line("flags", ", ".join(event["flags"])))
    for name in ("properties", "context"):
        if event[name]:
            lines.append(_line(name, json.dumps(event[name], ensure_ascii=False, default=str)))
    return "\n".join(lines)


def summary_lines(trial: Trial) -> str:
    """The counts of a trial, as lines for people."""
    found = trial.summary()
    lines = [
        f"{found['record_count']:,} records → {found['received_count']:,} events = {found['valid_count']:,} valid + "
        f"{found['quarantined_count']:,} quarantined + {found['duplicate_count']:,} duplicate"
    ]
    for title, name in (
        ("quarantined", "quarantined"),
        ("flags", "flags"),
        ("event types", "event_types"),
        ("platforms", "platforms"),
    ):
        if found[name]:
            lines.append(_line(title, _counted(found[name])))
    for namespace, facts in found["identifiers"].items():
        lines.append(
            _line(
                facts["strength"],
                f"{namespace}: {facts['value_count']:,} values in {facts['event_count']:,} events",
            )
        )
    if found["unnamed_fields"]:
        lines.append(_line("no path takes", f"{_counted(found['unnamed_fields'])}; kept in properties"))
    if found["envelope_fields"]:
        lines.append(
            _line("of envelopes", f"{_counted(found['envelope_fields'])}; kept in bronze.events only")
        )
    return "\n".join(lines)


def _line(name: str, value: Any) -> str:
    return f"  {name:<15} {value}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
