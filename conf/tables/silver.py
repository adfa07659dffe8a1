"""Silver: valid events, refused records, sessions."""

from conf.table_spec import Check, ColumnSpec, TableSpec
from conf.tables import columns as c

TOUCH = "struct<at:timestamp,event_id:string,source:string,medium:string,campaign:string,referrer:string>"
SPAN = (
    "struct<user_node_id:long,start_at:timestamp,start_event_id:string,end_at:timestamp,end_event_id:string,"
    "event_count:long,login_event_count:long,first_authenticated_at:timestamp,last_login_event_at:timestamp,"
    f"is_ended_by_logout:boolean,platforms:array<string>,first_touch:{TOUCH},last_touch:{TOUCH}>"
)

QUARANTINE = TableSpec(
    "silver",
    "quarantine",
    "one refused event with reasons and its origin, replayable after a fix; a record that holds no readable event is "
    "one itself",
    (
        c.TENANT,
        ColumnSpec("reasons", "array<string>", "why it was refused: reason codes"),
        ColumnSpec("event_id", "string", "the event's id, where one could be read", personal=True),
        c.SOURCE,
        ColumnSpec("mapping", "string", "the source mapping that read the record", "provenance"),
        c.ORIGIN,
        c.ORIGIN_ORDINAL,
        c.RECORD_POSITION,
        ColumnSpec(
            "payload_format",
            "string",
            "how the payload is to be read: as in bronze.events, or `element`: one event of an envelope of several, "
            "as JSON; the envelope's own bytes are in bronze.events",
            accepted=("json", "csv", "unreadable", "tombstone", "element"),
        ),
        ColumnSpec("payload", "binary", "the record's bytes, or the element", personal=True, identifies=True),
        c.RECEIVED_AT,
        c.BATCH_ID,
    ),
    ("source", "origin", "origin_ordinal", "record_position"),
    "append",
    checks=(Check("has_reasons", "whatever is refused has a reason", "reasons IS NOT NULL"),),
    made_from=("bronze.events", "bronze.corrections"),
)

EVENTS = TableSpec(
    "silver",
    "events",
    "one valid event, the first of its (tenant, event_id)",
    (
        c.TENANT,
        ColumnSpec(
            "event_id",
            "string",
            "unique in its tenant; made from the origin where the record has none",
            nullable=False,
        ),
        ColumnSpec(
            "event_key", "long", "hash of (tenant, event_id), for look-ups: the upper 64 bits", nullable=False
        ),
        ColumnSpec(
            "content_digest",
            "long",
            "64-bit hash of the record's content, to tell a duplicate from a conflict",
        ),
        ColumnSpec("event_type", "string", "what happened: page_view, login, logout, identify, purchase, …"),
        ColumnSpec("event_name", "string", "the source's own name for it"),
        ColumnSpec("event_at", "timestamp", "when it happened, UTC", nullable=False),
        ColumnSpec("event_date", "date", "the UTC date of event_at", nullable=False),
        c.RECEIVED_AT,
        ColumnSpec("platform", "string", "web, mobile, desktop, support_chat, ai_agent, server, …"),
        ColumnSpec(
            "is_authenticated", "boolean", "carries an identifier of a unique namespace as its subject"
        ),
        ColumnSpec("user_node_id", "long", "the unique identifier that authenticates it, if any"),
        ColumnSpec("anchor_node_id", "long", "the node whose run of activity it belongs to", nullable=False),
        ColumnSpec(
            "node_ids",
            "array<long>",
            "the subject's linking identifiers, best priority first; then weak ones that attach",
        ),
        ColumnSpec(
            "weak_node_ids",
            "array<long>",
            "the subject's identifiers that are recorded only: weak ones, then those of namespaces that the policy "
            "does not know, 50 at most",
        ),
        ColumnSpec("actor_node_ids", "array<long>", "who acted for the subject; recorded, never link"),
        ColumnSpec("touch_source", "string", "campaign source, its first 256 characters"),
        ColumnSpec("touch_medium", "string", "campaign medium, its first 256 characters"),
        ColumnSpec("touch_campaign", "string", "campaign name, its first 256 characters"),
        ColumnSpec("touch_referrer", "string", "referring page, its first 1,024 characters", personal=True),
        ColumnSpec(
            "claims",
            "array<struct<namespace:string,node_id:long>>",
            "what it names apart from its user that could be one person's own: strong identifiers, best first; under a "
            "policy with several unique namespaces its unique ones too, one of each; none if there are none",
        ),
        ColumnSpec("flags", "array<string>", "what was left out of linking, and why"),
        ColumnSpec(
            "properties", "string", "the event's free properties and unknown fields, as JSON", personal=True
        ),
        ColumnSpec(
            "context", "string", "the event's context without the network address, as JSON", personal=True
        ),
        c.SOURCE,
        c.ORIGIN,
        c.ORIGIN_ORDINAL,
        c.RECORD_POSITION,
        c.BATCH_ID,
        ColumnSpec(
            "event_key_low",
            "long",
            "its lower 64 bits; null in rows older than this column, which event_key alone tells apart",
            "provenance",
        ),
    ),
    ("tenant", "event_id"),
    "append",
    checks=(
        Check(
            "date_is_of_the_instant",
            "event_date is the UTC date of event_at",
            "event_date = CAST(event_at AS DATE)",
        ),
        Check(
            "instant_is_usable",
            "event_at lies between 1990 and 2100",
            "event_date BETWEEN DATE '1990-01-01' AND DATE '2100-01-01'",
        ),
        Check(
            "authenticated_by_a_user",
            "an event is authenticated exactly if a user's identifier is on it",
            "is_authenticated = (user_node_id IS NOT NULL)",
        ),
    ),
    made_from=("bronze.events", "bronze.corrections"),
)

SESSIONS = TableSpec(
    "silver",
    "sessions",
    "one session: a bounded run of activity at one anchor",
    (
        c.TENANT,
        ColumnSpec("session_id", "long", "hash of the anchor and the first event", nullable=False),
        ColumnSpec("anchor_node_id", "long", "the node the session runs at", nullable=False),
        ColumnSpec("start_at", "timestamp", "first event", nullable=False),
        ColumnSpec("end_at", "timestamp", "last event", nullable=False),
        ColumnSpec("start_event_id", "string", "first event's id (order inside one instant)"),
        ColumnSpec("end_event_id", "string", "last event's id (order inside one instant)"),
        ColumnSpec("user_node_id", "long", "the user of its authenticated events, if any"),
        ColumnSpec(
            "owner_node_id",
            "long",
            "whose it is: its claimant (its user, else the best of its claims that is not shared), its anchor, the "
            "anchor's first claimant, or (negative) the anchor's unclaimed node",
            nullable=False,
        ),
        ColumnSpec("is_anonymous", "boolean", "no event in it is authenticated"),
        ColumnSpec("event_count", "long", "events"),
        ColumnSpec("login_event_count", "long", "events of type login that carry a user"),
        ColumnSpec("first_authenticated_at", "timestamp", "first authenticated event"),
        ColumnSpec("last_login_event_at", "timestamp", "last login event"),
        ColumnSpec("is_ended_by_logout", "boolean", "its last event is a logout"),
        ColumnSpec("platforms", "array<string>", "platforms used, sorted"),
        ColumnSpec("first_touch", TOUCH, "first event with a campaign or referrer", personal=True),
        ColumnSpec("last_touch", TOUCH, "last event with a campaign or referrer", personal=True),
        ColumnSpec(
            "spans",
            f"array<{SPAN}>",
            "the session's parts, each from an event that names something new to the next such event: an anonymous "
            "beginning, and the rest, for example; none where the session is all one part",
            personal=True,
        ),
        ColumnSpec(
            "claims",
            "array<struct<span:long,namespace:string,node_id:long>>",
            "what the first event of each of its parts (0 is the first) claims: see silver.events; nothing else is "
            "claimed in it",
        ),
        c.UPDATED_BATCH_ID,
    ),
    ("session_id",),
    "upsert",
    checks=(
        Check("starts_before_its_end", "no session ends before it starts", "start_at <= end_at"),
        Check("has_an_event", "a session has at least one event", "event_count >= 1"),
        Check(
            "anonymous_without_a_user",
            "a session is anonymous exactly if it has no user",
            "is_anonymous = (user_node_id IS NULL)",
        ),
        Check(
            "logins_are_events",
            "no more logins than events",
            "login_event_count <= event_count",
        ),
    ),
    made_from=("silver.events", "silver.identity_decisions"),
)
