"""A rougher world: generated events in which a share of the devices is used by a stranger too, and a share of the
events carries ids that mean nothing.

A guest signs in on somebody else's device in sessions of her own, looks around and signs out; the truth learns that
the device has two users, and whose the new events are. Junk is what trackers send by mistake: `null`, zeros, a test
mailbox that hundreds of people have typed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import orjson

DEVICES = ("device_id", "cookie_id")
JUNK = (
    {"user_id": "null"},
    {"user_id": "anonymous"},
    {"user_id": "0"},
    {"device_id": "00000000-0000-0000-0000-000000000000"},
    {"cookie_id": "undefined"},
    {"email": "test@example.com"},  # no list has it: only that so many use it tells
    {"phone": "+4915100000000"},
)
GUEST_EVENTS = ("login", "page_view", "page_view", "logout")
FIRST_VISIT = datetime(2026, 2, 10, tzinfo=UTC)  # after the generated weeks, at times of their own


def roughen(
    events: Path, truth: Path, out: Path, out_truth: Path, seed: int, shared: float, junk: float
) -> dict[str, int]:
    """Write the events again with trouble in them, and the truth that belongs to it. Returns what was done."""
    rng = Random(seed)
    persons, owners = _persons(truth)
    devices = sorted(
        (space, value) for (space, value), users in owners.items() if space in DEVICES and len(users) == 1
    )
    chosen = dict.fromkeys(rng.sample(devices, round(len(devices) * shared)))
    seen_together: dict[tuple[str, str], dict[str, str]] = {}
    out.mkdir(parents=True)
    junk_count = 0
    for path in sorted(events.iterdir()):
        with (out / path.name).open("wb") as f:
            for line in path.read_bytes().splitlines():
                record = _event(line)
                if record is None:
                    f.write(line + b"\n")
                    continue
                found = record["identifiers"]
                here = {space: found[space] for space in DEVICES if isinstance(found.get(space), str)}
                for space, value in here.items():
                    if (space, value) in chosen:
                        seen_together.setdefault((space, value), here)
                if rng.random() < junk:
                    junk_count += 1
                    record["identifiers"] = {**rng.choice(JUNK), **found}
                f.write(orjson.dumps(record) + b"\n")
    guests = sorted(p for p, user_id in persons.items() if user_id)
    new: list[tuple[str, str]] = []
    visits = []
    for number, device in enumerate(d for d in chosen if d in seen_together):
        here = seen_together[device]
        hosts = set().union(*(owners.get((s, v), set()) for s, v in here.items()))
        guest = rng.choice(guests)
        if guest in hosts:
            continue
        for space, value in here.items():
            owners[space, value] = owners.get((space, value), set()) | {guest}
        start = FIRST_VISIT + timedelta(hours=number % 300, seconds=rng.randrange(3000))
        visits += list(_visit(number, start, here, persons[guest], guest, new))
    (out / "zz-guests.jsonl").write_bytes(b"".join(orjson.dumps(v) + b"\n" for v in visits))
    _write_truth(truth, out_truth, owners, new)
    return {
        "shared_devices": len(chosen),
        "devices": len(devices),
        "junk_events": junk_count,
        "guest_events": len(new),
    }


def _visit(
    number: int,
    start: datetime,
    here: dict[str, str],
    user_id: str,
    guest: str,
    new: list[tuple[str, str]],
) -> Iterator[dict[str, object]]:
    for place, event_type in enumerate(GUEST_EVENTS):
        event_id = f"guest-{number}-{place}"
        new.append((event_id, guest))
        yield {
            "event_id": event_id,
            "event_type": event_type,
            "timestamp": (start + timedelta(minutes=place)).isoformat(),
            "platform": "web",
            "identifiers": {**here, "user_id": user_id},
        }


def _event(line: bytes) -> dict | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    is_event = isinstance(record, dict) and isinstance(record.get("identifiers"), dict)
    return record if is_event else None


def _persons(truth: Path) -> tuple[dict[str, str], dict[tuple[str, str], set[str]]]:
    """(person → user_id of those who ever signed in, identifier → its persons)."""
    persons: dict[str, str] = {}
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    with truth.open("rb") as f:
        for row in map(orjson.loads, f):
            if row["record"] == "person" and row["group"] == "connected" and row["user_id"]:
                persons[row["person"]] = row["user_id"]
            elif row["record"] == "identifier":
                owners[row["namespace"], row["value"]] = set(row["persons"])
    return persons, owners


def _write_truth(
    truth: Path, out: Path, owners: dict[tuple[str, str], set[str]], new: list[tuple[str, str]]
) -> None:
    with truth.open("rb") as f, out.open("wb") as g:
        for row in map(orjson.loads, f):
            if row["record"] == "identifier":
                users = sorted(owners[row["namespace"], row["value"]])
                row |= {"persons": users, "is_shared": len(users) > 1}
            g.write(orjson.dumps(row) + b"\n")
        for event_id, person in new:
            row = {"record": "event", "tenant": "default", "event_id": event_id, "person": person}
            g.write(orjson.dumps(row) + b"\n")
