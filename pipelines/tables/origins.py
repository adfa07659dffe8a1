"""Which files and partitions published batches have read. From ops.batches: bronze.events may have been archived."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from conf.tables import BATCHES
from pipelines.tables.snapshot import Snapshot

Origin = tuple[str, str]


def published_origins(snapshot: Snapshot, sources: set[str], until: int | None = None) -> frozenset[Origin]:
    """(source, origin) of the records of `sources` that are published, in batches up to and including `until`."""
    rows = snapshot.arrow(BATCHES, ["batch_id", "kind", "inputs"])
    rows = rows.filter(pc.not_equal(rows["kind"], "rebuild"))  # has read what others had brought
    if until is not None:
        rows = rows.filter(pc.less_equal(rows["batch_id"], pa.scalar(until)))
    read = (i for text in rows["inputs"].to_pylist() if text for i in orjson.loads(text))
    return frozenset((i["source"], i["origin"]) for i in read if i["source"] in sources)
