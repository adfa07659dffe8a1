"""Lists the files of a Delta table at one version: data files and log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipelines.runtime.contained import contained

LOG = "_delta_log"
_COMMIT = re.compile(r"^(\d{20})\.json$")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$")


class Vanished(RuntimeError):
    """A file of that version is not there (any more)."""


@dataclass(frozen=True)
class TableFiles:
    """Paths inside the table's folder. A copy of them opens at `version`, whatever was committed to the original."""

    version: int
    row_count: int
    data: tuple[str, ...]
    log: tuple[str, ...]


def files_of(folder: Path, table: DeltaTable) -> TableFiles:
    """The files of an opened table. Vanished when its log has been cleaned beyond that version; LeadsOutside when the
    log names a file that is not in the table's folder."""
    actions = pa.table(table.get_add_actions(flatten=True))
    data = tuple(unquote(path) for path in actions["path"].to_pylist())
    for path in data:
        contained(folder, path)
    return TableFiles(
        table.version(),
        pc.sum(actions["num_records"]).as_py() or 0,
        data,
        tuple(_log_files(folder / LOG, table.version())),
    )


def _log_files(log: Path, version: int) -> Iterator[str]:
    """The newest whole checkpoint up to `version`, if there is one, and every commit after it. The last commit in any
    case: its name says at which version the table is."""
    names = [entry.name for entry in log.iterdir()]
    parts: dict[int, list[str]] = {}
    wanted: dict[int, int] = {}
    for name in names:
        if (found := _CHECKPOINT.match(name)) and int(found[1]) <= version:
            parts.setdefault(int(found[1]), []).append(name)
            wanted[int(found[1])] = int(found[3] or 1)
    checkpoint = max((v for v, files in parts.items() if len(files) == wanted[v]), default=-1)
    commits = {int(found[1]): name for name in names if (found := _COMMIT.match(name))}
    yield from sorted(parts.get(checkpoint, ()))
    for number in range(min(checkpoint + 1, version), version + 1):
        if number in commits:
            yield commits[number]
        elif number > checkpoint:
            raise Vanished(f"commit {number} of {log.parent}")
