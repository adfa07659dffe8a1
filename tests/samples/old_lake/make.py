"""Makes lake.tar.gz and its events: a lake as version 0.1.0 wrote it before records and events were told apart.

To be run by that version's own code, with today's environment, in the top folder of the repository:

    old=$(mktemp -d) && git archive 10dec00 | tar -x -C $old
    PYTHONPATH=$old .venv/bin/python tests/samples/old_lake/make.py

The same request gives the same events, nodes, people and sessions; names of files, ids of tables and instants of
publication differ from one making to the next. The lake is left as a stream leaves it that is stopped hard: three
batches and a compaction after the second, so that bases and hot parts both have rows; no checkpoint.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa

from conf.policy import load_policy
from conf.settings import load_settings
from conf.source_mapping import load_mapping
from conf.tables import ALL
from pipelines.batch import process
from pipelines.generator import generate
from pipelines.hashing_key import fingerprint
from pipelines.tables.engines import make_writer
from pipelines.tables.lake import Lake
from transforms.identity.components import driver_components
from transforms.parse import RecordParser
from transforms.parsed_schema import Records

HERE = Path(__file__).parent
KEY = b"a key that every test lake shares"[:32]
STREAM = "0123456789abcdef0123456789abcdef"
PERSONS, EVENTS, SEED, PARTS = 12, 160, 4, 4  # the fourth part comes after the upgrade


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="old-lake-") as scratch:
        generate(PERSONS, EVENTS, SEED, Path(scratch) / "made", events_per_file=EVENTS // PARTS)
        parts = sorted((Path(scratch) / "made").iterdir())
        (HERE / "events").mkdir(exist_ok=True)
        for number, part in enumerate(parts):
            lines = part.read_bytes().splitlines(keepends=True)
            if number:  # some of what was there comes again, and something that nobody can read
                lines += [*parts[number - 1].read_bytes().splitlines(keepends=True)[:5], b"{not json\n"]
            (HERE / "events" / f"{number + 1}.jsonl").write_bytes(b"".join(lines))
        lake = Lake(Path(scratch) / "lake")
        fill(lake)
        with tarfile.open(HERE / "lake.tar.gz", "w:gz") as archive:
            archive.add(lake.path, arcname="lake")
    print(f"{(HERE / 'lake.tar.gz').stat().st_size:,} bytes")


def fill(lake: Lake) -> None:
    """The first three parts as three batches."""
    lake.create_missing(ALL)
    policy = load_policy()
    parser = RecordParser({"native": load_mapping("native")}, policy, KEY)
    processor = process.BatchProcessor(
        lake,
        make_writer("delta_rs", lake),
        parser,
        policy,
        driver_components,
        load_settings(),
        STREAM,
        fingerprint(KEY),
    )
    process.parsed_for_driver = lambda received, *_: received  # without Spark, which would only hand it over
    for number in range(PARTS - 1):
        name = f"{number + 1}.jsonl"
        lines = (HERE / "events" / name).read_bytes().splitlines()
        n = len(lines)
        records = Records(
            ["native:test"] * n, ["native"] * n, ["events"] * n, [name] * n, list(range(n)), ["json"] * n, lines,
            [1_760_000_000_000_000 + number] * n,
        )  # fmt: skip
        processor(pa.Table.from_batches([parser.parse(records)]), number)
        if number == 1:
            processor.compact()
    pointer = lake.path / "_stitchlake" / "stream.json"
    pointer.write_text(json.dumps({"stream": STREAM, "sources": ["native:test"]}), encoding="utf-8")


if __name__ == "__main__":
    main()
