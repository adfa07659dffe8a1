"""One writing process per lake, held by a file lock that the operating system drops when the process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LakeLocked(RuntimeError):
    """Another process writes this lake; the message names it."""


@contextmanager
def lake_lock(lake: Path) -> Iterator[None]:
    """Hold the lake for writing. LakeLocked when another process does."""
    path = lake / "_stitchlake" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            owner = f.read().strip() or "unknown"
            raise LakeLocked(
                f"the lake {lake} is being written by process {owner}; stop it or use another --lake"
            ) from None
        f.truncate(0)
        f.write(str(os.getpid()))
        f.flush()
        try:
            yield
        finally:
            f.truncate(0)
