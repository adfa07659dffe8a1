"""`stitchlake status`: what was published last, how far topics are read, whether events are conserved, table sizes."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from conf.settings import Settings, load_settings
from conf.table_spec import DELETED
from conf.tables import ALL, BATCHES, FORMAT, OUTSIDE_BATCHES
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.cli.quality import verdict, verdict_line
from pipelines.apps.cli.sql import as_table
from pipelines.lake.files_of_record import files_met
from pipelines.lake.lake import Lake, existing_lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.operations.quality.run import newest_run, summary
from pipelines.stream.kafka.client_settings import client_settings
from pipelines.stream.kafka.gateway import kafka_gateway
from pipelines.stream.kafka.lag import lags
from pipelines.stream.kafka.offsets import offsets_of_record
from pipelines.stream.source_folders import sources_of_record
from pipelines.stream.sources import left_out

_BROKER_SECONDS = 3.0
COUNTS = ("record_count", "received_count", "valid_count", "quarantined_count", "duplicate_count")


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to `stitchlake`."""
    parser = subparsers.add_parser(
        "status",
        help="last published batch, lag, conservation, table sizes",
        description="Reads the lake; needs no stream. Exit code 1: there is no lake, or events are not conserved.",
    )
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default lake/")
    parser.add_argument(
        "--env",
        default="laptop",
        metavar="NAME",
        help="settings: laptop, cluster, or a YAML file; for a broker's login, if the lake has topics",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command with its parsed arguments. Returns the exit code."""
    try:
        with reported("status"):
            lake, settings = existing_lake(args.lake), load_settings(args.env)
            found = status(lake, datetime.now(UTC)) | {"topics": _topics(lake, settings)}
    except Exit as e:
        return e.code
    print(json.dumps(found) if args.json else as_text(found))
    return 0 if found["conservation"]["holds"] else 1


def status(lake: Lake, now: datetime) -> dict[str, Any]:
    """Everything the command shows, as JSON can carry it."""
    snapshot = published(lake)
    at = None if snapshot is None else snapshot.published_at
    return {
        "lake": str(lake.path),
        "format": lake.format(),
        "streams": _streams(lake),
        "last_batch_id": None if snapshot is None else snapshot.batch_id,
        "published_at": None if at is None else at.isoformat().replace("+00:00", "Z"),
        "lag_seconds": None if at is None else round((now - at).total_seconds(), 3),
        "conservation": _conservation(lake),
        "files": _files(lake),
        "quality": _quality(lake),
        "tables": [_size(lake, spec) for spec in with_hot_parts((*ALL, *OUTSIDE_BATCHES)) if lake.has(spec)],
    }


def as_text(found: dict[str, Any]) -> str:
    """The report as lines for people."""
    kept = found["conservation"]
    if found["last_batch_id"] is None:
        published_line = "nothing published yet"
    else:
        published_line = (
            f"batch {found['last_batch_id']:,} published at {found['published_at']} "
            f"({found['lag_seconds']:,.1f} s ago)"
        )
    verdict_of_counts = (
        "holds in every batch and in total"
        if kept["holds"]
        else f"BROKEN in {len(kept['broken_batch_ids'])} batches, first {kept['broken_batch_ids'][:5]}"
    )
    topics = "".join(f"topic         {_topic_line(topic)}\n" for topic in found.get("topics", ()))
    sizes = as_table(
        ("table", "rows", "files", "MB"),
        [
            (t["table"], t["row_count"], t["file_count"], round(t["byte_count"] / 1e6, 1))
            for t in found["tables"]
        ],
    )
    older = (
        f" (format {found['format']}; the next `stitchlake run` brings it to {FORMAT})"
        if found["format"] < FORMAT
        else ""
    )
    return (
        f"lake          {found['lake']}{older}\n"
        f"stream        {', '.join(found['streams']) or 'none yet'}\n"
        f"last batch    {published_line}\n"
        f"{topics}"
        f"records       {kept['record_count']:,}\n"
        f"events        {kept['received_count']:,} received = {kept['valid_count']:,} valid + "
        f"{kept['quarantined_count']:,} quarantined + {kept['duplicate_count']:,} duplicate\n"
        f"conservation  {verdict_of_counts}\n"
        f"files         {_files_line(found['files'])}\n"
        f"quality       {_quality_line(found['quality'])}\n\n{sizes.rpartition(chr(10))[0]}"
    )


def _streams(lake: Lake) -> list[str]:
    names = lake.open(BATCHES).to_pyarrow_dataset().to_table(columns=["stream"])
    return sorted(pc.unique(names["stream"]).to_pylist())


def _topics(lake: Lake, settings: Settings) -> list[dict[str, Any]]:
    """Per topic the offsets of record, and how many records the broker has beyond them."""
    offsets = offsets_of_record(lake, published(lake))
    if not offsets:
        return []
    client = client_settings(settings)
    with kafka_gateway() as jvm:
        return [
            {
                "source": lag.source,
                "next_offsets": {str(partition): offset for partition, offset in sorted(lag.next.items())},
                "lag_count": lag.lag_count,
                "problem": lag.problem,
            }
            for lag in lags(jvm, offsets, client, _BROKER_SECONDS)
        ]


def _topic_line(topic: dict[str, Any]) -> str:
    read = sum(topic["next_offsets"].values())
    behind = topic["problem"] if topic["lag_count"] is None else f"{topic['lag_count']:,} records behind"
    return f"{topic['source']}  {len(topic['next_offsets'])} partitions read to offsets of {read:,} in all; {behind}"


def _files(lake: Lake) -> dict[str, Any]:
    """Landed files that published batches have met, by what became of them; and those of the last stream's folders that
    are not read, by the reason."""
    snapshot = published(lake)
    outcomes = files_met(lake, snapshot.batch_id) if snapshot is not None else {}
    not_read = {}
    for source in sources_of_record(lake.path):
        if found := left_out(source):
            not_read[source.name] = {
                why: {"file_count": len(names), "example": names[0]} for why, names in found.items()
            }
    return {"met": outcomes, "not_read": not_read}


def _files_line(found: dict[str, Any]) -> str:
    met = ", ".join(f"{count:,} {outcome}" for outcome, count in found["met"].items())
    lines = [f"{met or 'none'}; ops.files has each"]
    for source, reasons in found["not_read"].items():
        lines += [
            f"{source}: {facts['file_count']:,} files are not read: {why}, such as {facts['example']}"
            for why, facts in reasons.items()
        ]
    return "\n              ".join(lines)


def _quality(lake: Lake) -> dict[str, Any] | None:
    """What the newest quality run found; None where there was none."""
    run = newest_run(lake)
    return None if run is None else verdict(run) | {"broken_critical": summary(run.broken_critical)}


def _quality_line(found: dict[str, Any] | None) -> str:
    if found is None:
        return "never checked; `stitchlake quality` does"
    broken = f" ({found['broken_critical']})" if found["broken_critical"] else ""
    return f"{verdict_line(found)}{broken}, checked at {found['checked_at']}"


def _conservation(lake: Lake) -> dict[str, Any]:
    rows = lake.open(BATCHES).to_pyarrow_dataset(schema=BATCHES.arrow)
    batches = rows.to_table(columns=["batch_id", *COUNTS])
    counts = {name: pc.fill_null(batches[name], 0) for name in COUNTS}
    # In a lake of the first format, which has no such column yet, every record is one event.
    counts["record_count"] = pc.coalesce(batches["record_count"], counts["received_count"])
    _, received, *parts = counts.values()
    accounted = pc.add(pc.add(parts[0], parts[1]), parts[2])
    broken = batches.filter(pc.not_equal(received, accounted))["batch_id"]
    return {
        **{name: pc.sum(column).as_py() or 0 for name, column in counts.items()},
        "holds": len(broken) == 0,
        "broken_batch_ids": sorted(broken.to_pylist()),
    }


def _size(lake: Lake, spec: Any) -> dict[str, Any]:
    table = lake.open(spec)
    files = pa.table(table.get_add_actions(flatten=True))
    return {
        "table": spec.full_name,
        "version": table.version(),
        "row_count": pc.sum(files["num_records"]).as_py() or 0,
        "file_count": files.num_rows,
        "byte_count": pc.sum(files["size_bytes"]).as_py() or 0,
        "is_hot": DELETED in spec.names,
    }
