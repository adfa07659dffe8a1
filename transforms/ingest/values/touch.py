"""The touch of an event: campaign and referrer, from the fields where trackers put them."""

from __future__ import annotations

from typing import Any

Touch = tuple[str | None, str | None, str | None, str | None]

_IN_PROPERTIES = frozenset(("utm_source", "utm_medium", "utm_campaign", "referrer"))
_IN_CONTEXT = _IN_PROPERTIES | {"campaign", "page"}
# Characters that are kept; what is longer is cut. Sessions hold their first and last touch, in the driver too.
MAX_LENGTH, MAX_REFERRER_LENGTH = 256, 1024
NO_TOUCH: Touch = (None, None, None, None)


def may_have_touch(part: dict[str, Any], is_context: bool) -> bool:
    """Whether an event's properties, or its context, may say what led here."""
    return not (_IN_CONTEXT if is_context else _IN_PROPERTIES).isdisjoint(part)


def touch(properties: dict[str, Any], context: dict[str, Any]) -> Touch:
    """(source, medium, campaign, referrer); what is no text is nothing.

    context.campaign first, then utm_* of the properties, then of the context; a campaign that is a text is
    its name. The referrer of context.page, of the context, of the properties. No part is longer than its limit.
    """
    if not may_have_touch(properties, is_context=False) and not may_have_touch(context, is_context=True):
        return NO_TOUCH
    campaign = context.get("campaign")
    if isinstance(campaign, str):
        campaign = {"name": campaign}
    elif not isinstance(campaign, dict):
        campaign = {}
    page = context.get("page")
    return (
        _text(campaign.get("source"))
        or _text(properties.get("utm_source"))
        or _text(context.get("utm_source")),
        _text(campaign.get("medium"))
        or _text(properties.get("utm_medium"))
        or _text(context.get("utm_medium")),
        _text(campaign.get("name"))
        or _text(properties.get("utm_campaign"))
        or _text(context.get("utm_campaign")),
        (_text(page.get("referrer"), MAX_REFERRER_LENGTH) if isinstance(page, dict) else None)
        or _text(context.get("referrer"), MAX_REFERRER_LENGTH)
        or _text(properties.get("referrer"), MAX_REFERRER_LENGTH),
    )


def _text(value: Any, limit: int = MAX_LENGTH) -> str | None:
    return (value.strip()[:limit].rstrip() or None) if isinstance(value, str) else None
