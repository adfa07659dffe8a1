"""Deletes what an abandoned attempt wrote: rows of batches that were never published."""

from __future__ import annotations

from deltalake import CommitProperties, DeltaTable

from conf.tables import ALL
from pipelines.lake.fence import OWN_COMMIT, TAKES_BACK
from pipelines.lake.lake import Lake


def discard_unpublished(lake: Lake, last_published: int, app_id: str) -> None:
    """Delete every row of batches after `last_published`. Only for attempts whose checkpoint is not continued.

    `app_id`: the application that has begun that batch. The deleting commits name it, which explains the transactions
    that it left in the tables' logs. A table that was declared since the attempt may be missing; it has no such row.
    """
    taking_back = CommitProperties(custom_metadata={**OWN_COMMIT, TAKES_BACK: app_id})
    for spec in ALL:
        physical = spec.hot if spec.write == "upsert" else spec
        if not lake.has(physical):
            continue
        column = "updated_batch_id" if spec.write == "upsert" else "batch_id"
        DeltaTable(str(lake.table_path(physical))).delete(
            f"{column} > {last_published}", commit_properties=taking_back
        )
