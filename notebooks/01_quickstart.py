# Databricks notebook source
# MAGIC %md
# MAGIC # Quickstart: from raw events to one profile per person
# MAGIC
# MAGIC Generates a small world of people with several devices, streams its events into a lake and looks at the result.
# MAGIC Point `landing` at a folder of your own events instead, and nothing is generated.

# COMMAND ----------

dbutils.widgets.text("lake", "lake", "Folder of the lake")
dbutils.widgets.text("landing", "landing", "Folder with events")
dbutils.widgets.text("source", "native", "Source mapping of the events")
dbutils.widgets.text("persons", "200", "People to generate")
dbutils.widgets.text("events", "2000", "Events to generate")
dbutils.widgets.text("env", "laptop", "Settings: laptop or cluster")

# COMMAND ----------

from pathlib import Path

from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.generator import generate
from pipelines.runtime.session import build_session
from pipelines.stream.source import parse_source
from pipelines.apps.run_stream import run_stream
from pipelines.lake.lake import Lake
from pipelines.lake.views import register_spark

lake = Path(dbutils.widgets.get("lake"))
landing = Path(dbutils.widgets.get("landing"))
settings = load_settings(dbutils.widgets.get("env"))
spark = build_session("stitchlake quickstart", settings.master)  # the session that is here, with UTC

# COMMAND ----------

if not landing.exists():
    world = generate(int(dbutils.widgets.get("persons")), int(dbutils.widgets.get("events")), 1, landing)
    print(f"{world.records:,} events of {world.persons:,} people, {world.anonymous_share:.0%} of them anonymous")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Stream everything that is there
# MAGIC `once=True` publishes what the folder holds and ends. Run the cell again: what is known already is not read twice.

# COMMAND ----------

source = parse_source(f"{dbutils.widgets.get('source')}:{landing}")
result = run_stream(spark, lake, [source], load_policy(), settings, once=True)
print(f"{result.received_count:,} records in {result.batch_count} batches")

# COMMAND ----------

published = register_spark(spark, Lake(lake))
print(f"the tables show batch {published.batch_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What it found
# MAGIC Nothing is lost: received = valid + quarantined + duplicate.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT sum(received_count) AS received, sum(valid_count) AS valid, sum(quarantined_count) AS quarantined,
# MAGIC        sum(duplicate_count) AS duplicate
# MAGIC FROM ops.batches

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT is_identified, count(*) AS persons, sum(session_count) AS sessions, sum(event_count) AS events,
# MAGIC        round(avg(device_count + cookie_count), 2) AS devices_and_cookies_each
# MAGIC FROM gold.profiles_live
# MAGIC GROUP BY is_identified
# MAGIC ORDER BY is_identified DESC

# COMMAND ----------

# MAGIC %md
# MAGIC People who came anonymously first, and logged in later: those visits are theirs now.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT canonical_id, platforms, session_count, anonymous_session_count_before_first_login, login_count, last_seen_at
# MAGIC FROM gold.profiles_live
# MAGIC WHERE anonymous_session_count_before_first_login > 0
# MAGIC ORDER BY anonymous_session_count_before_first_login DESC, canonical_id
# MAGIC LIMIT 10
