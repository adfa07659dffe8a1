"""Cut input files into slices of N records each, so that a stream takes them N at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from transforms.ingest.framing.csv_frames import csv_split
from transforms.ingest.framing.files_read import FileRead, content_digest
from transforms.ingest.framing.frames import Frame, frame, slice_name
from transforms.ingest.mapping.folder_columns import innermost

NameOf = Callable[[int, Path], str]
ReadBefore = Callable[[str], Sequence[FileRead]]


def numbered(number: int, path: Path) -> str:
    """Its place among the inputs, and its name, with the columns that the names of its folders have."""
    name = innermost(path.resolve().as_posix())
    return f"{number:06d}{'/' if '/' in name else '-'}{name}"


def by_path(number: int, path: Path) -> str:
    """Its absolute path: a file that is given again, alone or beside others, is the same one."""
    return str(path.resolve()).lstrip("/")


def land(
    inputs: Sequence[Path],
    folder: Path,
    records_per_file: int | None,
    name_of: NameOf = numbered,
    read_before: ReadBefore = lambda name: (),
) -> int:
    """Put `inputs` into the landing `folder`, whole or in slices; returns how many files that makes.

    Slices keep the name of their file and the number of their first record, so a record's origin does not depend on
    how its file was cut. They become readable one after the other, in order.

    `read_before`: what a lake has read under a name. If that is more than some of these very slices, the file has other
    content now, or was cut otherwise. Which of its records are new is seen in the whole file only, so it is not cut.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, path in enumerate(inputs):
        name, content = name_of(number, path), path.read_bytes()
        parts: Iterable[tuple[str, bytes]] = [(name, content)]
        if records_per_file and _is_of(read_before(name), name, content, records_per_file):
            parts = _slices(name, content, records_per_file)
        for part_name, of_part in parts:
            target = folder / part_name
            target.parent.mkdir(parents=True, exist_ok=True)
            hidden = target.with_name(f".{target.name}")
            hidden.write_bytes(of_part)
            os.utime(hidden, (count + 1, count + 1))  # files are picked up in the order of their age
            hidden.rename(target)
            count += 1
    return count


def _is_of(reads: Sequence[FileRead], name: str, content: bytes, records_per_file: int) -> bool:
    """Whether everything that has been read are some of the slices that the file would be cut into."""
    if not reads:
        return True
    slices = _slices(name, content, records_per_file)
    digests = {part: content_digest(of_part) for part, of_part in slices}
    return all(digests.get(read.path) == read.digest for read in reads)


def _slices(name: str, content: bytes, records_per_file: int) -> Iterator[tuple[str, bytes]]:
    frames = list(frame(name, content))
    if not frames or any(f.payload_format == "unreadable" for f in frames):
        yield name, content  # what cannot be read cannot be cut
        return
    for start in range(0, len(frames), records_per_file):
        group = frames[start : start + records_per_file]
        kind, joined = _joined(group)
        yield slice_name(name, group[0].ordinal, kind), joined


def _joined(group: list[Frame]) -> tuple[str, bytes]:
    """(extension, content) of a file that frames into `group`."""
    if group[0].payload_format == "csv":
        parts = [csv_split(f.payload.decode("utf-8", "surrogateescape")) for f in group]
        lines = [parts[0][0], *(record for _, record in parts), ""]
        return "csv", "\n".join(lines).encode("utf-8", "surrogateescape")
    if any(b"\n" in f.payload for f in group):
        return "json", b"[" + b",".join(f.payload for f in group) + b"]"
    lines_by_number = {
        f.ordinal: f.payload for f in group
    }  # blank lines stay: the records' numbers count them
    numbers = range(group[0].ordinal, group[-1].ordinal + 1)
    return "jsonl", b"".join(lines_by_number.get(n, b"") + b"\n" for n in numbers)
