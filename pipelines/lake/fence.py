"""Detects foreign writes: every commit to a table since the last publication has to be this program's.

    harmless   changes no rows: OPTIMIZE, VACUUM, comments, properties, new columns
    own        carries this program's mark, or the transaction of an attempt that is on record
    foreign    anything else: UPDATE, DELETE, MERGE, RESTORE, another program's rows

One writing process is the rule and the lock holds it; the fence is for whoever goes round the lock. Where versions are
the expected ones, no log is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from conf.errors import Refusal
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.writing.writer import Txn

OWN = "stitchlake"
OWN_COMMIT = {"userMetadata": OWN}  # for what changes rows and is no transaction of a batch
TAKES_BACK = "takesBack"
WAY_OUT = "`stitchlake repair` takes the lake back to its last published batch"


class LakeChanged(Refusal):
    """Somebody else has changed the lake's tables; the message names table, versions, operation and the way out."""


@dataclass(frozen=True)
class Commit:
    """One entry of a table's log, as far as the fence looks at it."""

    version: int
    operation: str
    changes_rows: bool
    is_marked: bool
    txns: frozenset[Txn]
    restores: int | None = None  # the version that a RESTORE went back to
    takes_back: str | None = None  # whose rows it deletes, because nobody will complete them


def require_as_left(
    lake: Lake, left_at: Mapping[str, int], own: Collection[Txn] = frozenset()
) -> dict[str, int]:
    """The version of every table now, if only this lake's writer has changed rows since `left_at`.

    `own`: the transactions of an attempt that is on record. A table that is not in `left_at` is looked at from its
    first commit. LakeChanged otherwise.
    """
    now = {}
    for spec in with_hot_parts(ALL):
        left = left_at.get(spec.full_name, -1)
        now[spec.full_name] = latest_version(lake, spec, left)
        require_own(lake, spec, left, now[spec.full_name], own)
    return now


def require_own(
    lake: Lake, spec: TableSpec, left: int, version: int, own: Collection[Txn] = frozenset()
) -> None:
    """LakeChanged when the table is older than it was left, or has a foreign commit after `left`, up to `version`."""
    if version < left:
        raise LakeChanged(
            f"{spec.full_name} is at version {max(version, 0)}, and this lake left it at version {left}: its folder "
            "was removed or put back from an older copy; put the newer one back, or restore a backup of the whole lake"
        )
    commit = first_foreign(lake, spec, left, version, own)
    if commit is not None and left < 0:
        raise LakeChanged(
            f"{spec.full_name} has rows that no published batch knows of (version {commit.version}, "
            f"{commit.operation}): {BATCHES.full_name} was removed or replaced, or the table was; put it back, or "
            "restore a backup of the whole lake"
        )
    if commit is not None:
        raise LakeChanged(
            f"{spec.full_name}: version {commit.version} ({commit.operation}) is not this lake's own, which left the "
            f"table at version {left}; nothing that is published shows it: {WAY_OUT}"
        )


def first_foreign(
    lake: Lake, spec: TableSpec, left: int, version: int, own: Collection[Txn] = frozenset()
) -> Commit | None:
    """The first foreign commit after `left`, up to `version`; what this lake has taken back since is none."""
    remaining: list[Commit] = []
    for commit in commits(lake, spec, left, version):
        if commit.is_marked and commit.restores is not None:
            remaining = [c for c in remaining if c.version <= commit.restores]
        elif commit.is_marked and commit.takes_back is not None:
            remaining = [c for c in remaining if all(t.app_id != commit.takes_back for t in c.txns)]
        elif _is_foreign(spec, commit, own):
            remaining.append(commit)
    return remaining[0] if remaining else None


def _is_foreign(spec: TableSpec, commit: Commit, own: Collection[Txn]) -> bool:
    if not commit.changes_rows or commit.is_marked:
        return False
    if spec is BATCHES:  # its newest row is the last published batch, whoever of us has written it
        return not commit.txns
    return not any(txn in own for txn in commit.txns)


def latest_version(lake: Lake, spec: TableSpec, known: int = -1) -> int:
    """The table's version, -1 where there is none. From a version that it `known`ly had on, without listing its log."""
    folder = lake.table_path(spec)
    if known < 0 or log_entry(folder, known).exists():
        version = known
        while log_entry(folder, version + 1).exists():
            version += 1
        if version >= 0:
            return version
    return lake.version(spec) if lake.has(spec) else -1


def commits(lake: Lake, spec: TableSpec, after: int, upto: int) -> Iterator[Commit]:
    """The log entries after a version, up to another one."""
    for version in range(after + 1, upto + 1):
        yield read_commit(log_entry(lake.table_path(spec), version), version)


def read_commit(entry: Path, version: int) -> Commit:
    """Read one entry of a Delta log: who made it, and whether it changed rows."""
    operation, changes_rows, is_marked, txns = "unknown operation", False, False, []
    restores = takes_back = None
    try:
        with entry.open("rb") as f:
            for line in f:
                action = orjson.loads(line)
                if (info := action.get("commitInfo")) is not None:
                    operation = str(info.get("operation", operation))
                    is_marked = info.get("userMetadata") == OWN
                    takes_back = info.get(TAKES_BACK)
                    if operation == "RESTORE":
                        restores = _number(info.get("operationParameters", {}).get("version"))
                elif (txn := action.get("txn")) is not None:
                    txns.append(Txn(txn["appId"], txn["version"]))
                elif (file := action.get("add") or action.get("remove")) is not None:
                    changes_rows |= file.get("dataChange", True)
    except FileNotFoundError:
        # Upkeep keeps what is newer than the last published batch; what else was there, nobody can tell.
        return Commit(version, "removed from the log", True, False, frozenset())
    return Commit(version, operation, changes_rows, is_marked, frozenset(txns), restores, takes_back)


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def log_entry(folder: Path, version: int) -> Path:
    """Where the log of the table in `folder` says what a version changed."""
    return folder / "_delta_log" / f"{version:020d}.json"
