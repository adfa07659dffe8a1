-- silver.device_ownership: one run of sessions at one anchor (a device, a cookie, …) that belong to one person.
-- From its first session to its last one, until a session of somebody else begins there.
-- Whose a session is follows from the policy; an unclaimed interval is nobody's by guess, and names nobody.
WITH owned AS (
  SELECT
    session.*,
    owner.canonical_id,
    lag(owner.canonical_id) OVER in_order AS canonical_id_before,
    row_number() OVER in_order AS place
  FROM silver.sessions_live AS session
  LEFT JOIN silver.identity_map_live AS owner
    ON owner.node_id = session.owner_node_id
  WINDOW in_order AS (
    PARTITION BY session.anchor_node_id ORDER BY session.start_at, session.start_event_id
  )
),
numbered AS (
  SELECT
    owned.*,
    sum(CASE WHEN canonical_id = canonical_id_before THEN 0 ELSE 1 END) OVER (
      PARTITION BY anchor_node_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS interval_number
  FROM owned
),
intervals AS (
  SELECT
    tenant,
    anchor_node_id,
    interval_number,
    canonical_id,
    coalesce(
      max(user_node_id),
      max(CASE WHEN owner_node_id > 0 AND owner_node_id <> anchor_node_id THEN owner_node_id END),
      min(owner_node_id)
    ) AS owner_node_id,
    min(start_at) AS owned_from_at,
    max(end_at) AS owned_to_at,
    count(*) AS session_count,
    sum(CASE WHEN is_anonymous THEN 1 ELSE 0 END) AS anonymous_session_count,
    min(owner_node_id) > 0 AS is_claimed
  FROM numbered
  GROUP BY tenant, anchor_node_id, interval_number, canonical_id
)
SELECT
  intervals.tenant,
  intervals.anchor_node_id,
  anchor.namespace AS anchor_namespace,  -- the anchor's kind of identifier
  anchor.is_shared AS is_anchor_shared,  -- whether it is seen with more persons than one may have
  CAST(intervals.interval_number AS bigint) AS interval_number,  -- 1 is the anchor's first owner
  intervals.owner_node_id,  -- who claimed it: her user, else another identifier of hers; else the anchor; negative: nobody
  intervals.canonical_id,
  intervals.owned_from_at,  -- start of the first session
  intervals.owned_to_at,  -- end of the last session
  CAST(intervals.session_count AS bigint) AS session_count,  -- sessions in the interval
  CAST(intervals.anonymous_session_count AS bigint) AS anonymous_session_count,  -- of them without a user
  intervals.is_claimed AS is_claimed  -- false: nobody's by guess
FROM intervals
LEFT JOIN silver.identity_map_live AS anchor
  ON anchor.node_id = intervals.anchor_node_id
