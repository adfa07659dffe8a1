"""What led a person here: campaign and referrer, from where trackers put them."""

from __future__ import annotations

from typing import Any

Touch = tuple[str | None, str | None, str | None, str | None]

_IN_PROPERTIES = frozenset(("utm_source", "utm_medium", "utm_campaign", "referrer"))
_IN_CONTEXT = _IN_PROPERTIES | {"campaign", "page"}
_NOTHING: Touch = (None, None, None, None)


def touch(properties: dict[str, Any], context: dict[str, Any]) -> Touch:
    """(source, medium, campaign, referrer); what is no text is nothing.

    context.campaign first, then utm_* of the properties, then of the context; a campaign that is a text is
    its name. The referrer of context.page, of the context, of the properties.
    """
    if _IN_PROPERTIES.isdisjoint(properties) and _IN_CONTEXT.isdisjoint(context):
        return _NOTHING
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
        (_text(page.get("referrer")) if isinstance(page, dict) else None)
        or _text(context.get("referrer"))
        or _text(properties.get("referrer")),
    )


def _text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None
