"""Cut input files into slices of N records each, so that a stream takes them N at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from transforms.framing import Frame, frame
from transforms.framing_csv import csv_split


def land(inputs: Sequence[Path], folder: Path, records_per_file: int | None) -> int:
    """Put `inputs` into the landing `folder`, whole or in slices; returns how many files that makes.

    Slices keep the name of their file and the number of their first record, so a record's origin does not depend on
    how its file was cut. They become readable one after the other, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, path in enumerate(inputs):
        name = f"{number:06d}-{path.name}"
        parts = (
            _slices(name, path.read_bytes(), records_per_file)
            if records_per_file
            else [(name, path.read_bytes())]
        )
        for part_name, content in parts:
            hidden = folder / f".{part_name}"
            hidden.write_bytes(content)
            os.utime(hidden, (count + 1, count + 1))  # files are picked up in the order of their age
            hidden.rename(folder / part_name)
            count += 1
    return count


def _slices(name: str, content: bytes, records_per_file: int) -> Iterator[tuple[str, bytes]]:
    stem, _, extension = name.removesuffix(".gz").rpartition(".")
    frames = list(frame(name, content))
    if any(f.payload_format == "unreadable" for f in frames):
        yield name, content  # what cannot be read cannot be cut
        return
    for start in range(0, len(frames), records_per_file):
        group = frames[start : start + records_per_file]
        kind, joined = _joined(group)
        if kind == "jsonl" and extension == "ndjson":
            kind = extension
        yield f"{stem}.rows{group[0].ordinal:09d}.{kind}", joined


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
