-- Who has logged in at least once and used mobile?
SELECT tenant, canonical_id, login_count, first_login_at, session_count, platforms, last_seen_at
FROM gold.profiles_live
WHERE login_count >= 1
  AND has_used_mobile
ORDER BY tenant, canonical_id
