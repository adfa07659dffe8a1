"""Cut input files into slices of N records each, so that a stream takes them N at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from transforms.framing import Frame, frame


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
    bare = name.removesuffix(".gz")
    stem, _, extension = bare.rpartition(".")
    is_array = extension == "json" and content.lstrip()[:1] == b"["
    frames = frame(name, content)
    while group := tuple(islice(frames, records_per_file)):
        first = group[0].ordinal
        yield f"{stem}.rows{first:09d}.{_extension(extension, is_array)}", _joined(group, is_array)


def _extension(extension: str, is_array: bool) -> str:
    return extension if is_array or extension in ("csv", "ndjson", "jsonl") else "jsonl"


def _joined(group: tuple[Frame, ...], is_array: bool) -> bytes:
    if group[0].payload_format == "csv":
        header = group[0].payload.split(b"\n", 1)[0]
        return header + b"\n" + b"\n".join(f.payload.split(b"\n", 1)[1] for f in group) + b"\n"
    if is_array:
        return b"[" + b",".join(f.payload for f in group) + b"]"
    lines = {f.ordinal: f.payload for f in group}  # blank lines stay, for the records' numbers count them
    return b"".join(lines.get(n, b"") + b"\n" for n in range(group[0].ordinal, group[-1].ordinal + 1))
