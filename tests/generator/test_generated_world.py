"""The generated world keeps its promises: checked from its files, by rules written down here again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.generator import SOURCE_FORMATS, GeneratorError, GeneratorSummary, generate

PERSONS, RECORDS, SEED = 1_000, 10_000, 11
JUNK = {"null", "0", "anonymous", "undefined", "00000000-0000-0000-0000-000000000000"}
LINKING = ("device_id", "cookie_id", "user_id", "email", "phone")
GAP = 30 * 60
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
DAY_ONE = datetime(2026, 1, 5, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Event:
    event_id: str
    event_type: str
    at: float
    platform: str
    nodes: tuple[tuple[str, str], ...]

    @property
    def user(self) -> str | None:
        return dict(self.nodes).get("user_id")

    @property
    def anchor(self) -> tuple[str, str]:
        return min(self.nodes, key=lambda node: LINKING.index(node[0]))


@dataclass(frozen=True)
class Generated:
    lines: list[bytes]
    events: dict[str, Event]
    persons: list[dict]
    identifiers: list[dict]
    deeds: list[dict]
    summary: GeneratorSummary

    def of_group(self, group: str) -> dict[str, dict]:
        return {person["person"]: person for person in self.persons if person["group"] == group}

    def events_by_person(self) -> dict[str, list[Event]]:
        found = defaultdict(list)
        for deed in self.deeds:
            found[deed["person"]].append(self.events[deed["event_id"]])
        return found


def seconds(value: object) -> float | None:
    if isinstance(value, int):
        return value / 1000 if value > 10**11 else float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        return None


def read_valid(line: bytes, source_format: str = "native") -> Event | None:
    """The event on a line, without its junk identifiers; None if the record has to be quarantined."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    at = seconds(record.get("timestamp"))
    identifiers = record.get("identifiers", {}) if source_format == "native" else record
    nodes = [(key, identifiers[key]) for key in LINKING if identifiers.get(key, "null") not in JUNK]
    if at is None or not EARLIEST <= at <= LATEST or not nodes:
        return None
    nodes = [(key, value.strip().lower() if key == "email" else value) for key, value in nodes]
    return Event(record["event_id"], record["event_type"], at, record["platform"], tuple(nodes))


def lines_of(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def cut_sessions(events: list[Event]) -> list[list[Event]]:
    """Per anchor: at gaps longer than 30 minutes, after a logout, before an event of another user."""
    by_anchor = defaultdict(list)
    for event in events:
        by_anchor[event.anchor].append(event)
    sessions = []
    for run in by_anchor.values():
        run.sort(key=lambda event: (event.at, event.event_id))
        session: list[Event] = []
        for event in run:
            user = next((known.user for known in session if known.user), None)
            if session and (
                event.at - session[-1].at > GAP
                or session[-1].event_type == "logout"
                or (user and event.user and event.user != user)
            ):
                sessions.append(session)
                session = []
            session.append(event)
        sessions.append(session)
    return sessions


def components(events: list[Event]) -> list[set[tuple[str, str]]]:
    found: list[set[tuple[str, str]]] = []
    for event in events:
        touching = [part for part in found if not part.isdisjoint(event.nodes)]
        found = [part for part in found if part.isdisjoint(event.nodes)]
        found.append(set(event.nodes).union(*touching))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    folder = tmp_path_factory.mktemp("world")
    request = (PERSONS, RECORDS, SEED, folder / "events", folder / "truth.jsonl")
    summary = generate(*request, events_per_file=3_000)
    lines = lines_of(folder / "events")
    truth = defaultdict(list)
    for line in (folder / "truth.jsonl").read_text().splitlines():
        record = json.loads(line)
        truth[record["record"]].append(record)
    events = {event.event_id: event for line in lines if (event := read_valid(line))}
    return Generated(lines, events, truth["person"], truth["identifier"], truth["event"], summary)


@pytest.mark.parametrize("source_format", sorted(SOURCE_FORMATS))
def test_same_request_writes_the_same_bytes_and_another_seed_does_not(tmp_path, source_format):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(40, 600, seed, tmp_path / name, tmp_path / name / "truth.jsonl", source_format, 250)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


@pytest.mark.parametrize(
    "persons, records", [(1, 30), (3, 50), (20, 40), (20, 999), (25, 20_000), (300, 999)]
)
def test_exactly_the_requested_number_of_records_is_written(tmp_path, persons, records):
    summary = generate(persons, records, 5, tmp_path / "events", tmp_path / "truth", events_per_file=400)
    lines = lines_of(tmp_path / "events")
    assert len(lines) == records == summary.records
    assert summary.valid_events + summary.duplicates + summary.malformed == records
    assert len({event.event_id for line in lines if (event := read_valid(line))}) == summary.valid_events


def test_files_hold_the_requested_number_of_lines_and_nothing_unfinished_stays(tmp_path):
    generate(30, 1_050, 5, tmp_path, events_per_file=500)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    assert [path.read_bytes().count(b"\n") for path in files] == [500, 500, 50]


def test_duplicates_are_identical_lines_and_come_after_the_original(world):
    copies = Counter(line for line in world.lines if read_valid(line))
    assert sum(copies.values()) - len(copies) == world.summary.duplicates == round(RECORDS * 0.03)
    assert len(copies) == len(world.events) == world.summary.valid_events


def test_one_record_in_a_hundred_has_to_be_quarantined(world):
    refused = sum(read_valid(line) is None for line in world.lines)
    assert refused == world.summary.malformed == round(RECORDS * 0.01)


def test_five_percent_of_events_arrive_more_than_a_minute_behind_and_many_others_slightly(world):
    latest_so_far, behind = 0.0, {}
    for line in world.lines:
        event = read_valid(line)
        if event and event.event_id not in behind:
            behind[event.event_id] = latest_so_far - event.at
            latest_so_far = max(latest_so_far, event.at)
    late = sum(delay > 60 for delay in behind.values())
    assert world.summary.late_events == round(len(behind) * 0.05)
    assert 0.9 * world.summary.late_events < late <= world.summary.late_events
    assert sum(0 < delay < 60 for delay in behind.values()) > 0.1 * len(behind)


def test_event_times_lie_in_the_period(world):
    assert all(DAY_ONE <= event.at < DAY_ONE + 14 * 86_400 for event in world.events.values())


def test_all_forms_of_time_occur(world):
    stamps = [json.loads(line)["timestamp"] for line in world.lines if read_valid(line)]
    assert any(isinstance(stamp, int) and stamp > 10**11 for stamp in stamps)
    assert any(isinstance(stamp, int) and stamp < 10**11 for stamp in stamps)
    assert any(str(stamp).endswith("+01:00") for stamp in stamps)
    assert sum(str(stamp).endswith("Z") for stamp in stamps) > len(stamps) / 2


def test_one_evening_has_ten_times_the_usual_traffic(world):
    minutes = Counter(int((event.at - DAY_ONE) // 480) for event in world.events.values())
    assert max(minutes.values()) > 10 * len(world.events) / (14 * 24 * 60 / 8)


def test_at_least_sixty_percent_of_events_are_anonymous(world):
    anonymous = sum(event.user is None for event in world.events.values())
    assert anonymous / len(world.events) >= 0.6
    assert anonymous == world.summary.anonymous_events


def test_at_least_thirty_percent_of_persons_have_several_devices(world):
    devices = defaultdict(set)
    for person, events in world.events_by_person().items():
        devices[person] = {event.anchor for event in events if event.anchor[0] in ("device_id", "cookie_id")}
    several = sum(len(anchors) > 1 for anchors in devices.values())
    assert several >= 0.3 * PERSONS
    assert several == world.summary.persons_with_several_devices


@pytest.mark.parametrize("persons, records", [(20, 400), (PERSONS, RECORDS)])
def test_every_group_and_platform_is_present(tmp_path, persons, records):
    summary = generate(persons, records, SEED, tmp_path)
    assert all(summary.persons_by_group.values()), summary
    assert all(summary.events_by_platform.values()), summary
    assert set(summary.events_by_platform) == {"web", "mobile", "desktop", "support_chat", "ai_agent"}


def test_every_true_event_is_in_the_files_and_every_valid_event_in_the_truth(world):
    assert [deed["event_id"] for deed in world.deeds if deed["event_id"] not in world.events] == []
    assert Counter(world.events.keys()) == Counter(deed["event_id"] for deed in world.deeds)


def test_identifiers_of_the_truth_are_those_of_the_valid_events_and_none_is_junk(world):
    users = defaultdict(set)
    for person, events in world.events_by_person().items():
        for event in events:
            for node in event.nodes:
                users[node].add(person)
    told = {(row["namespace"], row["value"]): set(row["persons"]) for row in world.identifiers}
    assert told == users
    assert len(told) == len(world.identifiers)
    assert not {value for _, value in told} & JUNK
    assert all(row["is_shared"] == (len(row["persons"]) > 1) for row in world.identifiers)


def test_junk_identifiers_and_untidy_emails_do_occur(world):
    text = b"\n".join(line for line in world.lines if read_valid(line)).decode()
    assert all(f'"{junk}"' in text for junk in JUNK)
    assert '@Example.com "' in text


@pytest.mark.parametrize("group", ["connected", "anonymous_single", "unconnected"])
def test_sessions_cut_by_the_rule_are_the_sessions_and_profile_values_of_the_truth(world, group):
    by_person = world.events_by_person()
    planned = {deed["event_id"]: deed["session"] for deed in world.deeds}
    for name, person in world.of_group(group).items():
        events = by_person[name]
        sessions = cut_sessions(events)
        assert all(len({planned[event.event_id] for event in session}) == 1 for session in sessions)
        signed_in = [session for session in sessions if any(event.user for event in session)]
        anonymous = [session for session in sessions if not any(event.user for event in session)]
        logins = [sum(event.event_type == "login" for event in session) for session in signed_in]
        first_login = min((event.at for event in events if event.user), default=None)
        before = [session for session in anonymous if first_login and session[0].at < first_login]
        assert person["session_count"] == len(sessions)
        assert person["authenticated_session_count"] == len(signed_in)
        assert person["anonymous_session_count"] == len(anonymous)
        assert person["anonymous_session_count_before_first_login"] == len(before)
        assert person["login_count"] == sum(max(1, count) for count in logins)
        assert person["event_count"] == len(events)
        assert person["platforms"] == sorted({event.platform for event in events})
        assert person["is_identified"] == (first_login is not None)
        assert seconds(person["first_seen_at"]) == min(event.at for event in events)
        assert seconds(person["last_seen_at"]) == max(event.at for event in events)
        assert (seconds(person["first_login_at"]) if first_login else None) == first_login


def test_sessions_on_shared_devices_are_cut_as_planned(world):
    planned = {deed["event_id"]: deed["session"] for deed in world.deeds}
    shared = {(row["namespace"], row["value"]) for row in world.identifiers if row["is_shared"]}
    events = [event for event in world.events.values() if event.anchor in shared]
    sessions = cut_sessions(events)
    assert all(len({planned[event.event_id] for event in session}) == 1 for session in sessions)
    assert len(sessions) == len({planned[event.event_id] for event in events})
    assert any(all(event.user is None for event in session) for session in sessions)


def test_times_of_an_anchor_are_distinct_and_keep_clear_of_the_session_gap(world):
    planned = {deed["event_id"]: deed["session"] for deed in world.deeds}
    users = {planned[event.event_id]: event.user for event in world.events.values() if event.user}
    by_anchor = defaultdict(list)
    for event in world.events.values():
        by_anchor[event.anchor].append(event)
    for events in by_anchor.values():
        for earlier, later in pairwise(sorted(events, key=lambda event: event.at)):
            gap, left, entered = later.at - earlier.at, planned[earlier.event_id], planned[later.event_id]
            assert gap > 0
            if left == entered:
                assert gap < 20 * 60
            elif earlier.event_type != "logout" and not (
                later.user and users.get(left) not in (None, later.user)
            ):
                assert gap > 45 * 60


@pytest.mark.parametrize("group", ["connected", "anonymous_single"])
def test_these_persons_are_one_component_that_nobody_else_touches(world, group):
    by_person = world.events_by_person()
    shared = {(row["namespace"], row["value"]) for row in world.identifiers if row["is_shared"]}
    for name in world.of_group(group):
        [component] = components(by_person[name])
        assert not component & shared


def test_an_unconnected_person_falls_into_several_components(world):
    by_person = world.events_by_person()
    assert all(len(components(by_person[name])) >= 2 for name in world.of_group("unconnected"))


@pytest.mark.parametrize("group, fewest", [("shared_household", 2), ("shared_kiosk", 20)])
def test_persons_of_a_shared_group_sign_in_on_a_device_they_share(world, group, fewest):
    members, by_person = world.of_group(group), world.events_by_person()
    identifiers = [row for row in world.identifiers if row["is_shared"]]
    shared = {(row["namespace"], row["value"]): row["persons"] for row in identifiers}
    for name in members:
        places = {node for event in by_person[name] if event.event_type == "login" for node in event.nodes}
        companies = [shared[node] for node in places if node in shared]
        assert companies
        assert all(len(company) >= fewest and set(company) <= members.keys() for company in companies)


def test_flat_records_tell_the_same_events(tmp_path, world):
    generate(PERSONS, RECORDS, SEED, tmp_path, source_format="flat")
    told = {event.event_id: event for line in lines_of(tmp_path) if (event := read_valid(line, "flat"))}
    assert told == world.events


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"persons": 0}, "persons: 0 is too small"),
        ({"events": 0}, "events: 0 is too small"),
        ({"seed": -1}, "seed: -1 is too small"),
        ({"events_per_file": 0}, "events-per-file: 0 is too small"),
        ({"events": 20}, "too few for 30 persons; give at least"),
        ({"source_format": "punch_cards"}, "give one of flat, mini_dmp, native, segment, shopstream"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_the_way_out(tmp_path, change, complaint):
    request = {"persons": 30, "events": 500, "seed": 1, "out": tmp_path / "events"} | change
    with pytest.raises(GeneratorError, match=complaint):
        generate(**request)
    assert not (tmp_path / "events").exists()
