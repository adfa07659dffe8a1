"""Values that occur nowhere else, and where they turn up: in which column of which table, in which other file."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

LOG = "_delta_log"


def places(root: Path, canaries: Iterable[str]) -> dict[str, set[str]]:
    """Every file below `root`, byte by byte; compressed ones unpacked, tables column by column.

    Canary → where it is: `schema.table.column` (a hot part counts as its table), `schema.table/_delta_log`, or the path
    of a file that is no table's."""
    wanted = {canary: canary.lower() for canary in canaries}
    found: dict[str, set[str]] = {canary: set() for canary in wanted}
    for file in sorted(f for f in root.rglob("*") if f.is_file()):
        for place, text in _texts(root, file):
            for canary, lower in wanted.items():
                if lower in text or lower in place.lower():
                    found[canary].add(place)
    return found


def _texts(root: Path, file: Path) -> Iterator[tuple[str, str]]:
    table = _table_of(root, file)
    if file.suffix == ".parquet":
        rows = pq.ParquetFile(file).read()
        for name in rows.column_names:
            where = f"{table}/{LOG}" if LOG in file.parts else f"{table}.{name}"
            yield where, repr(rows[name].to_pylist()).lower()
        return
    content = file.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    yield f"{table}/{LOG}" if table else str(file.relative_to(root)), content.decode("latin-1").lower()


def _table_of(root: Path, file: Path) -> str | None:
    for folder in file.parents:
        if folder == root.parent:
            return None
        if (folder / LOG).is_dir():
            return f"{folder.parent.name}.{folder.name.removesuffix('_hot')}"
    return None
