-- gold.person_sessions: one session and the person it belongs to today.
-- Numbered per person in the order of time, so "what happened in the first three sessions" is a WHERE.
SELECT
  session.tenant,
  owner.canonical_id,
  session.session_id,
  row_number() OVER (PARTITION BY owner.canonical_id ORDER BY session.start_at, session.session_id)
    AS session_number,  -- 1 is the person's first session
  session.start_at,
  session.end_at,
  CAST(86400 * extract(DAY FROM session.end_at - session.start_at)
       + 3600 * extract(HOUR FROM session.end_at - session.start_at)
       + 60 * extract(MINUTE FROM session.end_at - session.start_at)
       + floor(extract(SECOND FROM session.end_at - session.start_at)) AS BIGINT)
    AS duration_seconds,  -- whole seconds from the first event to the last
  session.is_anonymous,
  coalesce(session.is_anonymous AND session.start_at < profile.first_login_at, false)
    AS is_anonymous_before_first_login,  -- part of the way to the first login
  session.event_count,
  session.login_event_count,
  session.platforms,
  session.first_touch.source AS touch_source,  -- campaign source of the session's first touch
  session.first_touch.medium AS touch_medium,  -- campaign medium of the session's first touch
  session.first_touch.campaign AS touch_campaign,  -- campaign of the session's first touch
  session.first_touch.referrer AS touch_referrer,  -- referrer of the session's first touch
  session.is_ended_by_logout,
  session.anchor_node_id,
  session.owner_node_id
FROM silver.sessions_live AS session
LEFT JOIN silver.identity_map_live AS owner
  ON owner.node_id = session.owner_node_id
LEFT JOIN gold.profiles_live AS profile
  ON profile.canonical_id = owner.canonical_id
