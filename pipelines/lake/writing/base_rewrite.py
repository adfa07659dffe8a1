"""Replaces rows of a base table by rewriting only the files that hold them, in one commit of delta-rs.

MERGE of delta-rs reads every column of every file. Here the keys are read first, which takes a hundredth of that:

    keys of all files ──► files that hold a replaced key ──► rewritten without it ─┐
    newest hot rows that are not in the base yet ──────────────────────────────────┴──► one commit: + new, - old files
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties

from conf.table_spec import DELETED, TableSpec
from pipelines.lake.live_rows import UPDATED, newest_places, same_keys
from pipelines.lake.writing.data_files import (
    add_action,
    exchange,
    file_sizes,
    remove_files,
    write_files,
)
from pipelines.lake.writing.writer import conform
from transforms.arrays.grouped import flags

ROWS_PER_FILE = 100_000  # small enough that recent rows, which change most, lie in few files
ROWS_PER_READ = 32_768


def fold_into_base(
    folder: Path, table: DeltaTable, spec: TableSpec, hot: pa.Table, after_commit: PostCommitHookProperties
) -> None:
    """Commit the newest rows of `hot` into the base at `folder`; nothing if the base has them all."""
    if not hot.num_rows:
        return
    place = newest_places(spec, hot)
    newest = hot.select([*spec.key, UPDATED, DELETED]).take(pa.array(place))
    dataset = table.to_pyarrow_dataset()
    fragments = list(dataset.get_fragments())
    is_settled = np.zeros(newest.num_rows, bool)  # the base's row is as new already
    same: list[tuple[np.ndarray, np.ndarray]] = []
    for fragment in fragments:
        held = fragment.to_table(schema=dataset.schema, columns=[*spec.key, UPDATED], use_threads=False)
        mine, theirs = same_keys(held, newest, spec.key)
        is_newer = held[UPDATED].to_numpy()[mine] < newest[UPDATED].to_numpy()[theirs]
        is_settled[theirs[~is_newer]] = True
        same.append((mine, theirs))
    replaced = [mine[~is_settled[theirs]] for mine, theirs in same]
    touched = [(fragment, rows) for fragment, rows in zip(fragments, replaced, strict=True) if len(rows)]
    is_added = ~is_settled & ~flags(newest[DELETED])
    added = conform(spec, hot.select(spec.names).take(pa.array(place[is_added])))
    if not touched and not added.num_rows:
        return

    def rows() -> Iterator[pa.Table]:
        for fragment, gone in touched:
            batches = fragment.to_batches(
                schema=dataset.schema, columns=list(spec.names), batch_size=ROWS_PER_READ, use_threads=False
            )
            yield from _without_rows(batches, gone)
        yield added

    written = write_files(folder, spec, rows(), ROWS_PER_FILE)
    sizes = file_sizes(table)
    try:
        exchange(
            table,
            [add_action(spec, f, True) for f in written],
            {name: sizes[name] for name in (Path(f.path).name for f, _ in touched)},
            data_change=True,
            after_commit=after_commit,
        )
    except BaseException:
        remove_files(written)
        raise


def _without_rows(batches: Iterable[pa.RecordBatch], gone: np.ndarray) -> Iterator[pa.Table]:
    """The rows of a file, batch by batch, but for those with the numbers `gone`."""
    first = 0
    for batch in batches:
        here = gone[(gone >= first) & (gone < first + batch.num_rows)] - first
        first += batch.num_rows
        stays = np.ones(batch.num_rows, bool)
        stays[here] = False
        yield pa.Table.from_batches([batch.filter(pa.array(stays)) if len(here) else batch])
