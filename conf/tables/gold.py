"""Gold: one profile per person, ready for cohorts."""

from conf.table_spec import Check, ColumnSpec, TableSpec
from conf.tables import columns as c

PLATFORM_FLAGS = ("web", "mobile", "desktop", "support_chat", "ai_agent")

PROFILES = TableSpec(
    "gold",
    "profiles",
    "one person: what we believe of one canonical id",
    (
        c.TENANT,
        c.CANONICAL_ID,
        ColumnSpec("is_identified", "boolean", "owns an identifier of a unique namespace"),
        ColumnSpec("platforms", "array<string>", "platforms used, sorted"),
        *(
            ColumnSpec(f"has_used_{p}", "boolean", f"used {p.replace('_', ' ')} at least once")
            for p in PLATFORM_FLAGS
        ),
        ColumnSpec("session_count", "long", "sessions"),
        ColumnSpec("anonymous_session_count", "long", "sessions without any authenticated event"),
        ColumnSpec(
            "anonymous_session_count_before_first_login",
            "long",
            "anonymous sessions that start before first_login_at; 0 for who never logged in",
        ),
        ColumnSpec("authenticated_session_count", "long", "sessions with an authenticated event"),
        ColumnSpec("login_count", "long", "login events, and 1 per authenticated session without one"),
        ColumnSpec("event_count", "long", "events"),
        ColumnSpec("first_seen_at", "timestamp", "first event"),
        ColumnSpec("last_seen_at", "timestamp", "last event"),
        ColumnSpec("first_login_at", "timestamp", "first authenticated event"),
        ColumnSpec(
            "last_login_at",
            "timestamp",
            "last login event, or first authenticated event of a later session without one",
        ),
        ColumnSpec("device_count", "long", "device_id identifiers"),
        ColumnSpec("cookie_count", "long", "cookie_id identifiers"),
        ColumnSpec("identifier_counts", "map<string,long>", "identifiers per namespace"),
        ColumnSpec("first_touch_source", "string", "campaign source of the first touch"),
        ColumnSpec("first_touch_medium", "string", "campaign medium of the first touch"),
        ColumnSpec("first_touch_campaign", "string", "campaign of the first touch"),
        ColumnSpec("first_touch_referrer", "string", "referrer of the first touch", personal=True),
        ColumnSpec("last_touch_source", "string", "campaign source of the last touch"),
        ColumnSpec("last_touch_medium", "string", "campaign medium of the last touch"),
        ColumnSpec("last_touch_campaign", "string", "campaign of the last touch"),
        ColumnSpec("last_touch_referrer", "string", "referrer of the last touch", personal=True),
        c.UPDATED_BATCH_ID,
    ),
    ("canonical_id",),
    "upsert",
    checks=(
        Check("canonical_id_is_minted", "a canonical id is above 0", "canonical_id > 0"),
        Check(
            "sessions_add_up",
            "every session is anonymous or authenticated",
            "session_count = anonymous_session_count + authenticated_session_count",
        ),
        Check(
            "anonymous_before_login_is_a_part",
            "the anonymous sessions before the first login are among the anonymous ones",
            "anonymous_session_count_before_first_login <= anonymous_session_count",
        ),
        Check("seen_in_order", "nobody is last seen before the first time", "first_seen_at <= last_seen_at"),
        Check("logged_in_in_order", "no last login is before the first", "first_login_at <= last_login_at"),
        Check("first_login_is_seen", "nobody logs in before being seen", "first_seen_at <= first_login_at"),
    ),
    made_from=("silver.sessions", "silver.identity_map"),
)
