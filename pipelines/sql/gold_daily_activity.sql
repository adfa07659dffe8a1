-- gold.daily_activity: one (tenant, UTC date, platform) with any activity.
-- Persons are counted once in each row, as they are known today; do not add them up over days or platforms.
SELECT
  event.tenant,
  event.event_date AS activity_date,  -- the UTC date
  coalesce(event.platform, 'unknown') AS platform,  -- the platform, `unknown` where events name none
  count(DISTINCT event.canonical_id) AS person_count,  -- persons with an event
  count(DISTINCT CASE WHEN event.is_authenticated THEN event.canonical_id END)
    AS authenticated_person_count,  -- persons with an authenticated event
  count(DISTINCT event.session_id) AS session_count,  -- sessions with an event
  count(*) AS event_count,  -- events
  count(CASE WHEN event.event_type = 'login' THEN 1 END) AS login_event_count  -- events of type login
FROM gold.events AS event
GROUP BY event.tenant, event.event_date, coalesce(event.platform, 'unknown')
