"""The fixed facts of the generated world: its period, its platforms, its groups of persons."""

from __future__ import annotations

from datetime import UTC, datetime

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

PERIOD_START = datetime(2026, 1, 5, tzinfo=UTC)
PERIOD_START_MS = int(PERIOD_START.timestamp()) * SECOND
PERIOD_DAYS = 14
PERIOD = PERIOD_DAYS * DAY

# Sessions are cut at gaps longer than 30 minutes. Planned sessions keep away from that line on both
# sides, so that the plan and any correct reading of the rule agree.
LONGEST_GAP_WITHIN_A_SESSION = 18 * MINUTE
SHORTEST_GAP_BETWEEN_SESSIONS = 46 * MINUTE

# On one evening an offer goes out and a crowd arrives at once.
BURST_START = 9 * DAY + 19 * HOUR
BURST_LENGTH = 8 * MINUTE

DUPLICATE_SHARE = 0.03
MALFORMED_SHARE = 0.01
LATE_SHARE = 0.05

TENANT = "default"

PLATFORMS = ("web", "mobile", "desktop", "support_chat", "ai_agent")
WEB, MOBILE, DESKTOP, SUPPORT_CHAT, AI_AGENT = range(len(PLATFORMS))

CONNECTED = "connected"
ANONYMOUS_SINGLE = "anonymous_single"
UNCONNECTED = "unconnected"
SHARED_HOUSEHOLD = "shared_household"
SHARED_KIOSK = "shared_kiosk"
GROUPS = (CONNECTED, ANONYMOUS_SINGLE, UNCONNECTED, SHARED_HOUSEHOLD, SHARED_KIOSK)

JUNK_USER_IDS = ("null", "0", "anonymous", "undefined")
JUNK_COOKIE_ID = "00000000-0000-0000-0000-000000000000"


def person_name(index: int) -> str:
    """The name of the person with this index."""
    return f"p{index + 1:06d}"


def session_name(index: int) -> str:
    """The name of the session with this index."""
    return f"s{index + 1:07d}"
