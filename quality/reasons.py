"""Why a record is in quarantine, in words, and what to do about it: one entry per reason code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """`means`: what is wrong with the record. `way_out`: what makes it acceptable."""

    code: str
    means: str
    way_out: str


_CORRECT = "correct the payload: `quarantine replay --payloads FILE`"
_MAPPING = "let the mapping find it, then `quarantine replay`"

REASONS: dict[str, Reason] = {
    reason.code: reason
    for reason in (
        Reason("malformed_json", "the bytes are not JSON: cut off, or with a stray character", _CORRECT),
        Reason(
            "malformed_csv", "the line has other columns than its file's header, or broken quotes", _CORRECT
        ),
        Reason("invalid_utf8", "the bytes are not UTF-8; often they are Latin-1 or UTF-16", _CORRECT),
        Reason("not_an_object", "JSON, but a text, number or list where an object is wanted", _CORRECT),
        Reason(
            "record_too_large",
            "more bytes than the setting max_record_bytes",
            "raise max_record_bytes in the settings file, then `quarantine replay --env FILE`",
        ),
        Reason(
            "unreadable_file",
            "a file that is damaged or of no known kind; from its first bad record on it is one row here",
            "land the repaired file under another name; what was read of the old one stays",
        ),
        Reason(
            "tombstone",
            "a key without a value: a topic's way to say that something is deleted",
            "nothing to replay; erase the person if that is meant",
        ),
        Reason(
            "no_events",
            "the mapping explodes a list of events, and here it is empty or no list",
            f"{_MAPPING}, or {_CORRECT}",
        ),
        Reason("too_many_events", "an envelope of more than 10,000 events", "send smaller envelopes"),
        Reason("no_timestamp", "no time is found, or none that can be read", f"{_MAPPING}, or {_CORRECT}"),
        Reason(
            "timestamp_out_of_range",
            "a time before 1990 or after 2100: a wrong unit, or a clock that was never set",
            f"{_MAPPING}, or {_CORRECT}",
        ),
        Reason(
            "no_identifier",
            "no identifier that may link: none is there, or all are junk, weak or of unknown kinds",
            f"{_MAPPING}; under another policy: `stitchlake rebuild`",
        ),
        Reason(
            "too_many_identifiers",
            "more than 50 identifiers that link: a list of people, not a person",
            f"{_MAPPING}, or {_CORRECT}",
        ),
        Reason(
            "unusable_tenant",
            "the tenant is no text or number, or too long to be one",
            f"{_MAPPING}, or {_CORRECT}",
        ),
        Reason(
            "unparseable",
            "the record could not be read for another reason, such as nesting beyond all measure",
            f"{_CORRECT}, or replay with a newer version of the program",
        ),
        Reason(
            "conflicting_duplicate",
            "another event of the same id was published first, and says something else",
            f"nothing if the first one is right; if both are events, give this one its own id: {_CORRECT}",
        ),
        Reason(
            "unusable_decision",
            "a record of the control feed that says no decision, or names an identifier that cannot link",
            "take the decision anew; decisions are not replayed",
        ),
    )
}


def explained(code: str) -> Reason:
    """The reason of a code; one that another version of the program wrote has no words here."""
    return REASONS.get(code, Reason(code, "a reason that this version does not know", "replay it and see"))
