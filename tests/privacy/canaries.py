"""Values that occur nowhere else, and where they turn up: in which column of which table, in which other file."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

LOG = "_delta_log"


def places(root: Path, canaries: Iterable[str]) -> dict[str, set[str]]:
    """Every file below `root`, byte by byte; compressed ones unpacked, tables column by column.

    Canary → where it is: `schema.table.column` (a hot part counts as its table), `schema.table/_delta_log`, or the path
    of a file that is no table's. What a table's file is copied to, under whatever name, is that table's as well."""
    wanted = {canary: canary.lower() for canary in canaries}
    found: dict[str, set[str]] = {canary: set() for canary in wanted}
    files = sorted(f for f in root.rglob("*") if f.is_file())
    tables = {_digest(f): table for f in files if (table := _table_of(root, f))}
    for file in files:
        for place, text in _texts(root, file, tables.get(_digest(file))):
            for canary, lower in wanted.items():
                if lower in text or lower in place.lower():
                    found[canary].add(place)
    return found


def _texts(root: Path, file: Path, table: str | None) -> Iterator[tuple[str, str]]:
    content = file.read_bytes()
    if content[:4] == b"PAR1":
        rows = pq.ParquetFile(file).read()
        is_log = LOG in file.parts or {"add", "metaData", "protocol"} <= set(rows.column_names)
        for name in rows.column_names:
            where = f"{table}/{LOG}" if is_log else f"{table}.{name}"
            yield where, repr(rows[name].to_pylist()).lower()
        return
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    yield f"{table}/{LOG}" if table else str(file.relative_to(root)), content.decode("latin-1").lower()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _table_of(root: Path, file: Path) -> str | None:
    for folder in file.parents:
        if folder == root.parent:
            return None
        if (folder / LOG).is_dir():
            return f"{folder.parent.name}.{folder.name.removesuffix('_hot')}"
    return None
