-- gold.events: one valid event, its session and the person it belongs to today.
-- The owner is looked up and not stored, so an anonymous history is the person's as soon as she logs in.
-- A session of one anchor begins and ends with an event: (event_at, event_id) orders events of the same instant.
SELECT
  event.tenant,
  owner.canonical_id,
  session.session_id,
  event.event_id,
  event.event_type,
  event.event_name,
  event.event_at,
  event.event_date,
  event.platform,
  event.is_authenticated,
  session.is_anonymous AS is_anonymous_session,  -- nobody was logged in during that session
  event.touch_source,
  event.touch_medium,
  event.touch_campaign,
  event.touch_referrer,
  event.properties,
  event.context,
  event.flags,
  event.source,
  event.received_at,
  event.anchor_node_id,
  session.owner_node_id,
  event.batch_id
FROM silver.events AS event
LEFT JOIN silver.sessions_live AS session
  ON session.anchor_node_id = event.anchor_node_id
  AND (event.event_at > session.start_at
       OR (event.event_at = session.start_at AND event.event_id >= session.start_event_id))
  AND (event.event_at < session.end_at
       OR (event.event_at = session.end_at AND event.event_id <= session.end_event_id))
LEFT JOIN silver.identity_map_live AS owner
  ON owner.node_id = session.owner_node_id
WHERE event.batch_id <= (SELECT coalesce(max(batch_id), -1) FROM ops.batches)
