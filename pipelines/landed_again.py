"""Files that have changed after they were read. Spark knows a file by its name and never reads it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from pipelines.checkpoint import Checkpoint
from pipelines.sources import Source


def landed_again(checkpoint: Checkpoint, inputs: Sequence[Source]) -> list[str]:
    """One line per folder in which files that this checkpoint has read have another time of modification now."""
    lines = []
    for number, source in enumerate(sorted(inputs, key=lambda s: s.name)):  # as Spark numbers them
        if source.kind == "file":
            changed = sorted(_changed(checkpoint.folder / "sources" / str(number)))
            if changed:
                lines.append(
                    f"{source.mapping}: {len(changed)} files have changed or landed again since they were read, such "
                    f"as {changed[0]}; a name is read once, so what is new in them needs a new name"
                )
    return lines


def _changed(log: Path) -> Iterator[str]:
    for path, read_at in _read(log).items():
        try:
            if path.stat().st_mtime_ns // 1_000_000 != read_at:
                yield path.name
        except OSError:  # taken away since, as it should be
            continue


def _read(log: Path) -> dict[Path, int]:
    """The files in Spark's log of a folder, and their times of modification in milliseconds when they were read."""
    files: dict[Path, int] = {}
    for entry in log.glob("[0-9]*") if log.is_dir() else ():
        for line in entry.read_text(encoding="utf-8").splitlines()[1:]:
            try:
                file = json.loads(line)
                files[Path(unquote(urlparse(file["path"]).path))] = file["timestamp"]
            except (ValueError, KeyError, TypeError):  # Spark itself says what it thinks of such a line
                continue
    return files
