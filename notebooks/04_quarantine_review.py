# Databricks notebook source
# MAGIC %md
# MAGIC # What was refused, and why
# MAGIC
# MAGIC A refused record is kept with its bytes, its origin and the reasons. This notebook shows payloads, which hold
# MAGIC personal data: run it where you may see them.

# COMMAND ----------

dbutils.widgets.text("lake", "lake", "Folder of the lake")

# COMMAND ----------

from pathlib import Path

from pipelines.runtime.session import build_session
from pipelines.lake.lake import Lake
from pipelines.lake.views import register_spark

spark = build_session("stitchlake quarantine review")
register_spark(spark, Lake(Path(dbutils.widgets.get("lake"))))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Is every record accounted for?
# MAGIC No row here is the right answer.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT batch_id, received_count, valid_count, quarantined_count, duplicate_count
# MAGIC FROM ops.batches
# MAGIC WHERE received_count <> valid_count + quarantined_count + duplicate_count
# MAGIC ORDER BY batch_id

# COMMAND ----------

# MAGIC %md
# MAGIC ## How many, of which kind, from where

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT reason, mapping, count(*) AS records, min(received_at) AS first_received_at, max(received_at) AS last_received_at
# MAGIC FROM (SELECT explode(reasons) AS reason, mapping, received_at FROM silver.quarantine)
# MAGIC GROUP BY reason, mapping
# MAGIC ORDER BY records DESC, reason, mapping

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT origin, count(*) AS records, min(origin_ordinal) AS first_record, max(origin_ordinal) AS last_record
# MAGIC FROM silver.quarantine
# MAGIC GROUP BY origin
# MAGIC ORDER BY records DESC, origin
# MAGIC LIMIT 10

# COMMAND ----------

# MAGIC %md
# MAGIC ## One record of each kind, as it came

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT reason, origin, origin_ordinal, left(make_valid_utf8(CAST(payload AS STRING)), 300) AS payload
# MAGIC FROM (
# MAGIC   SELECT reason, origin, origin_ordinal, payload,
# MAGIC          row_number() OVER (PARTITION BY reason ORDER BY origin, origin_ordinal) AS place
# MAGIC   FROM (SELECT explode(reasons) AS reason, origin, origin_ordinal, payload FROM silver.quarantine)
# MAGIC )
# MAGIC WHERE place = 1
# MAGIC ORDER BY reason

# COMMAND ----------

# MAGIC %md
# MAGIC ## Valid, and still worth a look
# MAGIC Identifiers that were left out of linking: blocked, oversized, of a wrong type or of an unknown namespace.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT flag, count(*) AS events
# MAGIC FROM (SELECT explode(flags) AS flag FROM silver.events)
# MAGIC GROUP BY flag
# MAGIC ORDER BY events DESC, flag
