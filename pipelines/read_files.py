"""Files that are not as they were when Spark listed them. It reads a name once, and passes over what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.checkpoint import Checkpoint
from pipelines.file_log import last_entry, listed
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
        for entry, path, modified_at in listed(checkpoint.folder, number):
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
    return last_entry(folder, number, max(commits, default=-1))
