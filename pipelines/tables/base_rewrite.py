"""Replaces rows of a base table by rewriting only the files that hold them, in one commit of delta-rs.

MERGE of delta-rs reads every column of every file. Here the keys are read first, which takes a hundredth of that:

    keys of all files ──► files that hold a replaced key ──► rewritten without it ─┐
    newest hot rows that are not in the base yet ──────────────────────────────────┴──► one commit: + new, - old files
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties

from conf.table_spec import TableSpec
from pipelines.tables.data_files import (
    add_action,
    exchange,
    file_sizes,
    remove_files,
    write_files,
)
from pipelines.tables.live_rows import UPDATED, same_keys, upserts, without_keys_of
from pipelines.tables.writer import conform

ROWS_PER_FILE = 100_000  # small enough that recent rows, which change most, lie in few files
ROWS_PER_READ = 32_768


def fold_into_base(
    folder: Path, table: DeltaTable, spec: TableSpec, newest: pa.Table, after_commit: PostCommitHookProperties
) -> None:
    """Commit `newest` (one hot row per key) into the base at `folder`; nothing if the base has it all."""
    if not newest.num_rows:
        return
    dataset = table.to_pyarrow_dataset()
    fragments = list(dataset.get_fragments())
    is_settled = np.zeros(newest.num_rows, bool)  # the base's row is as new already
    touched_by: list[np.ndarray] = []
    for fragment in fragments:
        held = fragment.to_table(schema=dataset.schema, columns=[*spec.key, UPDATED])
        mine, theirs = same_keys(held, newest, spec.key)
        is_newer = held[UPDATED].to_numpy()[mine] < newest[UPDATED].to_numpy()[theirs]
        is_settled[theirs[~is_newer]] = True
        touched_by.append(theirs[is_newer])
    pending = newest.filter(pa.array(~is_settled))
    touched = [f for f, rows in zip(fragments, touched_by, strict=True) if (~is_settled[rows]).any()]
    added = conform(spec, upserts(pending).select(spec.names))
    if not touched and not added.num_rows:
        return

    def rows() -> Iterator[pa.Table]:
        for fragment in touched:
            batches = fragment.to_batches(
                schema=dataset.schema, columns=list(spec.names), batch_size=ROWS_PER_READ, use_threads=False
            )
            yield from without_keys_of(spec, batches, pending)
        yield added

    written = write_files(folder, spec, rows(), ROWS_PER_FILE)
    sizes = file_sizes(table)
    try:
        exchange(
            table,
            [add_action(spec, f, True) for f in written],
            {name: sizes[name] for name in (Path(f.path).name for f in touched)},
            data_change=True,
            after_commit=after_commit,
        )
    except BaseException:
        remove_files(written)
        raise
