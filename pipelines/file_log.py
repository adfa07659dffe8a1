"""Spark's own lists of the files that a checkpoint's batches read, one log for each landing folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse


class ListedFile(NamedTuple):
    """A file on a list: `entry` is the number of the list, `modified_ms` the file's time when Spark saw it."""

    entry: int
    path: Path
    modified_ms: int


def listed(checkpoint: Path, number: int) -> Iterator[ListedFile]:
    """Every file on the lists of source `number`; one may come twice, since lists are joined now and then."""
    for log in (checkpoint / "sources" / str(number)).glob("[0-9]*"):
        yield from _lines(log)


def listed_for(checkpoint: Path, number: int, stream_batch_id: int) -> list[ListedFile]:
    """The files of source `number` that a planned batch reads."""
    first = last_entry(checkpoint, number, stream_batch_id - 1) + 1
    last = last_entry(checkpoint, number, stream_batch_id)
    folder = checkpoint / "sources" / str(number)
    logs = [folder / f"{entry}{ending}" for entry in range(first, last + 1) for ending in ("", ".compact")]
    found = {f for log in logs if log.exists() for f in _lines(log)}
    return sorted(f for f in found if first <= f.entry <= last)


def last_entry(checkpoint: Path, number: int, stream_batch_id: int) -> int:
    """The last list of source `number` up to a planned batch; -1: nothing from it yet."""
    try:
        entry = (checkpoint / "offsets" / str(stream_batch_id)).read_text(encoding="utf-8")
        return int(json.loads(entry.splitlines()[2:][number])["logOffset"])
    except (ValueError, OSError, IndexError, KeyError, TypeError):  # no such batch; or "-", or a topic's end
        return -1


def _lines(log: Path) -> Iterator[ListedFile]:
    for line in log.read_text(encoding="utf-8").splitlines()[1:]:
        try:
            file = json.loads(line)
            path = Path(unquote(urlparse(file["path"]).path))
            yield ListedFile(file["batchId"], path, file["timestamp"])
        except (ValueError, KeyError, TypeError):  # Spark itself says what it thinks of such a line
            continue
