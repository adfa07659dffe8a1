"""A script for the same backlog without identity: parse, take each event once, write one Delta table.

`python -m benchmarks.baselines.duckdb_script LANDING TABLE` reads every file of native events in a folder with DuckDB.
It claims one thing: every event id of the files is in the table once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
from deltalake import write_deltalake

# Times come as ISO 8601 and as seconds, milliseconds, microseconds or nanoseconds since 1970.
EVENTS = """
WITH landed AS (
    SELECT *, TRY_CAST("timestamp" AS DOUBLE) AS epoch
    FROM read_json($files, format = 'newline_delimited', filename = true, columns = {
        event_id: 'VARCHAR', "timestamp": 'VARCHAR', event_type: 'VARCHAR', platform: 'VARCHAR', identifiers: 'JSON'})
    WHERE event_id IS NOT NULL
)
SELECT event_id, event_type, platform, identifiers,
       CASE WHEN epoch IS NULL THEN TRY_CAST("timestamp" AS TIMESTAMPTZ)
            ELSE to_timestamp(epoch / CASE WHEN epoch > 1e17 THEN 1e9 WHEN epoch > 1e14 THEN 1e6
                                           WHEN epoch > 1e11 THEN 1e3 ELSE 1 END) END AS event_at
FROM landed
QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY filename) = 1
"""


def ingest(landing: Path, table: Path) -> None:
    with duckdb.connect() as db:
        rows = db.sql(EVENTS, params={"files": str(landing / "*.jsonl")}).to_arrow_reader(100_000)
        write_deltalake(str(table), rows)


if __name__ == "__main__":
    ingest(Path(sys.argv[1]), Path(sys.argv[2]))
