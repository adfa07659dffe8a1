-- Databricks notebook source
-- MAGIC %md
-- MAGIC # Cohorts in plain SQL
-- MAGIC
-- MAGIC One profile per person makes a cohort a `WHERE`. The tables and views are those of the last published batch.

-- COMMAND ----------

-- MAGIC %python
-- MAGIC from pathlib import Path
-- MAGIC
-- MAGIC from pipelines.runtime.session import build_session
-- MAGIC from pipelines.lake.lake import Lake
-- MAGIC from pipelines.lake.views import register_spark
-- MAGIC
-- MAGIC dbutils.widgets.text("lake", "lake", "Folder of the lake")
-- MAGIC spark = build_session("stitchlake cohorts")
-- MAGIC register_spark(spark, Lake(Path(dbutils.widgets.get("lake"))))

-- COMMAND ----------

-- MAGIC %md
-- MAGIC ## Logged in at least once and used mobile

-- COMMAND ----------

SELECT tenant, canonical_id, login_count, first_login_at, session_count, platforms, last_seen_at
FROM gold.profiles_live
WHERE login_count >= 1
  AND has_used_mobile
ORDER BY session_count DESC, canonical_id

-- COMMAND ----------

-- MAGIC %md
-- MAGIC ## Three anonymous sessions or more, then logged in

-- COMMAND ----------

SELECT tenant, canonical_id, anonymous_session_count_before_first_login, first_seen_at, first_login_at, login_count
FROM gold.profiles_live
WHERE anonymous_session_count_before_first_login >= 3
  AND first_login_at IS NOT NULL
ORDER BY anonymous_session_count_before_first_login DESC, canonical_id

-- COMMAND ----------

-- MAGIC %md
-- MAGIC ## Which campaigns bring people who log in later?

-- COMMAND ----------

SELECT touch_source, touch_campaign, count(DISTINCT canonical_id) AS persons,
       count(DISTINCT CASE WHEN is_before_first_login THEN canonical_id END) AS logged_in_later
FROM gold.campaign_touches
WHERE touch_campaign IS NOT NULL
GROUP BY touch_source, touch_campaign
ORDER BY logged_in_later DESC, touch_source, touch_campaign

-- COMMAND ----------

-- MAGIC %md
-- MAGIC ## How many sessions does it take until the first login?

-- COMMAND ----------

SELECT sessions_before, count(*) AS persons
FROM (
  SELECT canonical_id, count(CASE WHEN is_anonymous_before_first_login THEN 1 END) AS sessions_before
  FROM gold.person_sessions
  WHERE canonical_id IN (SELECT canonical_id FROM gold.profiles_live WHERE first_login_at IS NOT NULL)
  GROUP BY canonical_id
)
GROUP BY sessions_before
ORDER BY sessions_before

-- COMMAND ----------

-- MAGIC %md
-- MAGIC ## The last days, by platform

-- COMMAND ----------

SELECT activity_date, platform, person_count, session_count, event_count
FROM gold.daily_activity
ORDER BY activity_date DESC, platform
LIMIT 20
