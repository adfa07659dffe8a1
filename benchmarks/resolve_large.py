"""How long does `stitchlake resolve` take for 50,000 records with at least 200,000 identifiers, start-up included?

`python -m benchmarks.resolve_large` runs the command as a user would, holds its people against networkx over the same
records, and adds to benchmarks/results/latest.jsonl. Exit code 1 above the target, or when a person is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from random import Random

import networkx as nx
import orjson

from benchmarks.report.record import record
from pipelines.runtime.process_end import run_and_end

TARGET_SECONDS = 120.0


def write_records(path: Path, records: int, seed: int) -> set[frozenset[str]]:
    """Records of five identifiers each, most of them new, some seen before; returns the people that they make."""
    rng = Random(seed)
    graph = nx.Graph()
    with path.open("wb") as f:
        for n in range(records):
            person = n if rng.random() < 0.9 else rng.randrange(max(n, 1))
            names = {
                "user_id": f"u{person}",
                "email": f"m{person}@example.com",
                "device_id": f"d{n}",
                "cookie_id": f"c{n}",
                "visitor_id": f"v{n}",
            }
            # The ring holds records together; at most five e-mails a person, so one each.
            nx.add_cycle(graph, [f"{space}:{value}" for space, value in names.items()])
            at = f"2026-01-{1 + n % 28:02d}T00:00:00Z"
            f.write(orjson.dumps({"event_id": str(n), "timestamp": at, "identifiers": names}) + b"\n")
    return {frozenset(c) for c in nx.connected_components(graph)}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.resolve_large", description=__doc__)
    p.add_argument("--records", type=int, default=50_000)
    p.add_argument("--seed", type=int, default=7)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="stitchlake-large-") as scratch:
        folder = Path(scratch)
        expected = write_records(folder / "records.jsonl", args.records, args.seed)
        started = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "pipelines.apps.cli",
            "resolve",
            "records.jsonl",
            "--output",
            "people.jsonl",
        ]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
        seconds = time.monotonic() - started
        people: dict[str, set[str]] = defaultdict(set)
        for row in map(orjson.loads, (folder / "people.jsonl").read_bytes().splitlines()):
            people[row["canonical_id"]].add(f"{row['namespace']}:{row['value']}")
    is_right = {frozenset(g) for g in people.values()} == expected
    count = sum(map(len, expected))
    verdict = "people as networkx finds them" if is_right else "PEOPLE DIFFER from networkx's"
    print(f"{args.records:,} records, {count:,} identifiers: {seconds:.1f} s; {verdict}")
    record(
        "resolve_large.",
        [
            {
                "name": "resolve_large.seconds",
                "value": round(seconds, 2),
                "unit": "s",
                "target": TARGET_SECONDS,
                "passed": is_right and seconds <= TARGET_SECONDS,
                "baseline": None,
                "conditions": {**vars(args), "identifiers": count, "cores": os.cpu_count()},
            }
        ],
    )
    return 0 if is_right and seconds <= TARGET_SECONDS else 1


if __name__ == "__main__":
    run_and_end(main)
