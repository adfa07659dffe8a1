# Databricks notebook source
# MAGIC %md
# MAGIC # Look a person up
# MAGIC
# MAGIC By canonical id, or by an identifier such as `email:ada@example.com`, in any usual spelling. Retired ids lead to
# MAGIC their successor. The command line has the same: `stitchlake profile ID`.

# COMMAND ----------

dbutils.widgets.text("lake", "lake", "Folder of the lake")
dbutils.widgets.text("id", "", "Canonical id, or namespace:value")
dbutils.widgets.text("tenant", "", "Tenant, where several have the value")

# COMMAND ----------

from pathlib import Path

from conf.policy import load_policy
from pipelines.apps.cli.profile import as_text
from pipelines.lake.person import find_person, person
from pipelines.apps.results import connect

db = connect(Path(dbutils.widgets.get("lake")))

# COMMAND ----------

# MAGIC %md
# MAGIC Without an id: somebody who is known by name and has been here most often.

# COMMAND ----------

somebody = db.execute("""
    SELECT canonical_id FROM gold.profiles_live WHERE is_identified ORDER BY session_count DESC, canonical_id LIMIT 1
""").fetchone()
asked = dbutils.widgets.get("id") or str(somebody[0])
found = find_person(db, load_policy(), asked, dbutils.widgets.get("tenant") or None)
print(as_text(person(db, found)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Her way here
# MAGIC Every session with what brought it about, anonymous ones before the first login included.

# COMMAND ----------

way = db.execute("""
    SELECT session_number, start_at, duration_seconds, is_anonymous, event_count, touch_source, touch_campaign
    FROM gold.person_sessions WHERE canonical_id = ? ORDER BY session_number
""", [found.canonical_id])
display(way.df())
