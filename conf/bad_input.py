"""The codes of bad input: the reasons for refusing an event, and the flags of an event that is accepted.

docs/dirty-input.md shows these tables; a test holds page, tables and rules together.
"""

from __future__ import annotations

# Reason code → what it means, and the way out.
REASONS: dict[str, tuple[str, str]] = {
    "malformed_json": (
        "the bytes are no JSON: cut off, a control character in a text, NaN or Infinity, more than 1,024 levels",
        "repair the sender; replay",
    ),
    "malformed_csv": (
        "quoting that never closes, or more or fewer fields than the header has",
        "repair the export; land it again",
    ),
    "invalid_utf8": ("the bytes are in another encoding, or broken", "send UTF-8"),
    "not_an_object": ("JSON, but a list, a text, a number or null", "one object a record, or an array in a .json file"),
    "record_too_large": ("more bytes than `max_record_bytes` (16 MiB)", "raise the setting, or send less; replay"),
    "unreadable_file": (
        "the file, or its rest, cannot be read: damaged gzip or Parquet, an array without its end, an unknown "
        "extension, CSV whose header is too long to be carried by every record; its first 16 MiB are kept",
        "land it again, whole",
    ),
    "tombstone": ("a topic's record without a value", "nothing is deleted by one"),
    "no_timestamp": ("no time, or none that can be read", "map a field that has one, or repair the sender; replay"),
    "timestamp_out_of_range": ("the time is before 1990 or after 2100", "repair the sender's clock; replay"),
    "no_identifier": (
        "no identifier that counts: none, or all of them blocked, malformed, weak or unknown",
        "map one, or change the policy; replay",
    ),
    "too_many_identifiers": (
        "more than 50 linking identifiers, or more than 1,000 values in one list of identifiers or actors",
        "send one person's identifiers",
    ),
    "unusable_tenant": ("the tenant is no text or number, or longer than 512 characters", "repair the sender; replay"),
    "too_many_tenants": (
        "a tenant that is new to a lake that has `max_tenants` (100,000) already",
        "raise the setting, or repair the sender; replay",
    ),
    "identifier_collision": (
        "an identifier whose node id, a hash of 63 bits, is that of another one, which was published first: to be "
        "expected once in a lake of billions of identifiers, and the sender is not to blame",
        "send the event again without that identifier",
    ),
    "no_events": ("an envelope without a list of events, or with an empty one", "nothing is lost; repair the sender"),
    "too_many_events": ("an envelope of more than 10,000 events", "send smaller envelopes"),
    "envelope_too_large": (
        "what surrounds an envelope's events, once for each event, is more than four times `max_record_bytes`",
        "send smaller envelopes",
    ),
    "conflicting_duplicate": ("an event with this id and other content is there already", "the first one is kept"),
    "unusable_decision": ("a record of the control feed that decides nothing", "see docs/decisions.md"),
    "unparseable": ("an error that the program has no reason for", "please report it; replay after an update"),
}  # fmt: skip

# Flag → what it means for the event, which is kept.
FLAGS: dict[str, str] = {
    "assumed_utc": "the time has no offset, and is taken as UTC",
    "unusable_timestamp": "cannot be read, or is out of range: the mapping's next choice of a time is used",
    "replaced_character": "half of a surrogate pair, as of a cut emoji, which UTF-8 cannot hold: replaced by U+FFFD",
    "blocked_identifier": "a value that means that there is none (`null`, `anonymous`, zeros…): left out of linking",
    "malformed_identifier": "a value that does not have the form of its namespace (an e-mail without @), or has lost "
    "digits (`4.477E+11`) or characters (U+FFFD): left out",
    "oversized_identifier": "a value of more than 512 characters: left out",
    "wrong_type_identifier": "an object, a boolean or a list in a list instead of a value: left out",
    "unknown_namespace": "a namespace that the policy does not know: kept in `silver.identifiers`, does not link",
    "oversized_event_id": "more than 512 characters: a hash of it is the id",
    "wrong_type_event_id": "no text or number: kept in `properties`; the event is known by its origin",
    "wrong_type_event_type": "no text or number: kept in `properties`",
    "wrong_type_event_name": "no text or number: kept in `properties`",
    "wrong_type_platform": "no text or number: kept in `properties`",
    "wrong_type_actor": "no object: left out",
    "unusable_received_at": "cannot be read: the transport's time is used",
}


def explained(code: str) -> tuple[str, str]:
    """What a reason means, and the way out; one that another version of the program wrote has no words here."""
    return REASONS.get(code, ("a reason that this version does not know", "replay, and see"))


def pages_tables() -> str:
    """Both tables as the page has them, in Markdown."""
    lines = ["| reason | is given for | way out |", "|---|---|---|"]
    lines += [f"| `{code}` | {meaning} | {way_out} |" for code, (meaning, way_out) in REASONS.items()]
    lines += ["", "| flag | means |", "|---|---|"]
    lines += [f"| `{code}` | {meaning} |" for code, meaning in FLAGS.items()]
    return "\n".join(lines)
