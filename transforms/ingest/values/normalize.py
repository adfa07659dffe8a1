"""One spelling per identifier value, and whether the value may count at all."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import phonenumbers

from conf.blocked import blocklist
from conf.email_providers import email_providers
from conf.policy import Namespace, Policy
from transforms.ingest.values.visible_text import visible
from transforms.ingest.values.written_number import is_written_number, whole_number

BLOCKED = "blocked_identifier"
OVERSIZED = "oversized_identifier"
WRONG_TYPE = "wrong_type_identifier"
MALFORMED = "malformed_identifier"
UNKNOWN = "unknown_namespace"

Usable = tuple[str | None, str | None]

_REPLACED = "\ufffd"  # where something was that somebody could not read: two values may be one by now
# No mark of an address list, a link or a quotation is part of an address.
_EMAIL = re.compile(r"[^@\s<>()\[\],;:\"\\]++@[^@\s<>()\[\],;:\"'\\/?.]++(?:\.[^@\s<>()\[\],;:\"'\\/?.]++)++")
_IN_BRACKETS = re.compile(r"[^<>]*<([^<>]*)>[\s,;.]*")
_AROUND_EMAIL = " \t\r\n,;'\"=<>"
_AROUND_PHONE = " \t\r\n,;'\"="  # ="0049…" and '+49… mark text in spreadsheets
_GROUPED = re.compile(r"(\+?[0-9]{1,3}(?:,[0-9]{3})+|\+?[0-9]+)[.,]0{1,2}")
_SCHEME = re.compile(r"^[a-z]+:")  # tel:, whatsapp:, …
_EXPONENT = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?e[+-]?[0-9]+")  # in whose digits others would be read
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_EVM_ADDRESS = re.compile(r"(?:[a-z0-9\-]+:)*0x[0-9a-f]{40}")
_BECH32 = re.compile(r"[a-z]{1,10}1[02-9ac-hj-np-z]{6,}")


class Normalizer:
    """The policy's reading of raw values. It remembers none: its caller keeps the nodes that they become."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._blocked = {n.name: blocklist((*policy.blocked, *n.blocked), n.name) for n in policy.namespaces}
        # One by one and not joined: a pattern may carry flags or references of its own.
        self._patterns = {
            name: tuple(re.compile(p) for p in blocked.patterns) for name, blocked in self._blocked.items()
        }

    def usable(self, value: Any, namespace: str) -> Usable:
        """(normalised value, None), or (None, the flag that says why it cannot count); (None, None) for no
        value."""
        if value is None:
            return None, None
        kind = type(value)
        if kind is not str and kind is not int and kind is not float and kind is not Decimal:
            return None, WRONG_TYPE
        if namespace not in self._blocked:
            return None, UNKNOWN
        return self._judge(value, namespace)

    def _judge(self, value: str | int | float | Decimal, name: str) -> Usable:
        namespace = self.policy.by_name[name]
        text = value if isinstance(value, str) else number_text(value)
        if text is None:
            return None, WRONG_TYPE
        text = visible(text)
        if len(text) > self.policy.max_value_length:
            return None, OVERSIZED
        if self._is_blocked(text, name):
            return None, BLOCKED
        if _REPLACED in text:
            return None, MALFORMED
        normalised = self._normalised(text, namespace)
        if normalised is None:
            return None, MALFORMED
        if len(normalised) > self.policy.max_value_length:
            return None, OVERSIZED
        is_blocked = normalised != text and self._is_blocked(normalised, name)
        return (None, BLOCKED) if is_blocked else (normalised, None)

    def _is_blocked(self, text: str, name: str) -> bool:
        blocked = self._blocked[name]
        if not text or text in blocked.exact or text.lower() in blocked.lower:
            return True  # nothing is no identifier, whatever a policy's lists say
        for pattern in self._patterns[name]:  # noqa: SIM110 (a generator takes three times as long)
            if pattern.search(text):
                return True
        return False

    def _normalised(self, text: str, namespace: Namespace) -> str | None:
        if namespace.normalize == "phone":
            return phone(text, namespace.phone_region or self.policy.default_phone_region)
        if namespace.normalize == "email":
            address = email(text)
            return mailbox(address) if address and namespace.email_providers else address
        if is_written_number(text):
            whole = whole_number(text)
            return None if whole is None else _NORMALIZERS[namespace.normalize](whole)
        return _NORMALIZERS[namespace.normalize](text)


_normalizers: dict[int, Normalizer] = {}


def usable(value: Any, namespace: str, policy: Policy) -> Usable:
    """See Normalizer.usable; remembers one normaliser, that of the policy asked for last."""
    known = _normalizers.get(id(policy))
    if known is None or known.policy is not policy:
        _normalizers.clear()
        known = _normalizers[id(policy)] = Normalizer(policy)
    return known.usable(value, namespace)


def number_text(value: int | float | Decimal) -> str | None:
    """The number's shortest decimal text: 123, 123.0 and 1.23e2 are all "123". None for what is no number."""
    if isinstance(value, int):
        return str(value) if value.bit_length() < 10_000 else "9" * 4000
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = Decimal(repr(value))
    if not value.is_finite():
        return None
    if abs(value.adjusted()) > 4000:  # 1e999999 is short to write and long to spell out
        return "9" * 4000
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def opaque(text: str) -> str | None:
    """The text as it is."""
    return text


def email(text: str) -> str | None:
    """Without regard to case or width, nor to what a link, an address list or a spreadsheet puts around it; None for
    what cannot be an address."""
    text = unicodedata.normalize("NFKC", text).strip().lower()
    named = _IN_BRACKETS.fullmatch(text)
    text = (named[1] if named else text).strip(_AROUND_EMAIL).removeprefix("mailto:")
    text = text.strip(_AROUND_EMAIL).removesuffix(".")
    return text if _EMAIL.fullmatch(text) else None


def mailbox(address: str) -> str:
    """The address as its provider reads it: without the dots and labels that it ignores."""
    local, _, domain = address.rpartition("@")
    provider = email_providers().get(domain)
    if provider is None:
        return address
    name = local.split(provider.tag, 1)[0] if provider.tag else local
    if provider.ignores_dots:
        name = name.replace(".", "")
    return f"{name or local}@{provider.canonical}"


def phone(text: str, region: str | None) -> str | None:
    """E.164. Without a default region only what is written as a whole international number has one."""
    text = unicodedata.normalize("NFKC", text).lower().strip(_AROUND_PHONE)
    text = _SCHEME.sub("", text).strip()
    if is_written_number(text):
        whole = whole_number(text)
        if whole is None:
            return None
        text = whole
    elif grouped := _GROUPED.fullmatch(text):
        text = grouped[1]
    elif _EXPONENT.fullmatch(text):
        return None
    digits = "".join([str(unicodedata.decimal(c)) for c in text if c.isdecimal()])
    if text.startswith("00"):
        text, digits = "+" + text[2:], digits[2:]
    is_international = text.startswith("+")
    # Ten digits may be a number of any country; eleven that do not start with 0 carry their country code.
    is_whole = (8 if is_international else 11) <= len(digits) <= 15 and digits[0] != "0"
    is_whole = is_whole and not any(c.isalpha() for c in text)  # an extension's digits are not the number's
    spellings = [text] if is_international or region else []
    for spelling in [*spellings, "+" + digits] if is_whole else spellings:
        try:
            number = phonenumbers.parse(spelling, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_possible_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return "+" + digits if is_whole else None


def hexadecimal(text: str) -> str | None:
    """Lower case, without `0x`."""
    return text.lower().removeprefix("0x")


def uuid(text: str) -> str | None:
    """Lower case, and hyphens in their places where the 32 digits of a uuid are written without."""
    text = text.lower().removeprefix("urn:uuid:").strip("{}")
    if _HEX_32.fullmatch(text):
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return text


def wallet(text: str) -> str | None:
    """Addresses that are read without regard to case (0x…, with or without a chain in front, and bech32) in lower
    case. Others, base58 for one, differ by case and stay as they are."""
    lower = text.lower()
    if _EVM_ADDRESS.fullmatch(lower):
        return lower
    # Bech32 is written in one case throughout; in mixed case it is something else.
    return lower if text in (lower, text.upper()) and _BECH32.fullmatch(lower) else text


_NORMALIZERS: dict[str, Callable[[str], str | None]] = {
    "opaque": opaque,
    "hex": hexadecimal,
    "uuid": uuid,
    "wallet": wallet,
}
