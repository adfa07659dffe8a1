"""One writing process per lake, held by a file lock that the operating system drops when the process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from conf.errors import Refusal


class LakeLocked(Refusal):
    """Another process writes this lake; the message names it."""


@contextmanager
def lake_lock(lake: Path) -> Iterator[Callable[[], None]]:
    """Hold the lake for writing. LakeLocked when another process does.

    Yields a check, cheap enough for every batch: LakeLocked when somebody has removed the lock's file meanwhile, so
    that others could take the lake too. A process that is stopped (SIGSTOP) keeps it, one that is killed does not.
    """
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
        except OSError as e:
            raise LakeLocked(
                f"the lake {lake} cannot be locked ({e.strerror}): its file system has no file locks, and without one "
                "two processes could write it; put the lake on one that has"
            ) from None

        def require_held() -> None:
            if not _is_at(f, path):
                raise LakeLocked(
                    f"the lock of the lake {lake} was removed while process {os.getpid()} was writing it; make sure "
                    "that no other process writes the lake, then run again"
                )

        require_held()  # removed between opening and locking
        f.truncate(0)
        f.write(str(os.getpid()))
        f.flush()
        try:
            yield require_held
        finally:
            f.truncate(0)


def _is_at(f: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(f.fileno()), path.stat())
    except FileNotFoundError:
        return False
