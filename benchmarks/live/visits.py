"""Events of people who come back: what a batch of them touches does not grow, so its cost must not either."""

from __future__ import annotations

from pathlib import Path

import orjson

FIRST_SECOND, BATCH_SECONDS = 1_700_000_000, 60
EVERY_NTH_WITH_USER = 5
_CONTEXT = {
    "ip": "192.0.2.46",
    "locale": "en-GB",
    "user_agent": "ShopApp/7.3 (iPhone; iOS 18.2)",
    "page": {"path": "/catalogue/shoes", "referrer": "https://search.example/"},
}


def visits(number: int, count: int, people: int) -> list[dict[str, object]]:
    """The events of batch `number`: `count` of the `people`, each at a device of their own, in turn."""
    events: list[dict[str, object]] = []
    for n in range(count):
        person = (number * count + n) % people
        identifiers = {"device_id": f"d{person}"}
        if n % EVERY_NTH_WITH_USER == 0:
            identifiers["user_id"] = f"u{person}"
        events.append(
            {
                "event_id": f"{number}-{n}",
                "timestamp": FIRST_SECOND + number * BATCH_SECONDS + n % BATCH_SECONDS,
                "event_type": "page_view",
                "event_name": "Page Viewed",
                "platform": "web",
                "identifiers": identifiers,
                "properties": {"category": "shoes", "position": n},
                "context": _CONTEXT,
            }
        )
    return events


def land_visits(landing: Path, number: int, count: int, people: int) -> int:
    """Land one batch as one file; returns its bytes."""
    content = b"".join(orjson.dumps(event) + b"\n" for event in visits(number, count, people))
    hidden = landing / f".{number:06d}.jsonl"
    hidden.write_bytes(content)
    hidden.rename(landing / f"{number:06d}.jsonl")
    return len(content)
