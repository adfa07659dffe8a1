-- $view: the rows of $base as of the last published batch, one row per key.
-- Hot rows replace the base's rows of the same key; tombstones take them out. The hot part is named before the base:
-- compaction writes the base first, so whoever reads in this order misses nothing that moves between the two.
WITH published AS (
  SELECT coalesce(max(batch_id), -1) AS batch_id FROM $batches
),
newest AS (
  SELECT * FROM (
    SELECT hot.*, row_number() OVER (PARTITION BY $key ORDER BY hot.updated_batch_id DESC) AS newest_first
    FROM $hot AS hot
    WHERE hot.updated_batch_id <= (SELECT batch_id FROM published)
  ) AS ranked
  WHERE newest_first = 1
)
SELECT $columns FROM newest WHERE NOT coalesce(is_deleted, false)
UNION ALL
SELECT $columns FROM $base AS base
WHERE NOT EXISTS (SELECT 1 FROM newest WHERE $same_key)
