"""Columns that stand in the names of folders, as Hive and Spark write them: `tenant=acme/dt=2026-03-01/part-0.parquet`.

Such a column is one of the record's own where a mapping names it and the record has no value for it. Others are left
alone: the hour in which a record was written says nothing of the event, and would make two events of one that lands in
two folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@lru_cache(maxsize=4096)
def columns_of(name: str) -> Mapping[str, str]:
    """The columns in the folders of a file's name; of one that stands there twice, the inner one."""
    if "=" not in name:
        return {}
    found = (folder.partition("=") for folder in name.split("/")[:-1])
    named = {unquote(column): unquote(value) for column, equals, value in found if equals and column}
    return {column: value for column, value in named.items() if value not in ("", NO_VALUE)}


def innermost(path: str) -> str:
    """Of a path what is in the folders that are columns, and they: `in/tenant=a/x.csv` is `tenant=a/x.csv`."""
    *folders, name = path.split("/")
    while folders and "=" not in folders[0]:
        folders.pop(0)
    return "/".join((*folders, name))
