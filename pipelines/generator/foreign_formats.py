"""Planned events in the formats of other trackers: what their mappings read, with the same people behind it."""

from __future__ import annotations

import json
from typing import Any

from pipelines.generator.rendering import Facts
from pipelines.generator.vocabulary import CAMPAIGNS

SEGMENT_CALLS = {"page_view": "page", "screen_view": "screen", "identify": "identify"}
DEVICES = {"mobile": "android", "desktop": "windows"}
LIBRARIES = {
    "web": "analytics.js",
    "mobile": "analytics-kotlin",
    "desktop": "analytics.net",
    "support_chat": "@segment/analytics-node",
    "ai_agent": "@segment/analytics-node",
}
DEVICE_TYPES = {"web": "desktop", "mobile": "mobile"}
COUNTRIES = ("DE", "GB", "FR", "IT")


def render_segment(facts: Facts) -> str:
    """One call. A cookie is the anonymous id; devices and campaigns are context."""
    ids, action, context = _read(facts.identifiers), _read(facts.action.heading), _read(facts.context)
    kind = SEGMENT_CALLS.get(action["event_type"], "track")
    call: dict[str, Any] = {"messageId": facts.event_id, "type": kind}
    _put(call, "timestamp", facts.timestamp, json.loads)
    call["channel"] = {"web": "browser", "mobile": "mobile"}.get(facts.platform, facts.platform)
    _put(call, "userId", ids.get("user_id"))
    _put(call, "anonymousId", ids.get("cookie_id"))
    properties = _read(facts.action.properties)
    if kind == "track":
        call["event"] = action["event_name"]
    elif kind != "identify":
        call["name"] = action["event_name"]
    if facts.agent:
        properties["agent_id"] = facts.agent
    call["properties"] = properties
    around: dict[str, Any] = {"library": {"name": LIBRARIES[facts.platform]}, "ip": context["ip"]}
    around |= {"locale": context["locale"], "userAgent": context["user_agent"]}
    device: dict[str, Any] = {}
    _put(device, "id", ids.get("device_id"))
    _put(device, "type", DEVICES.get(facts.platform))
    _put(around, "device", device or None)
    traits = {name: ids[name] for name in ("email", "phone") if name in ids}
    _put(call if kind == "identify" else around, "traits", traits or None)
    if facts.campaign is not None:
        around["campaign"] = dict(zip(("source", "medium", "name"), CAMPAIGNS[facts.campaign], strict=True))
    if facts.referrer:
        around["page"] = {"referrer": facts.referrer}
    return _line(call | {"context": around})


def render_shopstream(facts: Facts) -> str:
    """One click. The format has no place for devices, cookies, addresses and agents: they are left out."""
    ids, action, context = _read(facts.identifiers), _read(facts.action.heading), _read(facts.context)
    properties = _read(facts.action.properties)
    if facts.campaign is not None:
        properties |= dict(
            zip(("utm_source", "utm_medium", "utm_campaign"), CAMPAIGNS[facts.campaign], strict=True)
        )
    click: dict[str, Any] = {"event_id": facts.event_id, "user_id": ids.get("user_id")}
    click["session_id"] = None if facts.session is None else f"cs-{facts.session:08x}"
    _put(click, "timestamp", facts.timestamp, json.loads)
    click |= {
        "event_type": action["event_type"],
        "page_url": properties.pop("url", None),
        "user_agent": context["user_agent"],
        "ip_address": context["ip"],
        "referrer": facts.referrer or None,
        "device_type": DEVICE_TYPES.get(facts.platform),
        "country": COUNTRIES[len(context["ip"]) % len(COUNTRIES)],
        "properties": properties,
    }
    return _line(click)


def render_mini_dmp(facts: Facts) -> str:
    """An envelope of one event, so that records and events are as many."""
    action = _read(facts.action.heading)
    event: dict[str, Any] = {"event_id": facts.event_id, "identifiers": _read(facts.identifiers)}
    event |= action
    _put(event, "timestamp", facts.timestamp, json.loads)
    event["platform"] = facts.platform
    _put(event, "actor", {"agent_id": facts.agent} if facts.agent else None)
    context = _read(facts.context)
    if facts.campaign is not None:
        context["campaign"] = dict(zip(("source", "medium", "name"), CAMPAIGNS[facts.campaign], strict=True))
    if facts.referrer:
        context["page"] = {"referrer": facts.referrer}
    event |= {"properties": _read(facts.action.properties), "context": context}
    return _line({"source": "generator", "events": [event]})


def _read(members: str) -> dict[str, Any]:
    """An object of its inside; of a name that is there twice the last value, as in any JSON reader."""
    return dict(json.loads(f"{{{members}}}"))


def _put(target: dict[str, Any], name: str, value: Any, read: Any = None) -> None:
    if value is not None:
        target[name] = value if read is None else read(value)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))
