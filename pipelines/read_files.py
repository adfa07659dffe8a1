"""Files that are not as they were when Spark listed them. It reads a name once, and passes over what is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from pipelines.checkpoint import Checkpoint
from pipelines.sources import Source


def trouble_with_files(checkpoint: Checkpoint, inputs: Sequence[Source]) -> list[str]:
    """A line per folder whose files have changed since they were read, and one where files are gone that the next batch
    was to read."""
    lines = []
    for number, source in enumerate(sorted(inputs, key=lambda s: s.name)):  # as Spark numbers them
        if source.kind != "file":
            continue
        read_until = _read_until(checkpoint.folder, number)
        changed, gone = set(), set()
        for entry, path, modified_at in _listed(checkpoint.folder / "sources" / str(number)):
            try:
                if path.stat().st_mtime_ns // 1_000_000 != modified_at and entry <= read_until:
                    changed.add(path.name)
            except OSError:  # taken away; after it was read, as it should be
                if entry > read_until:
                    gone.add(path.name)
        if changed:
            lines.append(
                f"{source.mapping}: {len(changed)} files have changed or landed again since they were read, such as "
                f"{min(changed)}; a name is read once, so what is new in them needs a new name"
            )
        if gone:
            lines.append(
                f"{source.mapping}: {len(gone)} files that the next batch was to read are gone, such as {min(gone)}; "
                "they are not read, unless they land again under a new name"
            )
    return lines


def _read_until(folder: Path, number: int) -> int:
    """The last entry of a folder's list that a finished batch has read."""
    commits = [int(f.name) for f in (folder / "commits").glob("[0-9]*") if f.name.isdecimal()]
    try:
        ends = (folder / "offsets" / str(max(commits))).read_text(encoding="utf-8").splitlines()[2:]
        return int(json.loads(ends[number])["logOffset"])
    except (
        ValueError,
        OSError,
        IndexError,
        KeyError,
        TypeError,
    ):  # nothing yet; or "-", nothing from this folder
        return -1


def _listed(log: Path) -> Iterator[tuple[int, Path, int]]:
    """Entry, path and time of modification (milliseconds) of every file on Spark's list of a folder."""
    for entry in log.glob("[0-9]*"):
        for line in entry.read_text(encoding="utf-8").splitlines()[1:]:
            try:
                file = json.loads(line)
                yield file["batchId"], Path(unquote(urlparse(file["path"]).path)), file["timestamp"]
            except (ValueError, KeyError, TypeError):  # Spark itself says what it thinks of such a line
                continue
