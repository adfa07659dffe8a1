"""The input of every case: a fixed, seeded set of records that makes a batch write every table and undo old things.

Batch n begins stories that batch n+1 ends: people merge and part, a device is shared, late events join and cut
sessions, records come twice, contradict each other or cannot be read, decisions are made and undone.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from pipelines.generator import generate

T0 = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LANDED_AT = int(T0.timestamp()) + 86_400  # of every file: a retry must see the same instant
BLOCKED_LATER = "nobody@example.com"
Decisions = dict[str, dict[str, Any]]


@cache
def files(batches: int, seed: int = 7, generated: int = 40) -> tuple[bytes, ...]:
    """The landed files of `batches` batches, as JSON lines; the same arguments give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="stitchlake-faults-") as folder:
        generate(12, generated * batches, seed=seed, out=Path(folder), events_per_file=generated)
        worlds = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    return tuple(
        b"".join(_line(record) for record in stories(number)) + worlds[number] for number in range(batches)
    )


def stories(batch: int) -> list[dict[str, Any] | bytes]:
    """The records of a batch that were written by hand: beginnings of its own, endings of the batch before."""
    return [*_beginnings(batch), *(_endings(batch - 1) if batch else ())]


def decisions(batch: int) -> Decisions:
    """Control records by file name that come with a batch: a merge of two of the last batch's people, undone next."""
    made: Decisions = {}
    if batch:
        made[f"{batch:03}-merge.json"] = _decision(f"merge-{batch}", batch, "merge") | {
            "joins": [[_reference(f"user_id:mia{batch - 1}"), _reference(f"user_id:max{batch - 1}")]]
        }
        made[f"{batch:03}-apart.json"] = _decision(f"apart-{batch}", batch, "keep_apart") | {
            "sides": [
                [_reference(f"cookie_id:sofa{batch - 1}")],
                [_reference(f"device_id:phone{batch - 1}")],
            ]
        }
    if batch > 1:
        made[f"{batch:03}-undo.json"] = _decision(f"undo-{batch}", batch, "undo") | {
            "undoes": f"merge-{batch - 1}"
        }
    return made


def padded(batch: int, content: bytes, lines: int) -> bytes:
    """The file of a batch with plain events up to that many lines: a topic is cut by a number of records."""
    e = _numbered(batch, "p")
    missing = lines - content.count(b"\n")
    return content + b"".join(_line(e(500 + n, "page_view", f"cookie_id:pad{batch}")) for n in range(missing))


def _beginnings(n: int) -> list[dict[str, Any] | bytes]:
    e = _numbered(n, "a")
    return [
        # two anonymous histories, to be one person's
        e(0, "page_view", f"cookie_id:sofa{n}"),
        e(10, "page_view", f"device_id:phone{n}", platform="mobile"),
        # the same cookie value with another tenant is somebody else
        e(5, "page_view", f"cookie_id:sofa{n}", tenant="other"),
        # an e-mail address that hangs loose at somebody's cookie
        e(20, "login", f"user_id:tom{n}", f"email:tom{n}@example.org", f"cookie_id:desk{n}"),
        e(25, "page_view", f"email:jerry{n}@example.org", f"cookie_id:desk{n}"),
        # two people with a device each
        e(30, "login", f"user_id:ann{n}", f"device_id:left{n}"),
        e(31, "page_view", f"user_id:ann{n}", f"device_id:left{n}"),
        e(32, "login", f"user_id:bob{n}", f"device_id:right{n}"),
        e(33, "page_view", f"user_id:bob{n}", f"device_id:right{n}"),
        # a device whose second user is yet to come
        e(40, "login", f"user_id:first{n}", f"device_id:kiosk{n}"),
        e(140, "page_view", f"device_id:kiosk{n}"),
        # two sessions that a late event will join, and one that it will cut
        e(200, "page_view", f"cookie_id:late{n}"),
        e(250, "page_view", f"cookie_id:late{n}"),
        e(300, "page_view", f"device_id:cut{n}"),
        e(320, "page_view", f"device_id:cut{n}"),
        # people for decisions
        e(50, "login", f"user_id:mia{n}", f"device_id:mia{n}"),
        e(51, "login", f"user_id:max{n}", f"device_id:max{n}"),
        # twice in one batch; unreadable; of no time; of nobody; blocked
        e(60, "page_view", f"cookie_id:twice{n}", event_id=f"twice-{n}"),
        e(60, "page_view", f"cookie_id:twice{n}", event_id=f"twice-{n}"),
        b"{not json " + str(n).encode() + b"\n",
        {**e(61, "page_view", f"cookie_id:timeless{n}"), "timestamp": None},
        e(62, "page_view"),
        e(63, "page_view", "user_id:null", f"cookie_id:blocked{n}"),
        # with a limit of one address, as the other policy has it, these are two
        e(70, "login", f"user_id:two{n}", f"email:one{n}@example.com", f"cookie_id:one{n}"),
        e(75, "login", f"user_id:two{n}", f"email:two{n}@example.com", f"cookie_id:two{n}"),
        # the other policy blocks this address
        e(80, "page_view", f"cookie_id:nobody{n}", f"email:{BLOCKED_LATER}"),
    ]


def _endings(n: int) -> list[dict[str, Any] | bytes]:
    e = _numbered(n, "z")
    return [
        e(400, "login", f"cookie_id:sofa{n}", f"user_id:eve{n}"),
        e(410, "login", f"device_id:phone{n}", f"user_id:eve{n}", platform="mobile"),
        e(420, "login", f"user_id:jerry{n}", f"email:jerry{n}@example.org"),
        e(430, "page_view", f"device_id:left{n}", f"device_id:right{n}"),
        e(440, "login", f"user_id:second{n}", f"device_id:kiosk{n}"),
        e(540, "page_view", f"device_id:kiosk{n}"),
        e(225, "page_view", f"cookie_id:late{n}"),
        e(310, "login", f"device_id:cut{n}", f"user_id:cut{n}"),
        e(60, "page_view", f"cookie_id:twice{n}", event_id=f"twice-{n}"),
        e(65, "purchase", f"cookie_id:twice{n}", event_id=f"twice-{n}"),
    ]


def _numbered(n: int, part: str) -> Any:
    numbers = count()

    def event(minute: int, kind: str, *identifiers: str, **more: Any) -> dict[str, Any]:
        named: dict[str, str] = dict(i.split(":", 1) for i in identifiers)
        if len(named) < len(identifiers):  # two of one namespace are a list
            named = {k: [i.split(":", 1)[1] for i in identifiers] for k in named}  # type: ignore[misc]
        return {
            "event_id": f"{part}{n}-{next(numbers)}",
            "event_type": kind,
            "timestamp": (T0 + timedelta(days=n, minutes=minute)).isoformat(),
            "platform": "web",
            "identifiers": named,
            **more,
        }

    return event


def _decision(decision_id: str, batch: int, kind: str) -> dict[str, Any]:
    return {
        "decision_id": decision_id,
        "tenant": "default",
        "decision": kind,
        "decided_at": (T0 + timedelta(days=batch, hours=12)).isoformat(),
        "author": "fault suite",
        "reason": "to be undone",
    }


def _reference(name: str) -> dict[str, str]:
    namespace, _, value = name.partition(":")
    return {"namespace": namespace, "value": value}


def _line(record: dict[str, Any] | bytes) -> bytes:
    return record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n"
