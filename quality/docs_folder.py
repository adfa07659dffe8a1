"""Decides whether a folder may be replaced by new Data Docs."""

from __future__ import annotations

from pathlib import Path

from conf.errors import UserMistake

MARK = ".stitchlake-quality"


class DocsFolderTaken(UserMistake):
    """A folder with something else in it, which is not overwritten."""


def require_ours(folder: Path) -> None:
    """DocsFolderTaken unless the folder is missing, empty or holds the pages of an earlier run."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).exists()):
        raise DocsFolderTaken(
            f"{folder} has something else in it; give --docs an empty folder, or one of an earlier run"
        )
