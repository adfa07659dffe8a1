"""Snowplow's public web sample through the real stream, unmodified, beside the users that Snowplow's own models expect.

Their rules (the dbt models of their web package) and ours differ; each difference is asserted for what it is.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conf.tables import BATCHES, BRONZE_EVENTS, EVENTS, IDENTIFIERS, IDENTITY_MAP, PROFILES, QUARANTINE

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("STITCHLAKE_SHARED_DATA") or ROOT.parent / "shared" / "data") / "snowplow_web"
EVENTS_FILE = DATA / "snowplow_web_events.csv.gz"

pytestmark = pytest.mark.skipif(
    not EVENTS_FILE.is_file(),
    reason=f"Snowplow's web sample is not at {DATA}; STITCHLAKE_SHARED_DATA names another folder that holds it",
)

# They give a row to each domain_userid that has page views in what they keep, and these are not in it.
WITHOUT_A_ROW = {
    "consent_accel",  # consent events only, no page view
    "NULL domain_sessionid",
    "NULL domain_userid",
    "NULL page_view_id",
    "late arriving: device created/sent >3 days",
}
# One cookie, ten logins: they give all of it to one row; to us a user_id is a person, and the cookie is shared.
SHARED_COOKIE = "user stitch - session: "
# They stop a session after three days and set the rest aside; we have no such bound.
LONGER_HERE = {"long session", "Unexpired session"}


@pytest.fixture(scope="module")
def world(make_lake):
    world = make_lake()
    world.drop(EVENTS_FILE.name, EVENTS_FILE.read_bytes())
    world.once("snowplow")
    return world


@pytest.fixture(scope="module")
def expected() -> list[dict[str, str]]:
    with (DATA / "snowplow_web_users_expected.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def person_of(world) -> dict[tuple[str, str], int]:
    names = {r["node_id"]: (r["namespace"], r["value"]) for r in world.rows(IDENTIFIERS)}
    return {names[r["node_id"]]: r["canonical_id"] for r in world.rows(IDENTITY_MAP) if r["node_id"] in names}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_160_rows_are_157_events_and_three_conflicts_and_nothing_is_lost(world):
    with gzip.open(EVENTS_FILE, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len({r["event_id"] for r in rows})) == (160, 157)
    (batch,) = [b for b in world.rows(BATCHES) if b["kind"] == "batch"]
    counts = [batch[f"{n}_count"] for n in ("record", "received", "valid", "quarantined", "duplicate")]
    assert counts == [160, 160, 157, 3, 0]
    assert len(world.rows(BRONZE_EVENTS)) == 160
    events = world.rows(EVENTS)
    assert {e["event_id"] for e in events} == {r["event_id"] for r in rows}
    assert {e["tenant"] for e in events} == {"default"}
    assert not any(e["flags"] for e in events)
    # The other three carry an id that is there already, and another time: a tracker's retry gets a new derived time.
    twice = {event_id for event_id, times in Counter(r["event_id"] for r in rows).items() if times > 1}
    refused = world.rows(QUARANTINE)
    assert [r["reasons"] for r in refused] == [["conflicting_duplicate"]] * 3
    assert {r["event_id"] for r in refused} == twice
    for event_id in twice:
        one, other = (r for r in rows if r["event_id"] == event_id)
        assert one["derived_tstamp"] != other["derived_tstamp"]


def test_their_users_are_our_persons(world, expected, person_of):
    profiles = {r["canonical_id"]: r for r in world.rows(PROFILES)}
    persons = [person_of["cookie_id", user["domain_userid"]] for user in expected]
    assert len(expected) == len(set(persons)) == 11
    ends_later = set()
    for user, person in zip(expected, persons, strict=True):
        assert person_of["user_id", user["user_id"]] == person, user["user_id"]
        profile = profiles[person]
        assert profile["first_seen_at"] == instant(user["start_tstamp"]), user["user_id"]
        if user["user_id"].startswith(SHARED_COOKIE):
            continue
        if profile["last_seen_at"] != instant(user["end_tstamp"]):
            assert profile["last_seen_at"] > instant(user["end_tstamp"])
            ends_later.add(user["user_id"])
    assert ends_later == LONGER_HERE


def test_we_have_a_person_for_every_user_id_and_they_a_row_for_every_cookie(world, expected, person_of):
    user_ids = {value for namespace, value in person_of if namespace == "user_id"}
    assert len(user_ids) == len(world.rows(PROFILES)) == 25
    assert len({person_of["user_id", u] for u in user_ids}) == 25
    ten = {u for u in user_ids if u.startswith(SHARED_COOKIE)}
    theirs = {user["user_id"] for user in expected}
    assert user_ids - theirs - ten == WITHOUT_A_ROW
    assert (len(ten), len(ten & theirs)) == (10, 1)
    cookies = defaultdict(set)
    for (namespace, value), person in person_of.items():
        if namespace == "cookie_id":
            cookies[person].add(value)
    # Where a browser's cookie rotates they see one user by the session's first cookie; we join by the user_id.
    assert len(cookies[person_of["user_id", "Rotating domain_userid per session"]]) == 3
    assert len(cookies[person_of["user_id", "consent_accel"]]) == 26
    # The shared cookie's owner is its first user here, and the user they name too.
    (owner,) = ten & theirs
    assert (
        person_of["user_id", owner]
        == person_of["cookie_id", next(u["domain_userid"] for u in expected if u["user_id"] == owner)]
    )
