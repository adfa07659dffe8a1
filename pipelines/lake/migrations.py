"""Migrations: bring the rows of an older lake into the present format, one function per format.

Declared changes that add (a table, a nullable column, a comment) need nothing here: `Lake.create_missing` makes them,
and older rows read as null. A migration is for rows that would mean something else, or nothing, to the new program.

Each is repeated after a kill, so it looks at what is there and does the rest, in one commit a table. Readers go on
seeing the published versions meanwhile; pipelines/operations/upgrade.py publishes the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
from deltalake import CommitProperties, Transaction

from conf.table_spec import TableSpec
from conf.tables import BATCHES, EVENTS, FILES, QUARANTINE, SESSIONS
from pipelines.lake.fence import OWN_COMMIT
from pipelines.lake.files_of_record import file_rows
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.topic_address import is_topic
from pipelines.lake.writing.delta_rs_writer import AFTER_COMMIT, DeltaRsWriter, parquet_of
from pipelines.lake.writing.writer import Txn
from transforms.ingest.framing.files_read import READ, FileRead


@dataclass(frozen=True)
class Migration:
    """`apply` brings every table from the format before `to_format`; it is given the declared columns already."""

    to_format: int
    name: str
    apply: Callable[[Lake], None]


def places_in_records(lake: Lake) -> None:
    """Format 2 tells a record from the events in it. Before, every record was one event, at place 0."""
    _fill(lake, 2, QUARANTINE, "record_position", "0")  # part of its key
    _fill(lake, 2, EVENTS, "record_position", "0")
    _fill(lake, 2, BATCHES, "record_count", "received_count")


def sessions_of_one_span(lake: Lake) -> None:
    """Format 3 keeps no spans of a session that is all one: they say what the session says. Before, it kept them."""
    for spec in (SESSIONS, SESSIONS.hot):
        _update(lake, 3, spec, "spans", "array_pop_front(spans)", "array_length(spans) = 1")


def files_by_name(lake: Lake) -> None:
    """Format 4 keeps files in ops.files. Before, a batch had their names in `inputs`, without size and digest: such a
    file is read again where it is met again, and its records are known by their bytes."""
    snapshot = published(lake)
    if snapshot is None or lake.open(FILES).to_pyarrow_dataset().count_rows():
        return
    batches = snapshot.arrow(BATCHES, ["batch_id", "kind", "inputs"])
    parts = [
        file_rows(
            [_file_of(entry) for entry in orjson.loads(inputs) if not is_topic(entry["source"])], batch_id
        )
        for batch_id, kind, inputs in zip(*(column.to_pylist() for column in batches.columns), strict=True)
        if inputs and kind in ("batch", "empty")
    ]
    rows = pa.concat_tables(parts) if parts else FILES.arrow.empty_table()
    if rows.num_rows:
        DeltaRsWriter(lake).append(FILES, rows, Txn("migration:4:files", 0))


def _file_of(entry: Mapping[str, Any]) -> FileRead:
    source, origin, first, last, count = (entry[n] for n in ("source", "origin", "first", "last", "records"))
    return FileRead(source, origin, origin, READ, None, None, first, last, count, 0)


def _fill(lake: Lake, to_format: int, spec: TableSpec, column: str, value: str) -> None:
    """Give `column` the SQL expression `value` where it has none."""
    _update(lake, to_format, spec, column, value, f"{column} IS NULL")


def _update(lake: Lake, to_format: int, spec: TableSpec, column: str, value: str, where: str) -> None:
    """Give `column` the SQL expression `value`. The commit says that it is this program's."""
    lake.open(spec).update(
        updates={column: value},
        predicate=where,
        writer_properties=parquet_of(spec),
        commit_properties=CommitProperties(
            custom_metadata=OWN_COMMIT,
            app_transactions=[Transaction(f"migration:{to_format}:{column}", 0)],
        ),
        post_commithook_properties=AFTER_COMMIT,
    )


IN_ORDER = (
    Migration(2, "places_in_records", places_in_records),
    Migration(3, "sessions_of_one_span", sessions_of_one_span),
    Migration(4, "files_by_name", files_by_name),
)
