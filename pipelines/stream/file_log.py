"""Spark's own lists of the files that a checkpoint's batches read, one log for each landing folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

_BLOCK = 64 * 1024


class ListedFile(NamedTuple):
    """A file on a list: `entry` is the number of the list, `modified_ms` the file's time when Spark saw it."""

    entry: int
    path: Path
    modified_ms: int


def listed(checkpoint: Path, number: int) -> Iterator[ListedFile]:
    """Every file on the lists of source `number`; one may come twice, since lists are joined now and then."""
    for name in list_names(checkpoint, number):
        yield from listed_in(checkpoint, number, name)


def list_names(checkpoint: Path, number: int) -> list[str]:
    """The lists of source `number` that are there, in their order; a joined one has everything before it."""
    found = [log.name for log in (checkpoint / "sources" / str(number)).glob("[0-9]*")]
    names = (name for name in found if name.removesuffix(".compact").isdecimal())
    return sorted(names, key=lambda name: int(name.removesuffix(".compact")))


def listed_in(checkpoint: Path, number: int, name: str) -> Iterator[ListedFile]:
    """The files on one list."""
    log = checkpoint / "sources" / str(number) / name
    try:
        yield from _files(log.read_text(encoding="utf-8").splitlines()[1:])
    except FileNotFoundError:  # joined into another one meanwhile
        return


def forget(checkpoint: Path, number: int, files: Set[Path], until: int) -> None:
    """Take files off the lists of source `number` up to the list `until`. Spark takes a file of such a name for a new
    one then, and its memory of names, which is these lists, has no more than is needed. Only while no query runs.

    Broken off, it leaves some of the files on the lists, and is done again at the next look.
    """
    for log in (checkpoint / "sources" / str(number)).glob("[0-9]*"):
        lines = log.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not any(_is_among(file, files, until) for file in _files([line]))]
        if len(kept) == len(lines):
            continue
        partial = log.with_name(f".{log.name}.{os.getpid()}.tmp")  # Spark passes over such names
        partial.write_text("\n".join(kept), encoding="utf-8")
        log.with_name(f".{log.name}.crc").unlink(missing_ok=True)  # of what was there
        partial.replace(log)


def _is_among(file: ListedFile, files: Set[Path], until: int) -> bool:
    return file.entry <= until and file.path in files


def listed_for(checkpoint: Path, number: int, stream_batch_id: int) -> list[ListedFile]:
    """The files of source `number` that a planned batch reads."""
    first = last_entry(checkpoint, number, stream_batch_id - 1) + 1
    last = last_entry(checkpoint, number, stream_batch_id)
    folder = checkpoint / "sources" / str(number)
    logs = [folder / f"{entry}{ending}" for entry in range(first, last + 1) for ending in ("", ".compact")]
    found: set[ListedFile] = set()
    for log in logs:
        if log.exists():  # what is new is at the end, and a joined list has all of history before it
            found.update(takewhile(lambda file: file.entry >= first, _files(_backwards(log))))
    return sorted(file for file in found if file.entry <= last)


def last_entry(checkpoint: Path, number: int, stream_batch_id: int) -> int:
    """The last list of source `number` up to a planned batch; -1: nothing from it yet."""
    try:
        entry = (checkpoint / "offsets" / str(stream_batch_id)).read_text(encoding="utf-8")
        return int(json.loads(entry.splitlines()[2:][number])["logOffset"])
    except (ValueError, OSError, IndexError, KeyError, TypeError):  # no such batch; or "-", or a topic's end
        return -1


def _files(lines: Iterable[str]) -> Iterator[ListedFile]:
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # Spark itself says what it thinks of such a line
            file = json.loads(line)
            yield ListedFile(file["batchId"], Path(unquote(urlparse(file["path"]).path)), file["timestamp"])


def _backwards(log: Path) -> Iterator[str]:
    """The lines of a list but for its first one, which is a version; the last one first."""
    with log.open("rb") as file:
        at, rest = file.seek(0, os.SEEK_END), b""
        while at > 0:
            size = min(at, _BLOCK)
            at -= size
            file.seek(at)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            yield from (line.decode() for line in reversed(lines) if line)
