"""Upkeep of a lake: long work while the stream runs, and one short pause of the stream for what commits.

    before   copy old files of bronze.events into the archive, or out of it
    pause    commit (pause.py): between two batches of a running stream, or with the lake's lock
    after    remove files and log entries that no readable batch needs, and what runs leave behind

Interrupted anywhere, readable batches are whole, no record is lost or there twice, and the next upkeep does the rest.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from conf.settings import Settings
from conf.table_spec import TableSpec
from conf.tables import ALL
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.writing.compaction import MOVING
from pipelines.operations.requests.holder import NotReady
from pipelines.operations.requests.requests import Answer, RequestFailed
from pipelines.operations.upkeep.archive import (
    ArchiveProblem,
    Moves,
    copy_files,
    from_archive,
    remove_superfluous_copies,
    to_archive,
)
from pipelines.operations.upkeep.delta_log import Pace
from pipelines.operations.upkeep.history import History, oldest_to_keep, versions_of
from pipelines.operations.upkeep.leftovers import remove_leftovers
from pipelines.operations.upkeep.vacuum import Removed, vacuum

Pause = Callable[[Mapping[str, Any]], Answer]
Report = dict[str, Any]


class UpkeepRefused(RequestFailed):
    """Upkeep cannot be done now; the message says why and what to do."""


class AnotherUpkeep(UpkeepRefused):
    """An upkeep of this lake is running."""


@dataclass(frozen=True)
class UpkeepOptions:
    """What this upkeep is to do. Archiving: records of batches older than `archive_days`, into `archive_to`."""

    history: History
    pause_seconds: float
    archive_days: float | None = None
    archive_to: str | None = None
    is_restore: bool = False

    @classmethod
    def of(cls, settings: Settings, retain_hours: float | None = None, **archive: Any) -> UpkeepOptions:
        """Options from the settings. `retain_hours` takes the place of the history that the settings keep."""
        days = settings.history_days if retain_hours is None else retain_hours / 24
        return cls(History(days, settings.history_batches), settings.upkeep_pause_seconds, **archive)


def no_pace() -> None:
    """As fast as it goes."""


def run_upkeep(
    lake: Lake,
    options: UpkeepOptions,
    pause: Pause,
    *,
    pace: Pace = no_pace,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Do it; `pause` runs the request `upkeep` with the arguments it is given. `pace` is called after each small step.

    AnotherUpkeep when one of this lake is running.
    """
    with _alone(lake):
        started, now_ns = time.monotonic(), _now_ns(lake)
        before = {spec: _size(lake, spec) for spec in with_hot_parts(ALL)}
        if (lake.path / MOVING).exists():  # what is to be moved depends on what an earlier upkeep has moved
            _paused(options, pause, None, pace, say)
        moves = _copied(lake, options, pace, say)
        try:
            answers = _paused(options, pause, moves, pace, say)
        except ArchiveProblem:  # before anything was moved
            if moves is not None:
                remove_superfluous_copies(lake, moves)
            raise
        if moves is not None:
            remove_superfluous_copies(lake, moves)  # what came back, or stayed where it was after all
        say("removing what no readable batch needs …")
        removed = _vacuumed(lake, answers[-1]["floors"], now_ns, pace, is_dry=False)
        left = remove_leftovers(lake, now_ns, options.history.days, pace)
        done = Moves.of(answers[0]["moved"]) if answers[0]["moved"] else None
        return {
            "is_dry_run": False,
            "batch_id": answers[-1]["batch_id"],
            "oldest_readable_batch_id": answers[-1]["oldest_readable_batch_id"],
            "pauses_seconds": [round(a["pause_seconds"], 3) for a in answers],
            "step_seconds": _summed(a["step_seconds"] for a in answers),
            "moved_file_count": 0 if done is None else len(done.files),
            "leftover_count": left,
            "tables": _tables(lake, before, removed),
            "seconds": round(time.monotonic() - started, 3),
        }


def dry_run(lake: Lake, options: UpkeepOptions, pace: Pace = no_pace) -> Report:
    """What would go if nothing were joined first. Changes nothing."""
    if published(lake) is None:
        raise NotReady(f"the lake {lake.path} has no published batch yet")
    before = {spec: _size(lake, spec) for spec in with_hot_parts(ALL)}
    oldest = oldest_to_keep(lake, options.history, None, datetime.now(UTC))
    removed = _vacuumed(lake, versions_of(lake, oldest), _now_ns(lake), pace, is_dry=True)
    planned = _planned(lake, options)
    return {
        "is_dry_run": True,
        "oldest_readable_batch_id": oldest,
        "moved_file_count": 0 if planned is None else len(planned.files),
        "leftover_count": remove_leftovers(lake, _now_ns(lake), options.history.days, pace, is_dry=True),
        "tables": _tables(lake, before, removed),
    }


def _planned(lake: Lake, options: UpkeepOptions) -> Moves | None:
    if options.is_restore:
        return from_archive(lake)
    if options.archive_days is None or options.archive_to is None:
        return None
    return to_archive(lake, options.archive_days, options.archive_to, datetime.now(UTC))


def _copied(lake: Lake, options: UpkeepOptions, pace: Pace, say: Callable[[str], None]) -> Moves | None:
    planned = _planned(lake, options)
    if planned is None or not planned.files:
        return None
    way = "out of" if planned.is_restore else "into"
    say(f"copying {len(planned.files):,} files of bronze.events {way} {planned.folder} …")
    return copy_files(lake, planned, pace)


def _paused(
    options: UpkeepOptions, pause: Pause, moves: Moves | None, pace: Pace, say: Callable[[str], None]
) -> list[Answer]:
    """The answers of as many pauses as it takes, each at least one step; files change sides in the first."""
    answers: list[Answer] = []
    while not (answers and answers[-1]["is_complete"]):
        if answers:
            time.sleep(answers[-1]["pause_seconds"])  # batches have as long again in between
        arguments = {
            "history_days": options.history.days,
            "history_batches": options.history.batches,
            "pause_seconds": options.pause_seconds,
            "done_steps": answers[-1]["done_steps"] if answers else 0,
            "moves": moves.as_dict() if moves is not None and not answers else None,
        }
        answers.append(pause(arguments))
        say(f"joined files between two batches, in {answers[-1]['pause_seconds']:.1f} s")
        pace()
    return answers


def _vacuumed(
    lake: Lake, floors: Mapping[str, int], now_ns: int, pace: Pace, *, is_dry: bool
) -> dict[TableSpec, Removed]:
    return {
        spec: vacuum(lake, spec, floors[spec.full_name], now_ns, pace, is_dry=is_dry)
        for spec in with_hot_parts(ALL)
        if spec.full_name in floors  # others were declared since: all of them is kept
    }


def _now_ns(lake: Lake) -> int:
    """What the age of files is judged by: the time of the last published batch, or now if that is earlier.

    Where the clock has jumped ahead, as after a weekend asleep, what a batch was writing then looks old and is not.
    """
    snapshot = published(lake)
    now, at = time.time_ns(), snapshot.published_at if snapshot else None
    return min(now, int(at.timestamp() * 1e9)) if at else now


@dataclass(frozen=True)
class _Size:
    """Files of the table as it is now, and all files in its folders."""

    file_count: int
    byte_count: int
    on_disk: int
    log_entries: int


def _size(lake: Lake, spec: TableSpec) -> _Size:
    sizes = pa.table(lake.open(spec).get_add_actions())["size_bytes"].to_pylist()
    folder = lake.table_path(spec)
    on_disk, log = (sum(1 for e in f.iterdir() if e.is_file()) for f in (folder, folder / "_delta_log"))
    return _Size(len(sizes), sum(sizes), on_disk, log)


def _tables(lake: Lake, before: Mapping[TableSpec, _Size], removed: Mapping[TableSpec, Removed]) -> list:
    found = []
    for spec, was in before.items():
        now, gone = _size(lake, spec), removed.get(spec, Removed(0, 0, 0))
        found.append(
            {
                "table": spec.full_name,
                "files_before": was.file_count,
                "files_after": now.file_count,
                "on_disk_before": was.on_disk,
                "on_disk_after": now.on_disk,
                "log_entries_before": was.log_entries,
                "log_entries_after": now.log_entries,
                "removed_files": gone.file_count,
                "removed_bytes": gone.byte_count,
                "removed_log_entries": gone.log_entry_count,
            }
        )
    return found


def _summed(all_seconds: Iterator[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for seconds in all_seconds:
        for name, value in seconds.items():
            total[name] = round(total.get(name, 0.0) + value, 3)
    return total


@contextmanager
def _alone(lake: Lake) -> Iterator[None]:
    """One upkeep at a time: another one would remove log entries that this one is reading."""
    path = lake.path / "_stitchlake" / "upkeep.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherUpkeep(f"another upkeep of {lake.path} is running; wait for it to end") from None
        yield
