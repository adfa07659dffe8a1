"""Writes Parquet files of a table, describes them for the Delta log, and reads which batches they hold."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.transaction import AddAction, RemoveAction

from conf.table_spec import TableSpec, one_each
from pipelines.lake.fence import OWN_COMMIT

ROWS_PER_GROUP, BYTES_PER_GROUP = 32_768, 64 * 2**20
OWN = CommitProperties(custom_metadata=OWN_COMMIT)  # what changes files and is no transaction of a batch


def file_sizes(table: DeltaTable) -> dict[str, int]:
    """The table's files: path in the log, size in bytes."""
    return {f["path"]: f["size_bytes"] for f in pa.table(table.get_add_actions()).to_pylist()}


def files_with_more(table: DeltaTable, column: str, than: int) -> list[str]:
    """Paths inside the table of the files that may have rows in which `column`, an integer, is greater than that.

    By the log's statistics, as every engine skips files. delta-rs makes a dataset of all files first, at two
    milliseconds each.
    """
    files = pa.table(table.get_add_actions(flatten=True))
    largest = f"max.{column}"
    if largest in files.column_names:
        files = files.filter(pc.fill_null(pc.greater(files[largest], than), True))
    return [unquote(path) for path in files["path"].to_pylist()]


def write_files(
    folder: Path, spec: TableSpec, parts: Iterable[pa.Table], rows_per_file: int | None = None
) -> list[Path]:
    """Parquet files of `parts`, none of which is empty; on failure none is left."""
    files: list[Path] = []
    try:
        with ExitStack() as open_file:
            writer: pq.ParquetWriter | None = None
            count = 0
            for part in parts:
                if not part.num_rows:
                    continue
                if writer is None or (rows_per_file is not None and count >= rows_per_file):
                    open_file.close()
                    files.append(folder / f"part-{uuid.uuid4()}.zstd.parquet")
                    # A writer that opens the file itself keeps it open where the disk is full.
                    sink = open_file.enter_context(pa.OSFile(str(files[-1]), "wb"))
                    writer = open_file.enter_context(_writer(sink, spec))
                    count = 0
                writer.write_table(part.cast(spec.arrow))
                count += part.num_rows
    except BaseException:
        remove_files(files)
        raise
    return files


def _writer(sink: pa.NativeFile, spec: TableSpec) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink, spec.arrow, compression="zstd", compression_level=1, use_dictionary=_with_dictionary(spec)
    )


@cache
def _with_dictionary(spec: TableSpec) -> list[str]:
    """The columns in a file, nested ones by their paths, of which values repeat."""
    return [
        path
        for field in spec.arrow
        if field.name not in spec.unlike
        for path, name, type_ in _leaves(field.name, field.name, field.type)
        if path == name or not one_each(name, type_)
    ]


def _leaves(path: str, name: str, type_: pa.DataType) -> Iterator[tuple[str, str, pa.DataType]]:
    """(path, name, type) of what a column consists of; elements of a list of `node_ids` are named `node_id`."""
    if pa.types.is_list(type_):
        yield from _leaves(f"{path}.list.element", name.removesuffix("s"), type_.value_type)
    elif pa.types.is_map(type_):
        yield from _leaves(f"{path}.key_value.key", "key", type_.key_type)
        yield from _leaves(f"{path}.key_value.value", "value", type_.item_type)
    elif pa.types.is_struct(type_):
        for field in type_:
            yield from _leaves(f"{path}.{field.name}", field.name, field.type)
    else:
        yield path, name, type_


def remove_files(files: Iterable[Path]) -> None:
    """Delete these files; missing ones are no error."""
    for file in files:
        file.unlink(missing_ok=True)


def row_groups(parts: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """`parts` put together until they make a row group worth its footer."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for part in parts:
        waiting.append(part)
        rows, size = rows + part.num_rows, size + part.nbytes
        if rows >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def exchange(
    table: DeltaTable,
    added: Iterable[AddAction],
    removed: Mapping[str, int],
    *,
    data_change: bool,
    after_commit: PostCommitHookProperties | None = None,
    partition_by: tuple[str, ...] = (),
    commit: CommitProperties = OWN,
) -> None:
    """One commit of our own: `added` in, `removed` (path and size; of a table without partitions) out."""
    at = int(time.time() * 1000)
    table.create_write_transaction(
        [
            *added,
            *(RemoveAction(path, data_change, at, size, {}) for path, size in removed.items()),
        ],
        "append",
        table.schema(),
        list(partition_by),
        commit_properties=commit,
        post_commithook_properties=after_commit,
    )


def add_action(
    spec: TableSpec,
    file: Path,
    data_change: bool,
    path: str | None = None,
    partition: dict[str, str | None] | None = None,
) -> AddAction:
    """What the log says of a file; `path` is its place in the table where that is not its name."""
    size, at = file.stat().st_size, int(time.time() * 1000)
    return AddAction(path or file.name, size, partition or {}, at, data_change, statistics(spec, file))


def statistics(spec: TableSpec, file: Path) -> str:
    """A file's row count, and the smallest and largest value of every column that may have statistics.

    All of them: where a column that has statistics in one file has no bounds in another, delta-rs compares with null
    when a reader filters by it, and that file's rows are not found.
    """
    footer = pq.read_metadata(file)
    indexed = set(spec.properties["delta.dataSkippingStatsColumns"].split(","))
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for at in range(footer.num_columns):
        name = footer.schema.column(at).path
        if name not in indexed:
            continue
        parts = [footer.row_group(g).column(at).statistics for g in range(footer.num_row_groups)]
        if all(s is not None and s.has_null_count and (s.has_min_max or not s.num_values) for s in parts):
            nulls[name] = sum(s.null_count for s in parts)
            known = [s for s in parts if s.has_min_max]
            bounds = min((s.min for s in known), default=None), max((s.max for s in known), default=None)
        else:  # values of kilobytes have no bounds in a footer
            column = pq.read_table(file, columns=[name])[name]
            nulls[name], found = column.null_count, pc.min_max(column)
            bounds = found["min"].as_py(), found["max"].as_py()
        if bounds[0] is not None:
            low[name], high[name] = map(_json_value, bounds)
    return json.dumps(
        {"numRecords": footer.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )


def batches_in(file: Path, column: str) -> tuple[int, int]:
    """The first and last batch with rows in a file, from its footer: the log's statistics end at the 32nd leaf."""
    footer = pq.read_metadata(file)
    at = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == column)
    parts = [footer.row_group(g).column(at).statistics for g in range(footer.num_row_groups)]
    if any(part is None or not part.has_min_max for part in parts):
        numbers = pq.read_table(file, columns=[column])[column]
        return pc.min(numbers).as_py(), pc.max(numbers).as_py()
    return min(part.min for part in parts), max(part.max for part in parts)


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value.isoformat() if isinstance(value, date) else value
