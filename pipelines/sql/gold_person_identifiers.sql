-- gold.person_identifiers: one identifier of a person, without its value.
-- The value is in silver.identifiers alone, which is restricted: join it by node_id where you may.
SELECT
  owner.tenant,
  owner.canonical_id,
  owner.namespace,
  owner.node_id,
  owner.is_shared,
  owner.is_hub,
  coalesce(owner.canonical_id <> owner.first_canonical_id, false)
    AS has_moved,  -- it was another person's at first, by that person's first id
  owner.since_at
FROM silver.identity_map_live AS owner
WHERE owner.node_id > 0
