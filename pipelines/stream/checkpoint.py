"""Which checkpoint a stream continues from, and the application id that lives with it.

A checkpoint says what has been read, the lake says what has been published. They are written by different hands, so
before a batch runs they are compared, by the checkpoint's files alone. A checkpoint that does not fit is
not continued: a new one begins at what is published, topics by their offsets and files by ops.files.
docs/exactly-once.md has the table.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from pipelines.lake.batch_rows import BatchRows
from pipelines.lake.snapshot import Snapshot
from pipelines.runtime.contained import contained
from pipelines.stream.batch.intent import Intent

CHECKPOINTS = "_checkpoints"
POINTER = "_stitchlake/stream.json"
DIRECT = (
    "control-"  # a direct batch is an application of its own: no checkpoint numbers it, nothing continues it
)


@dataclass(frozen=True)
class Checkpoint:
    """`stream` is the application id of every Delta transaction; `folder` is Spark's. `is_new`: nothing ran in it.

    `trouble`: why an earlier one was left, for the operator.
    """

    stream: str
    folder: Path
    sources: tuple[str, ...]
    is_new: bool
    trouble: str | None = None

    def offset_entry(self, stream_batch_id: int) -> str | None:
        """A hash of the entry by which a batch is read. It has the time of planning in it, so no two are equal."""
        return _hash_of(self.folder / "offsets" / str(stream_batch_id))


@dataclass(frozen=True)
class Entries:
    """What a checkpoint's folder says: the last offset entry and the last commit entry (-1: none)."""

    last_offset: int
    last_commit: int
    hashes: Mapping[int, str] = field(default_factory=dict)  # of offset entries
    is_damaged: bool = False


@dataclass(frozen=True)
class OfRecord:
    """What the lake says about a stream."""

    last_published: int = -1  # stream batch
    offset_entry: str | None = None  # the hash that it was published with
    is_begun: bool = False  # the batch after it has been begun: its intent is on record
    is_superseded: bool = False  # another checkpoint has brought batches into the lake since


def fault(found: Entries | None, record: OfRecord) -> str | None:
    """Why a checkpoint must not be continued, or None. `found` is None where there is none.

    Going on with one that has a fault would skip batches in silence (their numbers are taken), or read some twice.
    """
    last = record.last_published
    if found is None:
        return "is lost" if last >= 0 or record.is_begun else None
    if found.is_damaged:
        return "is damaged"
    if record.is_superseded:
        return "is not the one that the lake was last written from"
    if found.last_commit > last or found.last_offset > last + 1:
        return "is newer than the lake"
    if found.last_offset < last or (record.is_begun and found.last_offset == last):
        return "is older than the lake"
    if found.last_commit < found.last_offset - 1:
        return "misses commit entries"
    if record.offset_entry is not None and found.hashes.get(last) != record.offset_entry:
        return "is another lake's, or of another time"
    return None


def has_checkpoint(lake: Path, stream: str) -> bool:
    """Is Spark's checkpoint of that application id still there, so that it could be continued?"""
    return (_folder_of(lake, stream) / "metadata").exists()


def open_checkpoint(
    lake: Path,
    sources: tuple[str, ...],
    snapshot: Snapshot | None = None,
    pending: Intent | None = None,
    *,
    is_continued: bool = True,
) -> Checkpoint:
    """The checkpoint of exactly these sources, if it fits the lake's last published batch, or a new one.

    Spark refuses a checkpoint whose sources changed, so every set of sources has its own; which files earlier ones have
    read is in ops.files. `pending`: the intent of a half-written batch. Not `is_continued`: a new one in any case, for
    folders that nobody will find again.
    """
    pointer = lake / POINTER
    sources = tuple(sorted(sources))
    trouble = None
    found = _pointer(pointer, lake)
    if not is_continued:
        pass
    elif found is None:
        trouble = "is lost" if of_record(snapshot, pending, "").is_superseded else None
    elif tuple(found["sources"]) == sources:
        folder = _folder_of(lake, found["stream"])
        entries = read_entries(folder, len(sources))
        record = of_record(snapshot, pending, found["stream"], found.get("after_batch_id", -1))
        trouble = fault(entries, record)
        if trouble is None and entries is not None:
            return Checkpoint(found["stream"], folder, sources, is_new=False)
    stream = uuid.uuid4().hex
    pointer.parent.mkdir(parents=True, exist_ok=True)
    partial = pointer.with_suffix(".partial")
    content = {
        "stream": stream,
        "sources": sources,
        "after_batch_id": snapshot.batch_id if snapshot is not None else 0,
    }
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(pointer)
    if trouble is not None:
        trouble = (
            f"the checkpoint {trouble}; a new one begins at the last published batch, and what is published is known "
            "and not taken again"
        )
    return Checkpoint(stream, _folder_of(lake, stream), sources, is_new=True, trouble=trouble)


def of_record(
    snapshot: Snapshot | None, pending: Intent | None, stream: str, after_batch_id: int = 0
) -> OfRecord:
    """What the lake says about `stream`, whose checkpoint was begun after batch `after_batch_id` was published."""
    begun_by = pending.stream if pending is not None and not pending.stream.startswith(DIRECT) else None
    is_superseded = begun_by not in (None, stream)
    if snapshot is None:
        return OfRecord(is_begun=begun_by == stream, is_superseded=is_superseded)
    last = None
    columns = ["stream", "stream_batch_id", "offset_entry"]
    is_streams = pc.field("stream_batch_id").is_valid() & ~pc.starts_with(pc.field("stream"), DIRECT)
    for row in BatchRows(snapshot.lake).newest_first(columns, snapshot.batch_id, is_streams):
        if row["stream"] == stream:
            last = row
            break
        if row["batch_id"] <= after_batch_id:
            break
        # Another checkpoint's, newer than any of this one's; and if this one has none, newer than it is.
        is_superseded = True
    return OfRecord(
        last["stream_batch_id"] if last is not None else -1,
        last["offset_entry"] if last is not None else None,
        is_begun=begun_by == stream,
        is_superseded=is_superseded,
    )


def read_entries(folder: Path, source_count: int) -> Entries | None:
    """What is in Spark's folder; None where no query has begun."""
    metadata = folder / "metadata"
    offsets, commits = _numbers(folder / "offsets"), _numbers(folder / "commits")
    if not metadata.exists() and not offsets:
        return None
    hashes = {n: _hash_of(folder / "offsets" / str(n)) or "" for n in offsets[-2:]}
    is_whole = (
        _is_json(metadata)
        and all(_is_offset_entry(folder, n, source_count) for n in offsets[-2:])
        and all(_is_commit_entry(folder / "commits" / str(n)) for n in commits[-1:])
    )
    return Entries(max(offsets, default=-1), max(commits, default=-1), hashes, not is_whole)


def _is_offset_entry(folder: Path, number: int, source_count: int) -> bool:
    """A readable entry of as many sources, whose files are on record beside it: what a folder's log has forgotten would
    be taken for read."""
    try:
        version, metadata, *ends = (folder / "offsets" / str(number)).read_text(encoding="utf-8").splitlines()
        if version != "v1" or not isinstance(json.loads(metadata), dict) or len(ends) != source_count:
            return False
        for at, end in enumerate(ends):
            if end == "-":
                continue
            last = json.loads(end).get("logOffset")
            if isinstance(last, int) and last > max(_numbers(folder / "sources" / str(at)), default=-1):
                return False
    except (ValueError, OSError, AttributeError):
        return False
    return True


def _is_commit_entry(path: Path) -> bool:
    try:
        version, content = path.read_text(encoding="utf-8").splitlines()
        return version == "v1" and isinstance(json.loads(content), dict)
    except (ValueError, OSError):
        return False


def _is_json(path: Path) -> bool:
    try:
        return "id" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, TypeError):
        return False


def _numbers(folder: Path) -> list[int]:
    """The numbers of the entries of one of Spark's logs, in order; those in flight and checksums are none."""
    if not folder.is_dir():
        return []
    names = (f.name.removesuffix(".compact") for f in folder.iterdir())
    return sorted({int(name) for name in names if name.isdecimal()})


def _hash_of(path: Path) -> str | None:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except FileNotFoundError:
        return None


def _folder_of(lake: Path, stream: str) -> Path:
    """Where Spark keeps the checkpoint of an application id. LeadsOutside when it would not be among the lake's."""
    return contained(lake / CHECKPOINTS, stream)


def _pointer(path: Path, lake: Path) -> dict | None:
    """What the lake's pointer says; None where it says nothing that can be used."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _folder_of(lake, found["stream"])
        return found if "sources" in found else None
    except (ValueError, OSError, TypeError, KeyError):  # LeadsOutside is a ValueError
        return None
