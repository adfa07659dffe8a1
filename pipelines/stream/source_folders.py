"""Folders that a stream must not read, and files that must not be written where a stream reads.

A stream that reads its own tables never ends, and one that meets a file by two ways reads it twice: every way has a
name of its own. So folders are compared as they really are, whatever links lead there, before anything is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from conf.tables import BATCHES
from pipelines.lake.topic_address import is_topic
from pipelines.stream.checkpoint import POINTER
from pipelines.stream.source import Source, SourceError

_LOG = "_delta_log"
_BACKUP = {"objects", "restore-points"}
_CHECKPOINT = {"offsets", "commits", "metadata"}
_BATCHES_LOG = Path(BATCHES.schema, BATCHES.name, _LOG)


def require_apart(sources: Sequence[Source], lake: Path) -> None:
    """SourceError where a source and the lake, or two sources, have files in common, or a source holds what programs
    write: tables, checkpoints, backups."""
    folders = [(source, _real(source.location)) for source in sources if source.kind == "file"]
    for source, folder in folders:
        at = f"source {source.mapping}:{source.location}"
        if _is_inside(_real(lake), folder):
            raise SourceError(
                f"{at}: the lake {lake} is inside it, and the stream would read its own tables; give a folder beside "
                "the lake, or another --lake"
            )
        if found := lake_around(folder):
            raise SourceError(
                f"{at} is inside the lake {found}; give a folder of its own for files that arrive"
            )
        _require_plain(at, folder)
    for (left, one), (right, other) in combinations(folders, 2):
        if _is_inside(one, other) or _is_inside(other, one):
            raise SourceError(
                f"sources {left.mapping}:{left.location} and {right.mapping}:{right.location} have the same files, "
                "which would be read twice; give one of them, or folders apart"
            )
    _require_no_way_back([folder for _, folder in folders], _real(lake))


def require_writable(path: Path, lake: Path | None = None) -> None:
    """SourceError where a file that is to be written would lie inside a lake, or where the lake's stream reads."""
    if found := lake_around(_real(path).parent):
        raise SourceError(f"{path} is inside the lake {found}; write it somewhere else")
    if lake is not None:
        require_not_read(path, lake)


def require_not_read(path: Path, lake: Path) -> None:
    """SourceError where a file or folder that is to be written would lie where the lake's last stream read."""
    for folder in (_real(source.location) for source in sources_of_record(lake)):
        if _is_inside(_real(path), folder):
            raise SourceError(
                f"{path} is inside {folder}, where the lake's stream reads; write it somewhere else"
            )


def lake_around(folder: Path) -> Path | None:
    """The lake that a folder is, or is inside of."""
    return next((place for place in (folder, *folder.parents) if (place / _BATCHES_LOG).is_dir()), None)


def _require_plain(at: str, folder: Path) -> None:
    for where, folders, files in os.walk(folder):
        if _LOG in folders:
            raise SourceError(
                f"{at}: {where} is a Delta table, whose files are not all of its rows, nor are its rows all in force; "
                "export it to a folder of its own, and read that"
            )
        if {*folders} >= _BACKUP:
            raise SourceError(
                f"{at}: {where} is a lake's backup; give a folder that holds nothing but events"
            )
        if {*folders, *files} >= _CHECKPOINT:
            raise SourceError(
                f"{at}: {where} is Spark's checkpoint; give a folder that holds nothing but events"
            )


def _require_no_way_back(folders: Sequence[Path], lake: Path) -> None:
    """No link in a source leads to what is read already, or to the lake."""
    targets: list[tuple[Path, Path]] = []
    for folder in folders:
        for link in _links(folder):
            target = _real(link)
            for other in (*folders, lake, *(known for _, known in targets)):
                if _is_inside(target, other) or _is_inside(other, target):
                    raise SourceError(
                        f"{link} is a link to {target}, which is read already or is the lake; remove it, or move what "
                        "it leads to out of the way"
                    )
            targets.append((link, target))


def _links(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        yield from (Path(where, name) for name in (*folders, *files) if os.path.islink(Path(where, name)))


def sources_of_record(lake: Path) -> list[Source]:
    """The folders that the lake's last stream read, those that are there."""
    try:
        names = json.loads((lake / POINTER).read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # A mapping may be the path of a file, and has no colon and slash after one another.
    places = [(name, *name.partition(":/")[::2]) for name in names if ":/" in name and not is_topic(name)]
    found = [Source(mapping, f"/{place}", "file", name) for name, mapping, place in places]
    return [source for source in found if Path(source.location).is_dir()]


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))


def _is_inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
