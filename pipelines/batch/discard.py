"""Take back what an abandoned attempt wrote: rows of batches that were never published."""

from __future__ import annotations

from deltalake import CommitProperties, DeltaTable

from conf.tables import ALL
from pipelines.tables.fence import OWN_COMMIT
from pipelines.tables.lake import Lake


def discard_unpublished(lake: Lake, last_published: int) -> None:
    """Delete every row of a batch after `last_published`. Only for attempts whose checkpoint is not continued."""
    for spec in ALL:
        physical = spec.hot if spec.write == "upsert" else spec
        column = "updated_batch_id" if spec.write == "upsert" else "batch_id"
        DeltaTable(str(lake.table_path(physical))).delete(
            f"{column} > {last_published}", commit_properties=CommitProperties(custom_metadata=OWN_COMMIT)
        )
