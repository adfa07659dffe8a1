"""What people do and look at: event names, pages, campaigns, agents, as ready-made pieces of a JSON line.

Every piece is rendered once and then only joined, which is what makes a million lines cheap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from pipelines.generator.timetable import IDENTIFY, LOGIN, LOGOUT
from pipelines.generator.world import AI_AGENT, DESKTOP, MOBILE, PLATFORMS, SUPPORT_CHAT, WEB

SHOP = "https://shop.example.com"
PAGES = ("/", "/sale", "/search?q=lamp", "/category/garden", "/category/kitchen", "/account", "/cart")
SCREENS = ("home", "search", "product", "cart", "orders", "settings")
VARIANTS = 256

# (event_type, event_name, weight)
ACTIVITIES = {
    WEB: (
        ("page_view", "Page Viewed", 60),
        ("product_view", "Product Viewed", 22),
        ("search", "Products Searched", 8),
        ("add_to_cart", "Product Added", 6),
        ("purchase", "Order Completed", 4),
    ),
    MOBILE: (
        ("screen_view", "Screen Viewed", 62),
        ("product_view", "Product Viewed", 22),
        ("push_opened", "Push Opened", 6),
        ("add_to_cart", "Product Added", 6),
        ("purchase", "Order Completed", 4),
    ),
    DESKTOP: (
        ("app_open", "Application Opened", 25),
        ("screen_view", "Screen Viewed", 55),
        ("feature_used", "Feature Used", 17),
        ("purchase", "Order Completed", 3),
    ),
    SUPPORT_CHAT: (
        ("chat_message", "Message Sent", 80),
        ("chat_opened", "Chat Opened", 12),
        ("chat_rated", "Chat Rated", 8),
    ),
    AI_AGENT: (
        ("agent_message", "Agent Message", 55),
        ("tool_call", "Tool Called", 35),
        ("purchase", "Order Completed", 10),
    ),
}
SIGNING = {
    LOGIN: ("login", "Signed In"),
    LOGOUT: ("logout", "Signed Out"),
    IDENTIFY: ("identify", "Identified"),
}
CAMPAIGNS = (
    ("google", "cpc", "winter_lights"),
    ("newsletter", "email", "january_news"),
    ("instagram", "social", "garden_dreams"),
    ("partner-blog", "referral", "kitchen_week"),
)
REFERRERS = ("https://www.google.com/", "https://www.bing.com/", "https://news.example.org/", "")
AGENTS = ("shopping-assistant-1", "shopping-assistant-2", "support-copilot", "travel-planner")
LOCALES = ("de-DE", "en-GB", "fr-FR", "it-IT", "es-ES", "tr-TR", "pl-PL", "nl-NL")
NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
USER_AGENTS = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/134.0", "Mozilla/5.0 (Macintosh) Safari/605.1.15"),
    ("Mozilla/5.0 (X11; Linux x86_64) Chrome/132.0", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Edg/132.0"),
    ("ShopApp/7.3 (iPhone; iOS 18.2)", "ShopApp/7.3 (Android 15; Pixel 9)"),
    ("ShopDesktop/2.8 (Windows 11)", "ShopDesktop/2.8 (macOS 15.2)"),
    ("HelpDesk/4.1", "HelpDesk/4.1"),
    ("AssistantGateway/1.0", "AssistantGateway/1.0"),
)


def members(**values: object) -> str:
    """`"a":1,"b":"x"`: the inside of a JSON object."""
    return json.dumps(values, separators=(",", ":"))[1:-1]


@dataclass(frozen=True)
class Action:
    """What an event says happened: its type and name, and its properties, as members of a JSON object."""

    heading: str
    properties: str


def actions(rng: Random) -> list[list[Action]]:
    """Per platform, VARIANTS things to do in their usual proportions."""
    return [[_action(rng, platform) for _ in range(VARIANTS)] for platform in range(len(PLATFORMS))]


def signing_actions() -> dict[int, Action]:
    """The event types and names of signing in and out, by kind of action."""
    return {
        kind: Action(members(event_type=event_type, event_name=name), members(method="password"))
        for kind, (event_type, name) in SIGNING.items()
    }


def _action(rng: Random, platform: int) -> Action:
    activities = ACTIVITIES[platform]
    event_type, name, _ = rng.choices(activities, [weight for *_, weight in activities])[0]
    properties: dict[str, object] = {}
    if platform == WEB:
        path = f"/product/{rng.randrange(1, 900)}" if "Product" in name else rng.choice(PAGES)
        properties["url"] = SHOP + path
    elif platform in (MOBILE, DESKTOP):
        properties["screen"] = rng.choice(SCREENS)
    elif platform == SUPPORT_CHAT:
        properties["topic"] = rng.choice(("delivery", "returns", "invoice", "account"))
    else:
        properties["tool"] = rng.choice(("search_products", "read_orders", "place_order", "answer"))
    if event_type == "purchase":
        properties |= {
            "order_id": f"o{rng.randrange(10**8):08d}",
            "amount": round(rng.lognormvariate(3.7, 0.8), 2),
            "currency": rng.choice(("EUR", "EUR", "GBP")),
        }
    return Action(members(event_type=event_type, event_name=name), members(**properties))
