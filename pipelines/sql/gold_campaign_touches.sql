-- gold.campaign_touches: one session that a campaign or a referrer led to, with its first touch.
-- touch_number 1 is a person's first touch, touch_number = touch_count the last session's: attribution is a WHERE.
SELECT
  session.tenant,
  owner.canonical_id,
  session.session_id,
  session.first_touch.at AS touch_at,  -- when the touch happened
  row_number() OVER (
    PARTITION BY owner.canonical_id ORDER BY session.first_touch.at, session.first_touch.event_id, session.session_id
  ) AS touch_number,  -- 1 is the person's first touch
  count(*) OVER (PARTITION BY owner.canonical_id) AS touch_count,  -- how many touches the person has
  session.first_touch.source AS touch_source,  -- campaign source
  session.first_touch.medium AS touch_medium,  -- campaign medium
  session.first_touch.campaign AS touch_campaign,  -- campaign name
  session.first_touch.referrer AS touch_referrer,  -- referring page
  session.is_anonymous AS is_anonymous_session,  -- nobody was logged in during that session
  profile.first_login_at,
  coalesce(session.first_touch.at < profile.first_login_at, false)
    AS is_before_first_login,  -- a touch on the way to the first login
  session.event_count
FROM silver.sessions_live AS session
LEFT JOIN silver.identity_map_live AS owner
  ON owner.node_id = session.owner_node_id
LEFT JOIN gold.profiles_live AS profile
  ON profile.canonical_id = owner.canonical_id
WHERE session.first_touch.event_id IS NOT NULL
