"""A lake rebuilt under a policy is the lake that never knew another one, and persons keep their ids.

Without a JVM: real tables, the real batch function, records read by this process. What Spark does for larger lakes is
in test_rebuild_with_spark.py.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from conf.blocked import BlockedValue
from conf.policy import Policy, load_policy
from conf.tables import (
    ALL,
    BATCHES,
    EVENTS,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    PROFILES,
    SESSIONS,
)
from pipelines.apps.cli.__main__ import main
from pipelines.generator import generate
from pipelines.lake.lake import with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.replacement import replace_rows
from pipelines.lake.writing.writer import Txn
from pipelines.operations.attempt import ATTEMPT, RebuildRefused, take_back_unfinished
from pipelines.operations.rebuild.backfill import rebuild
from pipelines.operations.rebuild.rebuild import planned, publish_rebuild
from tests.direct_lake import DirectLake
from tests.pipelines.stream.batch.test_stream import event
from transforms.compare.reconciliation import COMPARED, compare_states

pytestmark = pytest.mark.thorough


def policy_with(base: Policy, namespace: str = "", **facts: object) -> Policy:
    """The policy with other facts, or with another namespace in it."""
    if not namespace:
        return replace(base, **facts)
    spaces = tuple(replace(n, **facts) if n.name == namespace else n for n in base.namespaces)
    return replace(base, namespaces=spaces)


BASE = policy_with(policy_with(load_policy(), max_degree=8), "email", limit=1)
POLICIES = {
    "a higher limit": policy_with(BASE, "email", limit=5),
    "devices that are weak": policy_with(BASE, "device_id", strength="weak"),
    "a lower max_degree": policy_with(BASE, max_degree=5),
    "a hub that heals": policy_with(BASE, max_degree=1000),
    "a value that is blocked": policy_with(
        BASE, blocked=(*BASE.blocked, BlockedValue(value="nobody@example.com"))
    ),
    "anonymous sessions bounded": policy_with(BASE, anonymous_on_shared_device="session_bounded"),
    "a shorter gap": policy_with(BASE, session_gap_minutes=2.0),
}
# All of them in three lakes, the first of them in every run; one by one where there is time.
TOGETHER = {
    "sessions, limits and values": replace(
        POLICIES["a higher limit"],
        session_gap_minutes=2.0,
        blocked=(*BASE.blocked, BlockedValue(value="nobody@example.com")),
    ),
    "weak devices and a hub that heals": policy_with(POLICIES["devices that are weak"], max_degree=1000),
    "a lower max_degree and bounded sessions": policy_with(
        POLICIES["anonymous sessions bounded"], max_degree=5
    ),
}
ALWAYS = "sessions, limits and values"
NO_NAMES = "nobody@example.com"


def crafted() -> list[dict]:
    """What the policies above tell apart, whoever else is in the data."""
    events = [
        event("l1", 0, "login", user_id="two-mails", email="a@example.com", cookie_id="k1"),
        event("l2", 10, "login", user_id="two-mails", email="b@example.com", cookie_id="k2"),
        event("b1", 0, cookie_id="alone", email=NO_NAMES),
        event("b2", 20, cookie_id="not-alone", email=NO_NAMES),
        event("b3", 30, email=NO_NAMES),
        event("s1", 0, "login", user_id="first", device_id="tablet"),
        event("s2", 100, device_id="tablet"),
        event("s3", 200, "login", user_id="second", device_id="tablet"),
        event("s4", 300, device_id="tablet"),
    ]
    events += [event(f"h{i}", i, cookie_id="hub", email=f"hub{i}@example.com") for i in range(7)]
    events += [event(f"g{i}", i, cookie_id="big-hub", extension_id=f"x{i}") for i in range(12)]
    return events


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[bytes]:
    """Three files: generated events with all their duplicates and bad records, and the crafted ones among them."""
    folder = tmp_path_factory.mktemp("generated")
    generate(60, 600, seed=21, out=folder, events_per_file=600)
    lines = (folder / "part-00000.jsonl").read_bytes().splitlines(keepends=True)
    lines += [json.dumps(e).encode() + b"\n" for e in crafted()]
    return [b"".join(lines[i::3]) for i in range(3)]


def streamed(folder: Path, files: list[bytes], policy: Policy) -> DirectLake:
    world = DirectLake(folder, policy)
    for content in files:
        world.feed(content)
    return world


@pytest.fixture(scope="module")
def original(tmp_path_factory, files) -> DirectLake:
    world = streamed(tmp_path_factory.mktemp("original") / "lake", files, BASE)
    world.processor.compact()
    return world


@pytest.fixture
def world(tmp_path, original) -> DirectLake:
    """A copy of the lake, to do something to."""
    shutil.copytree(original.path, tmp_path / "lake")
    copy = DirectLake(tmp_path / "lake", BASE)
    copy.batches = original.batches
    return copy


def versions(world: DirectLake) -> dict[str, int]:
    return {spec.full_name: world.lake.version(spec) for spec in with_hot_parts(ALL)}


def everything(world: DirectLake) -> dict[str, list[str]]:
    """Every column of every table but ops.batches, minted ids and provenance included."""
    tables = (spec for spec in ALL if spec is not BATCHES)
    return {spec.full_name: sorted(map(repr, world.rows(spec))) for spec in tables}


def people_by_id(world: DirectLake) -> dict[int, set[int]]:
    found = defaultdict(set)
    for row in world.rows(IDENTITY_MAP, ["node_id", "canonical_id"]):
        found[row["canonical_id"]].add(row["node_id"])
    return found


def no_spark():
    raise AssertionError("this lake is small enough to do without")


def apply(world: DirectLake, policy: Policy):
    """Rebuild and go on under that policy; what was done and what had been planned."""
    plans = []

    def confirm(plan) -> bool:
        plans.append(plan)
        return True

    done = rebuild(world.path, policy, world.settings, spark=no_spark, confirm=confirm)
    world.restart(policy)
    assert done.effects == plans[0].effects.as_dict()
    return plans[0]


def plan_of(world: DirectLake, policy: Policy):
    """A context: the plan, and by which rules."""
    return planned(world.lake, policy, world.settings, no_spark)


def test_a_rebuild_under_the_same_policy_changes_nothing_at_all(world, monkeypatch):
    # Portions smaller than a batch of the lake are whole batches: three of them.
    monkeypatch.setattr("pipelines.operations.rebuild.read_again.RECORDS_AT_ONCE", 10)
    before, before_versions = everything(world), versions(world)
    plan = apply(world, BASE)
    assert not plan.changes.appended
    assert not plan.changes.replaced
    assert everything(world) == before
    moved = {name for name, v in versions(world).items() if v != before_versions[name]}
    assert moved == {"ops.batches"}
    last = max(world.rows(BATCHES), key=lambda b: b["batch_id"])
    assert (last["kind"], last["received_count"]) == ("rebuild", 0)


@pytest.mark.parametrize(
    "name",
    [ALWAYS, *(pytest.param(n, marks=pytest.mark.slow) for n in (*TOGETHER, *POLICIES) if n != ALWAYS)],
)
def test_a_lake_under_another_policy_is_the_fresh_lake_and_ids_stay(tmp_path, files, world, name):
    policy = POLICIES.get(name) or TOGETHER[name]
    before, log_before = people_by_id(world), len(world.rows(IDENTITY_LOG))
    contents_before = world.contents()
    plan = apply(world, policy)
    fresh = streamed(tmp_path / "fresh", files, policy)
    assert world.contents() != contents_before
    assert world.contents() == fresh.contents()
    sides = [
        {spec: published(w.lake).arrow(spec) for spec in COMPARED if w.lake.has(spec)} for w in (world, fresh)
    ]
    assert all(d.is_equal for d in compare_states(*sides))

    after = people_by_id(world)
    redirects = {r["retired_canonical_id"]: r["canonical_id"] for r in world.rows(IDENTITY_REDIRECTS)}
    assert all(to in after and retired not in after for retired, to in redirects.items())
    for person, nodes in before.items():
        largest = max(len(nodes & group) for group in after.values())
        heir = person if person in after else redirects.get(person)
        assert (heir is None and largest == 0) or len(nodes & after[heir]) == largest
    owner_before = {n: p for p, nodes in before.items() for n in nodes}
    owner_after = {n: p for p, nodes in after.items() for n in nodes}
    changed = {
        n: (owner_before.get(n), owner_after.get(n, 0))
        for n in owner_before.keys() | owner_after.keys()
        if owner_before.get(n) != owner_after.get(n)
    }
    log = [r for r in world.rows(IDENTITY_LOG) if r["cause"] == "rebuild"]
    assert {r["node_id"]: (r["from_canonical_id"], r["to_canonical_id"]) for r in log} == changed
    assert len(world.rows(IDENTITY_LOG)) == log_before + len(log)
    # What the plan says is what the tables show.
    effects = plan.effects
    assert effects.profile_count_after == len(world.rows(PROFILES))
    assert effects.session_count_after == len(world.rows(SESSIONS))
    assert effects.valid_count_after == len(world.rows(EVENTS))
    persons = [p for p, nodes in after.items() if any(n > 0 for n in nodes)]
    assert effects.person_count_after == len(persons)
    assert effects.moved_identifier_count == sum(1 for n, (a, b) in changed.items() if n > 0 and a and b)


@pytest.mark.slow
def test_identifiers_that_come_back_find_their_old_ids(world):
    """A namespace that is weak for a while: its identifiers leave the map, and come back as whose they were."""
    before = world.contents()
    persons = people_by_id(world)
    alone = {p: nodes for p, nodes in persons.items() if len(nodes) == 1}
    apply(world, POLICIES["devices that are weak"])
    apply(world, BASE)
    assert world.contents() == before
    after = people_by_id(world)
    assert all(after.get(p) == nodes for p, nodes in alone.items() if min(nodes) > 0)


class Broken(DeltaRsWriter):
    """A writer that dies before its n-th write."""

    def __init__(self, lake, writes: int) -> None:
        super().__init__(lake)
        self.left = writes

    def append(self, spec, rows, txn: Txn) -> int:
        self.use_up()
        return super().append(spec, rows, txn)

    def fold(self, spec, upto_batch_id: int) -> int:
        self.use_up()
        return super().fold(spec, upto_batch_id)

    def use_up(self) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1


@pytest.mark.slow  # once per write
def test_broken_off_anywhere_the_lake_shows_the_former_state_or_the_new_one(
    world, tmp_path, files, monkeypatch
):
    policy = POLICIES["devices that are weak"]
    with plan_of(world, policy) as (plan, rules):
        break_off_everywhere(world, plan, rules, monkeypatch)
    world.restart(policy)
    assert world.contents() == streamed(tmp_path / "fresh", files, policy).contents()


def break_off_everywhere(world, plan, rules, monkeypatch):
    assert plan.changes.replaced
    before = everything(world)
    expected = None
    done = False
    for writes in range(40):
        writer = Broken(world.lake, writes)

        def replace_or_die(lake, spec, rows, txn, writer=writer):
            writer.use_up()
            return replace_rows(lake, spec, rows, txn)

        monkeypatch.setattr("pipelines.operations.rebuild.rebuild.replace_rows", replace_or_die)
        try:
            publish_rebuild(plan, rules, writer)
            done = True
        except KeyboardInterrupt:
            pass
        snapshot = published(world.lake)
        if snapshot.batch_id == plan.snapshot.batch_id:
            assert everything(world) == before, writes
            assert take_back_unfinished(world.lake, snapshot)
            for spec in ALL:
                if spec.write == "upsert":
                    assert not any(
                        r["updated_batch_id"] > snapshot.batch_id
                        for r in world.lake.open(spec.hot).to_pyarrow_table().to_pylist()
                    )
            continue
        assert not take_back_unfinished(world.lake, snapshot)
        expected = expected or everything(world)
        assert everything(world) == expected, writes
        break
    else:
        pytest.fail("it was never published")
    assert writes > 5
    assert not done or not (world.path / ATTEMPT).exists()


def test_the_stream_goes_on_after_a_rebuild_and_knows_what_it_has_seen(tmp_path, files):
    policy = POLICIES["devices that are weak"]
    world = streamed(tmp_path / "lake", files[:2], BASE)
    # One that is broken off halfway is taken back by the next holder.
    with plan_of(world, policy) as (plan, rules), pytest.raises(KeyboardInterrupt):
        publish_rebuild(plan, rules, Broken(world.lake, 4))
    assert (world.path / ATTEMPT).exists()
    assert take_back_unfinished(world.lake, published(world.lake))
    assert not (world.path / ATTEMPT).exists()
    world.restart()
    world.feed(files[2])

    apply(world, policy)
    late = [event("late", 500, "login", user_id="two-mails", device_id="tablet")]
    world.feed(late)
    world.feed(files[0])
    fresh = streamed(tmp_path / "fresh", files, policy)
    fresh.feed(late)
    fresh.feed(files[0])
    assert world.contents() == fresh.contents()
    batches = sorted(world.rows(BATCHES), key=lambda b: b["batch_id"])
    assert len({b["batch_id"] for b in batches}) == len(batches)
    again = [b for b in batches if b["kind"] == "batch"][-1]
    assert again["valid_count"] == 0


def test_a_half_written_batch_of_the_stream_is_finished_first(tmp_path, monkeypatch):
    world = DirectLake(tmp_path / "lake")
    world.feed([event("a", 0, cookie_id="c1")], name="2.jsonl")
    # Sorted by name this file would come first, and its `a` would win.
    then = [event("b", 0, cookie_id="c2"), event("a", 0, cookie_id="c3")]
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stream.batch.steps.publication_row", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.feed(then, name="1.jsonl")
    with pytest.raises(RebuildRefused, match="half-written"):
        apply(world, world.policy)
    world.feed(then, name="1.jsonl")
    before = everything(world)
    assert not apply(world, world.policy).changes.appended
    assert everything(world) == before


def test_records_that_are_several_events_are_rebuilt_once(tmp_path):
    mapping = tmp_path / "envelope.yaml"
    mapping.write_text(
        "fields: {event_id: id, timestamp: at, event_type: type}\n"
        "identifiers: {fields: {user_id: user, cookie_id: cookie}}\nexplode: events\n"
    )
    at = "2026-03-01T10:00:00Z"
    events = [{"id": f"e{i}", "at": at, "user": f"u{i % 2}", "cookie": f"c{i}"} for i in range(4)]
    conflict = {**events[0], "type": "login"}
    world = DirectLake(tmp_path / "lake", mappings=(str(mapping),))
    world.feed([{"events": events[:2]}, {"events": [*events[2:], {}, conflict]}], str(mapping))
    before = everything(world)
    plan = apply(world, world.policy)
    assert (plan.counts["valid_count"], plan.counts["quarantined_count"]) == (4, 2)
    assert everything(world) == before


def test_a_dry_run_writes_nothing_and_says_what_the_rebuild_then_does(world, tmp_path, capsys):
    (tmp_path / "new.yaml").write_text(
        "namespaces:\n  user_id: {strength: unique, priority: 1}\n"
        "  email: {strength: strong, limit: 5, priority: 2, normalize: email}\n"
        "  cookie_id: {strength: device, priority: 11}\n"
        "  device_id: {strength: weak, priority: 12}\n"
    )
    before = versions(world)
    listing = sorted(p for p in world.path.rglob("*"))
    options = ["--policy", str(tmp_path / "new.yaml"), "--lake", str(world.path)]
    assert main(["rebuild", "--dry-run", "--json", *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(["resolve", "--dry-run", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert main(["rebuild", "--dry-run", "--show-identifiers", *options]) == 0
    shown = capsys.readouterr().out
    assert main(["rebuild", "--dry-run", "--lake", str(world.path)]) == 1  # which policy?
    assert "--policy" in capsys.readouterr().err
    assert versions(world) == before
    assert sorted(p for p in world.path.rglob("*") if p.name != "side") == listing
    assert "persons" in shown
    assert "device_id:" in shown
    assert any(e["session_count"] for e in said["largest"] if e["effect"] == "gone")
    assert not any("identifiers" in effect for effect in said["largest"])
    assert 0 < len(said["largest"]) <= 10

    assert main(["rebuild", *options]) == 2  # nobody to ask
    assert versions(world) == before
    assert main(["rebuild", "--yes", "--json", *options]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {**said, "is_dry_run": False}
    assert len(world.rows(PROFILES)) == said["profile_count_after"]
    assert len(world.rows(SESSIONS)) == said["session_count_after"]
    assert len(world.rows(EVENTS)) == said["valid_count_after"]
