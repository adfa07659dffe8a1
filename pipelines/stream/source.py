"""A source: a landing folder or a Kafka topic, and the mapping that reads its records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conf.errors import UserMistake
from conf.source_mapping import MappingError, load_mapping, shipped_mappings
from pipelines.lake.topic_address import EXAMPLE, SCHEME, AddressError, parse_address, without_credentials


class SourceError(UserMistake):
    """A source that cannot be read; the message says what is wrong with it and the way out."""


@dataclass(frozen=True)
class Source:
    """A place with records of one shape: `kind` "file" is a landing folder, and `location` its absolute path; "kafka"
    is a topic, and `location` its `host:port[,host:port]/topic`."""

    mapping: str
    location: str
    kind: str
    name: str


def parse_source(text: str) -> Source:
    """The source that `MAPPING:FOLDER` or `MAPPING:kafka://HOST:PORT/TOPIC` names.

    SourceError when there is no such mapping or folder. Whether there is such a topic, its broker says later.
    """
    mapping, colon, place = text.partition(":")
    text = without_credentials(text)
    if not colon or not mapping or not place:
        known = ", ".join(shipped_mappings())
        raise SourceError(
            f"source {text!r}: write it as MAPPING:FOLDER, for example native:events/, "
            f"or as {EXAMPLE} (mappings: {known})"
        )
    try:
        load_mapping(mapping)
    except MappingError as e:
        raise SourceError(f"source {text!r}: {e}") from None
    if place.startswith(SCHEME):
        try:
            address = parse_address(place)
        except AddressError as e:
            raise SourceError(f"source {text!r}: {e}") from None
        return Source(mapping, address.location, "kafka", f"{mapping}:{SCHEME}{address.location}")
    folder = Path(os.path.abspath(Path(place).expanduser()))
    if folder.is_file():
        raise SourceError(
            f"source {text!r}: {folder} is a file; give the folder it is in: {mapping}:{folder.parent}"
        )
    if not folder.is_dir():
        raise SourceError(f"source {text!r}: there is no folder {folder}; create it, or correct the path")
    return Source(mapping, str(folder), "file", f"{mapping}:{folder}")


def require_different(sources: Sequence[Source]) -> None:
    """SourceError when there is no source, or one of them twice."""
    if not sources:
        raise SourceError("no source: give at least one --source MAPPING:FOLDER")
    names = [s.name for s in sources]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise SourceError(f"source {twice[0]!r} is given twice; leave one of them out")
