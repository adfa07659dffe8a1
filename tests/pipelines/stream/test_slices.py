"""Slices of a file hold its records, each under its own number, and nothing else."""

from __future__ import annotations

import gzip
import json

import pytest

from pipelines.stream.slices import land
from transforms.ingest.framing.frames import frame, origin_of

RECORDS = [{"event_id": f"e{i}", "n": i} for i in range(7)]
LINES = b"".join(json.dumps(r).encode() + b"\n" for r in RECORDS)
FILES = {
    "lines.jsonl": LINES,
    "gaps.ndjson": b"\n" + LINES.replace(b"\n", b"\n\n"),
    "broken.jsonl": LINES + b"{oops\n\xff\xfe\n",
    "array.json": json.dumps(RECORDS, indent=1).encode(),
    "object.json": json.dumps(RECORDS[0], indent=1).encode(),
    "table.csv": b'"a\nb",c\n1,"x\ny"\n2,z\n3,w\n',
    "packed.jsonl.gz": gzip.compress(LINES),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, 3, 100, None])
def test_slices_frame_into_the_records_of_the_file(name, size, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    land([path], tmp_path / "landing", size)
    found = []
    for part in sorted((tmp_path / "landing").iterdir(), key=lambda p: p.stat().st_mtime):
        origin_of(part.name)
        found += [(f.ordinal, json.loads(f.payload) if name.endswith(("y.json", "t.json")) else f.payload)
                  for f in frame(part.name, part.read_bytes())]  # fmt: skip
    whole = [(f.ordinal, json.loads(f.payload) if name.endswith(("y.json", "t.json")) else f.payload)
             for f in frame(name, FILES[name])]  # fmt: skip
    assert found == whole


def test_a_file_that_cannot_be_read_is_not_cut(tmp_path):
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(LINES)[:-9])
    assert land([path], tmp_path / "landing", 2) == 1
