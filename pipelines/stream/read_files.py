"""Files that have changed since Spark listed them, and the upkeep of Spark's lists of files.

Spark knows a file by its name alone, reads a name once, remembers every name it has ever read, and passes over what is
gone. What was read is in ops.files. So names leave Spark's lists where they say something else: of files that have
changed since, which are met again then, and of files that are gone, which nobody has to remember. That is done while no
query runs; a running stream is stopped between two batches for it and begun again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.stream.checkpoint import Checkpoint
from pipelines.stream.file_log import ListedFile, forget, last_entry, list_names, listed_in
from pipelines.stream.source import Source
from pipelines.stream.sources import columns_in_folders, left_out
from transforms.ingest.control import CONTROL

LOOK_SECONDS = 10.0
MOST_GONE = (
    10_000  # names of files that are gone; a running stream is begun again for more, if they are most of all
)
_PAUSES = 50  # a look is followed by so many times its own length


@dataclass
class _Folder:
    """One landing folder. `listed`: the files on Spark's lists; of a file that is there twice, the last one."""

    source: Source
    number: int
    listed: dict[Path, ListedFile] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)  # those that have been read
    changed: set[Path] = field(default_factory=set)
    gone: set[Path] = field(default_factory=set)
    unread: set[Path] = field(default_factory=set)  # gone, and the next batch was to read them
    reported: set[str] = field(default_factory=set)

    @property
    def is_crowded(self) -> bool:
        return len(self.gone) > max(MOST_GONE, len(self.listed) // 2)


class FolderWatch:
    """Looks at a stream's folders from time to time. `say` gets a line for each file that is not read, with the reason.
    `columns_taken`: the columns that a mapping takes from the names of folders."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        inputs: Sequence[Source],
        say: Callable[[str], None],
        columns_taken: Callable[[str], Set[str]] = lambda mapping: frozenset(),
    ) -> None:
        in_order = sorted(inputs, key=lambda s: s.name)  # as Spark numbers them
        self._folders = [_Folder(s, number) for number, s in enumerate(in_order) if s.kind == "file"]
        self._checkpoint, self._say, self._next_look = checkpoint.folder, say, 0.0
        self._columns_taken = columns_taken

    def begin(self) -> None:
        """Before a query starts: say what there is to say, and bring Spark's lists up to date."""
        self._look()
        for folder in self._folders:
            name = folder.source.mapping
            if folder.changed:
                self._say(
                    f"{name}: {len(folder.changed)} files have changed or landed again since they were read, such as "
                    f"{min(folder.changed).name}; what is new in them is read"
                )
            if folder.unread:
                self._say(
                    f"{name}: {len(folder.unread)} files that the next batch was to read are gone, such as "
                    f"{min(folder.unread).name}; they are read once they have landed again"
                )
            self._forget(folder)

    def is_out_of_date(self) -> bool:
        """Whether a running query has to be begun again, because it would not read what has changed, or remembers too
        much. Looks at the folders only every so often."""
        if time.monotonic() < self._next_look:
            return False
        self._look()
        return any(folder.changed or folder.is_crowded for folder in self._folders)

    def _look(self) -> None:
        started = time.monotonic()
        for folder in self._folders:
            self._look_at(folder)
        took = time.monotonic() - started
        self._next_look = started + took + max(LOOK_SECONDS, _PAUSES * took)

    def _look_at(self, folder: _Folder) -> None:
        read_until = _read_until(self._checkpoint, folder.number)
        for name in list_names(self._checkpoint, folder.number):
            if name not in folder.lists:
                folder.lists.add(name)
                folder.listed.update((f.path, f) for f in listed_in(self._checkpoint, folder.number, name))
        folder.changed, folder.gone, folder.unread = set(), set(), set()
        for path, file in folder.listed.items():
            is_read = file.entry <= read_until
            try:
                if os.stat(path).st_mtime_ns // 1_000_000 != file.modified_ms and is_read:
                    folder.changed.add(path)
            except OSError:
                (folder.gone if is_read else folder.unread).add(path)
        for why, names in left_out(folder.source).items():
            if new := [name for name in names if name not in folder.reported]:
                folder.reported.update(new)
                self._say(f"{folder.source.mapping}: {len(new)} files are not read: {why}, such as {new[0]}")

        if folder.source.mapping == CONTROL:
            return
        for column, name in columns_in_folders(folder.source).items():
            if column not in self._columns_taken(folder.source.mapping) and column not in folder.reported:
                folder.reported.add(column)
                self._say(
                    f"{folder.source.mapping}: the column {column}, which is in names of folders such as {name}, is "
                    "not taken by the mapping; a path of that name takes it"
                )

    def _forget(self, folder: _Folder) -> None:
        if leaving := folder.changed | folder.gone:
            forget(self._checkpoint, folder.number, leaving, _read_until(self._checkpoint, folder.number))
            folder.listed = {path: file for path, file in folder.listed.items() if path not in leaving}


def _read_until(checkpoint: Path, number: int) -> int:
    """The last entry of a folder's list that a finished batch has read."""
    commits = [int(f.name) for f in (checkpoint / "commits").glob("[0-9]*") if f.name.isdecimal()]
    return last_entry(checkpoint, number, max(commits, default=-1))
