"""Files that changed after they were read, or went away before: found in Spark's list of a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipelines.checkpoint import Checkpoint
from pipelines.read_files import trouble_with_files
from pipelines.sources import Source


def test_what_has_changed_since_it_was_read_and_what_is_gone_before(tmp_path: Path) -> None:
    landing, folder = tmp_path / "land ing", tmp_path / "checkpoint"
    landing.mkdir()
    for part in ("offsets", "commits", "sources/1"):
        (folder / part).mkdir(parents=True)
    names = ["read.jsonl", "read-and-moved.jsonl", "next.jsonl", "next-and-gone.jsonl"]
    for entry, pair in enumerate((names[:2], names[2:])):
        lines = ["v1"]
        for name in pair:
            path = landing / name
            path.write_text("{}")
            os.utime(path, ns=(0, 1_700_000_000_123_456_789))
            lines.append(
                json.dumps({"path": path.as_uri(), "timestamp": 1_700_000_000_123, "batchId": entry})
            )
        (folder / "sources/1" / str(entry)).write_text("\n".join(lines))
        (folder / "offsets" / str(entry)).write_text(f'v1\n{{}}\n-\n{{"logOffset":{entry}}}')
    (folder / "commits/0").write_text("v1\n{}")
    sources = [Source("native", str(landing), "file", "native:b"), Source("control", "", "kafka", "a")]
    checkpoint = Checkpoint("s", folder, ("a", "native:b"), is_new=False)
    assert trouble_with_files(checkpoint, sources) == []
    (landing / "read-and-moved.jsonl").unlink()
    (landing / "next.jsonl").write_text("{} ")  # not read yet: what it has then is what counts
    assert trouble_with_files(checkpoint, sources) == []
    (landing / "read.jsonl").write_text("{} {}")
    (landing / "next-and-gone.jsonl").unlink()
    changed, gone = trouble_with_files(checkpoint, sources)
    assert changed.startswith(
        "native: 1 files have changed or landed again since they were read, such as read.jsonl"
    )
    assert gone.startswith(
        "native: 1 files that the next batch was to read are gone, such as next-and-gone.jsonl"
    )


def test_a_new_checkpoint_has_read_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint("s", tmp_path / "none", ("a",), is_new=True)
    assert trouble_with_files(checkpoint, [Source("native", str(tmp_path), "file", "a")]) == []
