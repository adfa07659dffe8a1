# Databricks notebook source
# MAGIC %md
# MAGIC # Why are these identifiers one person?
# MAGIC
# MAGIC Two identifiers in one event are evidence. Here is all of it for one person: what was seen together, how often
# MAGIC and since when, what was refused, and what changed hands. Without a `person` the one with the most identifiers is
# MAGIC taken. This notebook shows identifiers: run it where you may see them.

# COMMAND ----------

dbutils.widgets.text("lake", "lake", "Folder of the lake")
dbutils.widgets.text("person", "", "A canonical id")

# COMMAND ----------

from pathlib import Path

from pipelines.runtime.session import build_session
from pipelines.lake.lake import Lake
from pipelines.lake.views import register_spark

spark = build_session("stitchlake why one person")
register_spark(spark, Lake(Path(dbutils.widgets.get("lake"))))

# COMMAND ----------

largest = spark.sql("""
    SELECT canonical_id FROM gold.person_identifiers GROUP BY canonical_id ORDER BY count(*) DESC, canonical_id LIMIT 1
""")
person = int(dbutils.widgets.get("person") or largest.first()[0])
print(f"person {person}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Whose identifiers
# MAGIC A shared one was seen with several people; it is here because its evidence is strongest here.

# COMMAND ----------

display(spark.sql("""
    SELECT i.namespace, i.value, m.is_shared, m.since_at
    FROM silver.identity_map_live m JOIN silver.identifiers i ON i.node_id = m.node_id
    WHERE m.canonical_id = :person
    ORDER BY i.namespace, i.value
""", args={"person": person}))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The evidence that ties them together, in the order of time

# COMMAND ----------

display(spark.sql("""
    SELECT l.namespace || ':' || l.value AS one, r.namespace || ':' || r.value AS other, e.kind, e.evidence_count,
           e.first_seen_at, e.last_seen_at
    FROM silver.identity_edges_live e
    JOIN silver.identity_map_live a ON a.node_id = e.left_node_id
    JOIN silver.identity_map_live b ON b.node_id = e.right_node_id
    JOIN silver.identifiers l ON l.node_id = e.left_node_id
    JOIN silver.identifiers r ON r.node_id = e.right_node_id
    WHERE a.canonical_id = :person AND b.canonical_id = :person
    ORDER BY e.first_seen_at, one, other
""", args={"person": person}))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Seen together, and still not one person
# MAGIC Pairs that reach out of this person: the identifier on one side is shared or a hub, or joining them would break a
# MAGIC limit of the policy.

# COMMAND ----------

display(spark.sql("""
    SELECT l.namespace AS one, r.namespace AS other, e.evidence_count,
           coalesce(x.reason, CASE WHEN a.is_hub OR b.is_hub THEN 'hub' ELSE 'shared_identifier' END) AS reason
    FROM silver.identity_edges_live e
    JOIN silver.identity_map_live a ON a.node_id = e.left_node_id
    JOIN silver.identity_map_live b ON b.node_id = e.right_node_id
    JOIN silver.identifiers l ON l.node_id = e.left_node_id
    JOIN silver.identifiers r ON r.node_id = e.right_node_id
    LEFT JOIN silver.rejected_edges_live x
      ON x.left_node_id = e.left_node_id AND x.right_node_id = e.right_node_id
    WHERE a.canonical_id <> b.canonical_id AND :person IN (a.canonical_id, b.canonical_id)
    ORDER BY e.evidence_count DESC, one, other
""", args={"person": person}))

# COMMAND ----------

# MAGIC %md
# MAGIC ## What changed hands, and when

# COMMAND ----------

display(spark.sql("""
    SELECT g.batch_id, g.logged_at, g.cause, i.namespace, g.from_canonical_id, g.to_canonical_id
    FROM silver.identity_log g JOIN silver.identifiers i ON i.node_id = g.node_id
    WHERE :person IN (g.from_canonical_id, g.to_canonical_id)
    ORDER BY g.batch_id, g.cause, i.namespace, g.node_id
""", args={"person": person}))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The shortest chain of evidence between two of her identifiers
# MAGIC The same that `stitchlake explain A B` says; for identifiers of two persons it says what keeps them apart.

# COMMAND ----------

from conf.policy import load_policy
from pipelines.apps.cli.explain import pair_text
from pipelines.operations.decisions.explanation import explain_pair
from pipelines.apps.results import connect

names = [
    f"{row.namespace}:{row.value}"
    for row in spark.sql("""
        SELECT i.namespace, i.value FROM silver.identity_map_live m JOIN silver.identifiers i ON i.node_id = m.node_id
        WHERE m.canonical_id = :person ORDER BY i.namespace, i.value
    """, args={"person": person}).collect()
]
with connect(Path(dbutils.widgets.get("lake"))) as db:
    print(pair_text(explain_pair(db, names[0], names[-1], load_policy(), None)))
