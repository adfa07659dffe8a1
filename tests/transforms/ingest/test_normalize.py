"""One spelling per identifier, and what can be none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from conf.policy import policy_from_dict
from transforms.ingest.values.normalize import BLOCKED, MALFORMED, OVERSIZED, UNKNOWN, WRONG_TYPE, usable

POLICY = policy_from_dict(
    {
        "namespaces": {
            "user_id": {
                "strength": "unique",
                "blocked_values": ["Admin"],
                "blocked_patterns": ["(?i)^test-"],
            },
            "email": {"strength": "strong", "normalize": "email"},
            "phone": {"strength": "strong", "normalize": "phone"},
            "mac": {"strength": "device", "normalize": "hex"},
            "idfa": {"strength": "device", "normalize": "uuid"},
            "wallet": {"strength": "strong", "normalize": "wallet"},
            "mailbox": {"strength": "strong", "normalize": {"kind": "email", "providers": True}},
            "mobile": {"strength": "strong", "normalize": {"kind": "phone", "region": "DE"}},
        }
    }
)


@pytest.mark.parametrize(
    ("namespace", "value", "normalised"),
    [
        ("user_id", "  Ab 1 ", "Ab 1"),
        ("user_id", 123, "123"),
        ("user_id", 123.0, "123"),
        ("user_id", 1e3, "1000"),
        ("user_id", 1e22, "10000000000000000000000"),
        ("user_id", 0.5, "0.5"),
        ("user_id", 1e-7, "0.0000001"),
        ("user_id", -5, "-5"),
        ("user_id", Decimal("117829361234567890123"), "117829361234567890123"),
        ("user_id", 117829361234567890123, "117829361234567890123"),
        ("email", " Ann.Smith@EXAMPLE.com ", "ann.smith@example.com"),
        ("email", "ａｎｎ@example.com", "ann@example.com"),
        ("phone", "+49 (170) 123-4567", "+491701234567"),
        ("phone", "+49 (0)170 1234567", "+491701234567"),
        ("phone", "0049 170 1234567", "+491701234567"),
        ("phone", "tel:+1-415-555-2671", "+14155552671"),
        ("phone", "491701234567", "+491701234567"),
        ("phone", 491701234567, "+491701234567"),
        ("mac", " 0xAB12 ", "ab12"),
        ("idfa", "6D92078A8246BA4AE5B2B4E1A1D8F0C3", "6d92078a-8246-ba4a-e5b2-b4e1a1d8f0c3"),
        ("idfa", "6D92078A-8246-BA4A-E5B2-B4E1A1D8F0C3", "6d92078a-8246-ba4a-e5b2-b4e1a1d8f0c3"),
        ("wallet", "0xAB" + "Cd" * 19, "0xab" + "cd" * 19),
        ("wallet", "eip155:1:0xAB" + "Cd" * 19, "eip155:1:0xab" + "cd" * 19),
        ("wallet", "0xABC123", "0xABC123"),  # too short for an address: an opaque id
        (
            "wallet",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        ),
        ("wallet", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
        ("mailbox", "A.nn.Smith+news@GoogleMail.com", "annsmith@gmail.com"),
        ("mailbox", "ann.smith+news@outlook.com", "ann.smith@outlook.com"),
        ("mailbox", "ann.smith+news@example.org", "ann.smith+news@example.org"),
        ("mailbox", "+news@gmail.com", "+news@gmail.com"),  # nothing would be left
        ("mobile", "0170 1234567", "+491701234567"),
    ],
)
def test_values_are_brought_to_one_spelling(namespace, value, normalised):
    assert usable(value, namespace, POLICY) == (normalised, None)


def test_the_policys_region_completes_national_phone_numbers():
    german = policy_from_dict(
        {"namespaces": {"phone": {"strength": "unique", "normalize": "phone"}}, "default_phone_region": "DE"}
    )
    assert usable("0170 1234567", "phone", german) == ("+491701234567", None)
    assert usable("0170 1234567", "phone", POLICY) == (None, MALFORMED)


@pytest.mark.parametrize(
    ("namespace", "value", "flag"),
    [
        ("user_id", " ANONYMOUS ", BLOCKED),
        ("user_id", "NULL", BLOCKED),
        ("user_id", "", BLOCKED),
        ("user_id", 0, BLOCKED),
        ("user_id", -1, BLOCKED),
        ("user_id", "admin", BLOCKED),
        ("user_id", "TEST-7", BLOCKED),
        ("idfa", "00000000-0000-0000-0000-000000000000", BLOCKED),
        ("idfa", "f" * 32, BLOCKED),  # blocked in its normalised spelling
        ("mac", "0x00", BLOCKED),
        ("user_id", "x" * 513, OVERSIZED),
        ("user_id", "x" * 5000, OVERSIZED),
        ("user_id", 10**600, OVERSIZED),
        ("user_id", Decimal("1e999999"), OVERSIZED),
        ("user_id", True, WRONG_TYPE),
        ("user_id", {"id": "1"}, WRONG_TYPE),
        ("user_id", ["1"], WRONG_TYPE),
        ("user_id", float("nan"), WRONG_TYPE),
        ("user_id", float("inf"), WRONG_TYPE),
        ("email", "ann", MALFORMED),
        ("email", "ann@localhost", MALFORMED),
        ("email", "a b@example.com", MALFORMED),
        ("phone", "call me", MALFORMED),
        ("phone", "12", MALFORMED),
        ("agent_id", "x", UNKNOWN),
    ],
)
def test_values_that_cannot_count_say_why(namespace, value, flag):
    assert usable(value, namespace, POLICY) == (None, flag)


def test_no_value_is_no_value_and_no_flag():
    assert usable(None, "user_id", POLICY) == (None, None)


def test_an_answer_for_a_number_is_not_given_to_a_boolean():
    assert usable(1, "user_id", POLICY) == ("1", None)
    assert usable(True, "user_id", POLICY) == (None, WRONG_TYPE)
