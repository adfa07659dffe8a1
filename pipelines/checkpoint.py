"""Which checkpoint a stream continues from, and the application id that lives with it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """`stream` is the application id of every Delta transaction; `folder` is Spark's. `is_new`: nothing ran in it."""

    stream: str
    folder: Path
    sources: tuple[str, ...]
    is_new: bool


def open_checkpoint(lake: Path, sources: tuple[str, ...]) -> Checkpoint:
    """The checkpoint of exactly these sources, or a new one.

    Spark refuses a checkpoint whose sources changed, so every set of sources has its own; what earlier ones have
    read is known by origin from the published tables.
    """
    pointer = lake / "_stitchlake" / "stream.json"
    sources = tuple(sorted(sources))
    try:
        found = json.loads(pointer.read_text(encoding="utf-8"))
        folder = lake / "_checkpoints" / found["stream"]
        if tuple(found["sources"]) == sources and (folder / "metadata").exists():
            return Checkpoint(found["stream"], folder, sources, is_new=False)
    except FileNotFoundError:
        pass
    stream = uuid.uuid4().hex
    pointer.parent.mkdir(parents=True, exist_ok=True)
    partial = pointer.with_suffix(".partial")
    partial.write_text(json.dumps({"stream": stream, "sources": sources}), encoding="utf-8")
    partial.replace(pointer)
    return Checkpoint(stream, lake / "_checkpoints" / stream, sources, is_new=True)
