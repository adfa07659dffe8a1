"""`make run`: generated events through the whole pipeline, and what came out of it, in a few minutes on a laptop."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb

from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.results import connect
from pipelines.apps.run_stream import run_stream
from pipelines.generator import generate
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.views import cohort_query
from pipelines.operations.rebuild.graph_check import as_text, check_components
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.stream.batch.setup import BatchReport
from pipelines.stream.source import parse_source

MARKER = ".stitchlake-demo"
COHORTS = {
    "logged_in_and_used_mobile": "logged in at least once and used mobile",
    "anonymous_three_times_then_logged_in": "3+ anonymous sessions, then logged in",
}

# Persons to show: several devices, an anonymous history that became theirs, a device they share.
_PICKS = """
WITH shared AS (
  SELECT canonical_id, count(*) AS n FROM silver.identity_map_live WHERE is_shared GROUP BY canonical_id
)
SELECT canonical_id FROM (
  SELECT p.canonical_id, row_number() OVER (ORDER BY p.device_count + p.cookie_count DESC, p.canonical_id) AS a,
         row_number() OVER (ORDER BY p.anonymous_session_count_before_first_login DESC, p.canonical_id) AS b,
         row_number() OVER (ORDER BY coalesce(s.n, 0) DESC, p.session_count DESC, p.canonical_id) AS c
  FROM gold.profiles_live p LEFT JOIN shared s USING (canonical_id) WHERE p.is_identified
) WHERE a = 1 OR b = 1 OR c <= 3 ORDER BY least(a, b, c), canonical_id LIMIT 3
"""
_PERSON = """
SELECT session_count, anonymous_session_count, anonymous_session_count_before_first_login, login_count, event_count,
       array_to_string(platforms, ', ') FROM gold.profiles_live WHERE canonical_id = ?
"""
_EVIDENCE = """
SELECT l.namespace || ':' || l.value, r.namespace || ':' || r.value, sum(e.evidence_count), min(e.first_seen_at),
       (a.is_shared OR b.is_shared)
FROM silver.identity_edges_live e
JOIN silver.identity_map_live a ON a.node_id = e.left_node_id
JOIN silver.identity_map_live b ON b.node_id = e.right_node_id
JOIN silver.identifiers l ON l.node_id = e.left_node_id
JOIN silver.identifiers r ON r.node_id = e.right_node_id
WHERE a.canonical_id = ? AND b.canonical_id = ?
GROUP BY ALL ORDER BY 4, 1, 2
"""


def main(argv: list[str] | None = None) -> int:
    """Run the demo. Returns the exit code: 0, 1 if GraphFrames disagrees, 2 on bad usage."""
    p = argparse.ArgumentParser(prog="python -m pipelines.apps.demo", description=__doc__)
    p.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes; default: demo/")
    p.add_argument("--persons", type=int, default=8_000)
    p.add_argument("--events", type=int, default=100_000)
    p.add_argument("--seed", type=int, default=7)
    args = p.parse_args(argv)
    try:
        with reported("demo"):
            return run(args.folder, args.persons, args.events, args.seed)
    except Exit as e:
        return e.code


def run(folder: Path, persons: int, events: int, seed: int) -> int:
    """Generate, stream, show. Replaces the folder of an earlier demo, and no other folder."""
    started = time.monotonic()
    if folder.exists():
        if not (folder / MARKER).exists():
            print(
                f"demo: the folder {folder} exists and is not an earlier demo; give another --folder",
                file=sys.stderr,
            )
            return 2
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    landing, lake = folder / "events", folder / "lake"
    say(f"1  {events:,} events of {persons:,} people: web, mobile, desktop, support chat, AI agents")
    made = generate(
        persons, events, seed, landing, truth=folder / "truth.jsonl", events_per_file=max(events // 16, 1)
    )
    several = made.persons_with_several_devices / made.persons
    say(f"   {several:.0%} of them on several devices, {made.anonymous_share:.0%} of events anonymous")
    say("2  bronze → silver → gold, with identity resolution in every batch")
    settings = replace(load_settings(), max_files_per_trigger=4)
    spark = build_session("stitchlake demo", settings.master, driver_memory=settings.driver_memory)
    source = parse_source(f"native:{landing}")
    policy = load_policy()
    result = run_stream(spark, lake, [source], policy, settings, once=True, on_published=_progress)
    say(f"   {result.received_count:,} records in {result.batch_count} batches")
    say("3  what it found")
    with connect(lake) as db:
        _counts(db)
        _people(db)
        _cohorts(db)
    say("\n4  a second opinion: connected components of the published edges, by GraphFrames")
    snapshot = published(Lake(lake))
    assert snapshot is not None
    checked = check_components(snapshot, policy, spark)
    say("\n".join(f"   {line}" for line in as_text(checked).splitlines()) + f"   ({checked.seconds:.0f} s)")
    print(
        f"\nThe lake is {lake}/ ({time.monotonic() - started:.0f} s). Next:\n"
        f'  .venv/bin/stitchlake sql --lake {lake} "SELECT * FROM gold.profiles LIMIT 5"\n'
        f"  .venv/bin/stitchlake status --lake {lake}\n"
        f"  .venv/bin/stitchlake run --lake {lake} --source native:{landing}      # streams on; drop files in"
    )
    return 0 if checked.agrees else 1


def say(text: str) -> None:
    """Print one line at once, whatever buffers the output."""
    print(text, flush=True)


def _progress(report: BatchReport) -> None:
    say(
        f"   batch {report.batch_id:>3}   {report.received:>7,} received = {report.valid:,} valid + "
        f"{report.quarantined:,} quarantined + {report.duplicate:,} duplicate   {report.seconds:4.1f} s"
    )


def _counts(db: duckdb.DuckDBPyConnection) -> None:
    totals = db.execute(
        "SELECT sum(received_count)::BIGINT, sum(valid_count)::BIGINT, sum(quarantined_count)::BIGINT,"
        " sum(duplicate_count)::BIGINT FROM ops.batches"
    ).fetchone()
    assert totals is not None
    received, valid, quarantined, duplicate = totals
    holds = "=" if received == valid + quarantined + duplicate else "≠"
    say(
        f"   {received:,} received {holds} {valid:,} valid + {quarantined:,} quarantined + {duplicate:,} duplicate"
    )
    for what, sql in (
        ("identifiers", "SELECT count(*) FROM silver.identity_map_live WHERE node_id > 0"),
        ("of them shared by several people, cut out before anything is joined",
         "SELECT count(*) FROM silver.identity_map_live WHERE is_shared"),
        ("sessions", "SELECT count(*) FROM silver.sessions_live"),
        ("profiles", "SELECT count(*) FROM gold.profiles_live"),
        ("of them identified", "SELECT count(*) FROM gold.profiles_live WHERE is_identified"),
        ("merges on the way (retired ids that redirect)", "SELECT count(*) FROM silver.identity_redirects_live"),
    ):  # fmt: skip
        row = db.execute(sql).fetchone()
        assert row is not None
        say(f"   {row[0]:>9,} {what}")


def _people(db: duckdb.DuckDBPyConnection) -> None:
    say("\n   Three people, and why each is one:")
    for (person,) in db.execute(_PICKS).fetchall():
        facts = db.execute(_PERSON, [person]).fetchone()
        assert facts is not None
        sessions, anonymous, before, logins, events, platforms = facts
        say(
            f"\n   person {person}: {events} events, {sessions} sessions ({anonymous} anonymous,"
            f" {before} of them before the first login), {logins} logins, on {platforms}"
        )
        for left, right, count, first, shared in _joining(db.execute(_EVIDENCE, [person, person]).fetchall()):
            note = "  (shared with others; hers by strongest evidence)" if shared else ""
            say(f"     {left}  ─  {right}   seen together {count}×, first {first:%Y-%m-%d %H:%M}{note}")


def _joining(evidence: list[tuple]) -> list[tuple]:
    """Of a person's evidence, in the order of time, what joined something that was apart until then."""
    group: dict[str, set[str]] = {}
    joining = []
    for row in evidence:
        left, right = group.setdefault(row[0], {row[0]}), group.setdefault(row[1], {row[1]})
        if left is not right:
            left |= right
            group.update(dict.fromkeys(right, left))
            joining.append(row)
    return joining


def _cohorts(db: duckdb.DuckDBPyConnection) -> None:
    say("\n   Two questions, asked in SQL:")
    for name, question in COHORTS.items():
        row = db.execute(f"SELECT count(*) FROM ({cohort_query(name)})").fetchone()
        assert row is not None
        say(f"   {row[0]:>9,} people: {question}   (pipelines/sql/cohorts/{name}.sql)")


if __name__ == "__main__":
    run_and_end(main)
