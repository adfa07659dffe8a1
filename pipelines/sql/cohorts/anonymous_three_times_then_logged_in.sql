-- Who came at least three times without logging in, and then logged in?
SELECT tenant, canonical_id, anonymous_session_count_before_first_login, first_seen_at, first_login_at, login_count
FROM gold.profiles_live
WHERE anonymous_session_count_before_first_login >= 3
  AND first_login_at IS NOT NULL
ORDER BY tenant, canonical_id
