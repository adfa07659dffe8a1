"""Paths that a file names: a manifest's, a table log's, a record's on disk. They lead nowhere but below their root."""

from __future__ import annotations

import os
from pathlib import Path

from conf.errors import Refusal


class LeadsOutside(Refusal, ValueError):
    """A path that a file names is not below its root; the message says which, and of what it is."""


def contained(root: Path, name: str) -> Path:
    """The place of `name` below the folder `root`. LeadsOutside when it is absolute, goes up, is a URI, or passes
    through a symbolic link to somewhere else.

    `root` itself may be a link, or lie behind one: that is its owner's choice and not a file's.
    """
    path = root / name
    is_plain = bool(name) and "\0" not in name and "://" not in name and not os.path.isabs(name)
    if not is_plain or ".." in Path(name).parts or not _is_below(path, root):
        raise LeadsOutside(f"the path {name!r} leads out of {root}")
    return path


def _is_below(path: Path, root: Path) -> bool:
    below = os.path.realpath(root)
    place = os.path.realpath(path)
    return place != below and Path(place).is_relative_to(below)
