"""Which files published batches have read. It comes from ops.files, because bronze.events may be archived.

In memory are eight bytes for each name that was ever read. They say when nothing can have been read under a name, which
is nearly always; otherwise the rows are fetched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from conf.tables import BRONZE_EVENTS, FILES
from pipelines.lake.lake import Lake
from transforms.arrays.grouped import filled
from transforms.ingest.control import CONTROL
from transforms.ingest.framing.files_read import (
    CHANGED,
    KNOWN,
    MOVING,
    PART,
    READ,
    FileRead,
    origin_key,
    record_digest,
)

ALL_TENANTS = "*"
Origin = tuple[str, str]  # source, and the name that its records have
# The column of each field of FileRead.
_FIELDS = {
    "source": "source",
    "path": "path",
    "origin": "origin",
    "outcome": "outcome",
    "size": "byte_count",
    "digest": "content_digest",
    "first": "first_ordinal",
    "last": "last_ordinal",
    "record_count": "record_count",
    "known_count": "known_record_count",
}
_TAKEN = pc.field("outcome").isin([READ, CHANGED, PART])
_RECORDS_AT_ONCE = 20_000
_MOST_RECENT = 10_000  # names


class FilesOfRecord:
    """What the batches up to and including `batch_id` have read of files."""

    def __init__(self, lake: Lake, batch_id: int) -> None:
        self._lake, self._batch_id = lake, batch_id
        keys = _rows(lake, batch_id).to_table(columns=["origin_key"], filter=_TAKEN)["origin_key"]
        self._keys = np.unique(keys.to_numpy())
        self._newer: set[int] = set()
        self._recent: dict[
            Origin, list[FileRead]
        ] = {}  # of names that were new to this process, all of their files

    def reads_of(self, origins: Iterable[Origin]) -> Mapping[Origin, Sequence[FileRead]]:
        """Every file of one of these origins that records were taken from, in the order of the batches."""
        hits = {origin: key for origin in origins if self._may_have(key := origin_key(*origin))}
        found = defaultdict(list, {o: list(self._recent[o]) for o in hits if o in self._recent})
        older = [key for origin, key in hits.items() if origin not in found]
        if not older:
            return found
        rows = _rows(self._lake, self._batch_id).to_table(
            columns=[*_FIELDS.values(), "batch_id"],
            filter=_TAKEN & pc.field("origin_key").isin(pa.array(older, pa.int64())),
        )
        for row in rows.sort_by("batch_id").to_pylist():
            read = FileRead(**{field: row[column] for field, column in _FIELDS.items()})
            found[read.source, read.origin].append(read)
        return found

    def learn(self, files: Iterable[FileRead], batch_id: int) -> None:
        """A batch has been published, with these files."""
        self._batch_id = batch_id
        if len(self._recent) > _MOST_RECENT:
            self._recent.clear()
        for file in files:
            origin, key = (file.source, file.origin), origin_key(file.source, file.origin)
            if file.outcome in (READ, CHANGED):
                if origin in self._recent or not self._may_have(key):
                    self._recent.setdefault(origin, []).append(file)
                self._newer.add(key)

    def _may_have(self, key: int) -> bool:
        at = int(np.searchsorted(self._keys, key))
        return key in self._newer or (at < len(self._keys) and int(self._keys[at]) == key)

    def seen_records(self, origin: Origin) -> Counter[bytes]:
        """Digests of the records of an origin that are in bronze.events, and how many there are of each."""
        seen: Counter[bytes] = Counter()
        bronze = self._lake.open(BRONZE_EVENTS).to_pyarrow_dataset(schema=BRONZE_EVENTS.arrow)
        is_of = (pc.field("source") == origin[0]) & (pc.field("origin") == origin[1])
        for batch in bronze.to_batches(
            columns=["payload_format", "payload"],
            filter=is_of & (pc.field("batch_id") <= self._batch_id),
            batch_size=_RECORDS_AT_ONCE,
        ):
            formats, payloads = (batch.column(n) for n in ("payload_format", "payload"))
            seen.update(map(record_digest, formats.to_pylist(), payloads.to_pylist()))
        return seen


def names_read(lake: Lake, batch_id: int, source: str) -> frozenset[str]:
    """Names of the files of one source that batches up to and including `batch_id` have taken."""
    rows = _rows(lake, batch_id).to_table(columns=["path"], filter=_TAKEN & (pc.field("source") == source))
    return frozenset(rows["path"].to_pylist())


def files_met(lake: Lake, batch_id: int) -> dict[str, int]:
    """How many files of each outcome batches up to and including `batch_id` have met, decisions left aside."""
    outcomes = _rows(lake, batch_id).to_table(columns=["outcome"], filter=pc.field("source") != CONTROL)[
        "outcome"
    ]
    return dict(sorted((row["values"], row["counts"]) for row in pc.value_counts(outcomes).to_pylist()))


def file_rows(files: Sequence[FileRead], batch_id: int) -> pa.Table:
    """Rows of ops.files."""
    files = sorted(f for f in files if f.outcome != MOVING)
    columns = {
        "tenant": [ALL_TENANTS] * len(files),
        **{column: [getattr(f, field) for f in files] for field, column in _FIELDS.items()},
        "origin_key": [origin_key(f.source, f.origin) for f in files],
        "batch_id": [batch_id] * len(files),
    }
    arrays = {name: pa.array(values, FILES.arrow.field(name).type) for name, values in columns.items()}
    return pa.table(filled(arrays, FILES.arrow, len(files)), schema=FILES.arrow)


def counts_of(files: Iterable[FileRead]) -> dict[str, int]:
    """How many files of each outcome a batch has met, for its metrics. Files that are read as usual are not counted."""
    files = list(files)
    counts = {
        "file_known_count": sum(f.outcome == KNOWN for f in files),
        "file_changed_count": sum(f.outcome == CHANGED for f in files),
        "file_without_records_count": sum(f.outcome == READ and not f.record_count for f in files),
        "known_record_count": sum(f.known_count for f in files),
    }
    return {name: count for name, count in counts.items() if count}


def _rows(lake: Lake, batch_id: int) -> ds.Dataset:
    if not lake.has(FILES):  # of an older format, and only read
        return ds.dataset(FILES.arrow.empty_table())
    rows = lake.open(FILES).to_pyarrow_dataset(schema=FILES.arrow)
    return rows.filter(pc.field("batch_id") <= batch_id)
