"""What the texts in an event's fields mean."""

from __future__ import annotations

DEFAULT_TENANT = "default"
MAX_ID_LENGTH = 512  # characters of an event's id, and of a tenant


def tenant_of(text: str | None) -> str | None:
    """The tenant that a text names, the default one where there is none; None for a text that is too long."""
    if text is None:
        return DEFAULT_TENANT
    return None if len(text) > MAX_ID_LENGTH else text.strip() or DEFAULT_TENANT


def is_usable_id(text: str) -> bool:
    """Whether a text is an event's id as it is: neither blank nor too long."""
    return 0 < len(text) <= MAX_ID_LENGTH and not text.isspace()


def lowered(text: str | None) -> str | None:
    """A type or platform as it is compared: in lower case, without space around it; None for nothing."""
    return None if text is None else text.strip().lower() or None
