"""The scores are what one computes by hand, the truth scores 1, and simpler methods visibly fail."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy.pairs import (
    Assignment,
    Truth,
    event_scores,
    pair_scores,
    read_truth,
    score,
    whole_persons,
)
from benchmarks.accuracy.scoring import (
    Measurement,
    as_rows,
    exact_people,
    measure,
    measure_baselines,
    report,
)
from conf.policy import load_policy
from pipelines.generator import generate
from tests.examples import examples
from transforms.ingest.values.normalize import BLOCKED, usable

TENANT = "default"
AT = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class SmallWorld:
    truth: Truth
    events: pa.Table
    identifiers: pa.Table
    perfect: Assignment
    profiles: pa.Table
    baselines: dict[str, Measurement]

    def of(self, baseline: str) -> Measurement:
        return self.baselines[baseline]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    folder = tmp_path_factory.mktemp("world")
    generate(400, 4_000, 7, folder / "events", truth=folder / "truth.jsonl")
    truth = read_truth(folder / "truth.jsonl")
    events, identifiers = parse(sorted((folder / "events").iterdir()))
    return SmallWorld(
        truth,
        events,
        identifiers,
        Assignment("stitchlake", *(of_first_person(items) for items in (truth.identifiers, truth.events))),
        profiles_of(truth),
        {one.name: one for one in measure_baselines(truth, events, identifiers)},
    )


def parse(files: list[Path]) -> tuple[pa.Table, pa.Table]:
    """Events and identifiers as silver has them, read by the rules that matter here."""
    policy = load_policy()
    priority = {n.name: (n.strength != "device", n.priority) for n in policy.namespaces if n.is_linking}
    nodes: dict[tuple[str, str], int] = {}
    events: dict[str, dict] = {}
    for line in (line for file in files for line in file.read_bytes().splitlines()):
        try:
            record = json.loads(line)
            at = instant(record["timestamp"])
            shown = record["identifiers"]
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
        pairs = [(k, normal(k, v)) for k, v in shown.items() if k in priority]
        pairs = [(k, v) for k, v in pairs if not is_junk(policy, v)]
        if not pairs or not 1990 <= at.year < 2100:
            continue
        number = {key: nodes.setdefault((key, value), len(nodes) + 2**60) for key, value in pairs}
        events[record["event_id"]] = {
            "tenant": TENANT,
            "event_id": record["event_id"],
            "event_at": at,
            "platform": record["platform"],
            "anchor_node_id": number[min(number, key=priority.__getitem__)],
            "user_node_id": number.get("user_id"),
            "node_ids": list(number.values()),
        }
    rows = [{"tenant": TENANT, "node_id": n, "namespace": k, "value": v} for (k, v), n in nodes.items()]
    return pa.Table.from_pylist(list(events.values())), pa.Table.from_pylist(rows)


def instant(value: object) -> datetime:
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000 if value > 10**11 else value, UTC)
    return datetime.fromisoformat(value).astimezone(UTC)


def normal(namespace: str, value: str) -> str:
    return value.strip().lower() if namespace == "email" else value.strip()


def is_junk(policy, value: str) -> bool:
    return usable(value, "user_id", policy)[1] == BLOCKED


def of_first_person(items: pa.Table) -> pa.Table:
    """The truth as an assignment; a shared identifier goes to the first of its persons."""
    if "persons" in items.column_names:
        items = items.append_column("person", pc.list_element(items["persons"], 0)).drop_columns("persons")
    return items.rename_columns(["canonical_id" if name == "person" else name for name in items.column_names])


def profiles_of(truth: Truth) -> pa.Table:
    return truth.persons.append_column("canonical_id", truth.persons["person"])


def replaced(table: pa.Table, column: str, rows: pa.ChunkedArray, value: object) -> pa.Table:
    new = pc.if_else(rows, pa.scalar(value, table[column].type), table[column])
    return table.set_column(table.column_names.index(column), column, new)


def names_of(truth: Truth, group: str) -> list[str]:
    return truth.persons.filter(pc.equal(truth.persons["group"], group))["person"].to_pylist()


# A truth to compute by hand: anna has 3 identifiers, bert 2, the tablet is both's.
#     anna ── a1 a2 a3      bert ── b1 b2      anna, bert ── tablet
@pytest.fixture
def tiny(tmp_path: Path) -> Truth:
    def person(name: str, group: str) -> dict:
        counts = "session anonymous_session anonymous_session_count_before_first_login authenticated_session"
        return {
            "record": "person",
            "person": name,
            "group": group,
            "platforms": ["web"],
            "login_count": 0,
        } | {count if "_count" in count else f"{count}_count": 1 for count in counts.split()}

    def identifier(value: str, *persons: str) -> dict:
        return {"record": "identifier", "tenant": TENANT, "namespace": "cookie_id", "value": value} | {
            "persons": persons
        }

    def event(event_id: str, name: str) -> dict:
        return {"record": "event", "tenant": TENANT, "event_id": event_id, "person": name}

    records = [person("p000001", "connected"), person("p000002", "shared_household")]
    records += [identifier(value, "p000001") for value in ("a1", "a2", "a3")]
    records += [identifier(value, "p000002") for value in ("b1", "b2")]
    records += [identifier("tablet", "p000001", "p000002")]
    records += [event("e1", "p000001"), event("e2", "p000001"), event("e3", "p000002")]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_truth(tmp_path / "truth.jsonl")


def owners(**canonical_ids: int | None) -> pa.Table:
    schema = pa.schema(
        [(n, pa.string()) for n in ("tenant", "namespace", "value")] + [("canonical_id", pa.int64())]
    )
    rows = [
        dict(zip(schema.names, (TENANT, "cookie_id", *item), strict=True)) for item in canonical_ids.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def event_owners(**canonical_ids: int | None) -> pa.Table:
    rows = [{"tenant": TENANT, "event_id": e, "canonical_id": c} for e, c in canonical_ids.items()]
    return pa.Table.from_pylist(rows)


def test_two_merged_persons_cost_precision_by_the_pairs_across_them(tiny):
    scores = pair_scores(tiny, Assignment("merged", owners(a1=1, a2=1, a3=1, b1=1, b2=1, tablet=1)))
    assert (scores.overall.true_pair_count, scores.overall.claimed_pair_count) == (3 + 1, 10)
    assert scores.overall.pair_precision == pytest.approx(4 / 10)
    assert scores.overall.pair_recall == 1
    assert scores.overall.bcubed_precision == pytest.approx((3 * 3 / 5 + 2 * 2 / 5) / 5)
    # The group's claims are all pairs that touch bert: his own and the six across.
    assert scores.by_group["shared_household"].pair_precision == pytest.approx(1 / 7)
    assert scores.by_group["connected"].pair_precision == pytest.approx(3 / 9)


def test_one_split_person_costs_recall_by_the_pairs_torn_apart(tiny):
    scores = pair_scores(tiny, Assignment("split", owners(a1=1, a2=1, a3=3, b1=2, b2=2, tablet=2)))
    assert scores.overall.pair_precision == 1
    assert scores.overall.pair_recall == pytest.approx(2 / 4)
    assert scores.overall.bcubed_recall == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1) / 5)
    assert scores.by_group["shared_household"].pair_recall == 1
    assert scores.by_group["connected"].pair_recall == pytest.approx(1 / 3)


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20), st.sets(st.integers(0, 4)))
def test_counting_overlaps_gives_what_listing_every_pair_gives(items, counted_persons):
    persons, clusters = (np.array([item[side] for item in items], dtype=np.int64) for side in (0, 1))
    found = score(persons, clusters, np.isin(persons, list(counted_persons)))
    pairs = [pair for pair in combinations(items, 2) if counted_persons & {person for person, _ in pair}]
    true = [pair for pair in pairs if pair[0][0] == pair[1][0]]
    assert found.true_pair_count == len(true)
    assert found.claimed_pair_count == sum(left[1] == right[1] for left, right in pairs)
    assert found.right_pair_count == sum(left[1] == right[1] for left, right in true)


def test_a_shared_identifier_is_left_out_of_the_pairs_whoever_is_given_it(tiny):
    given_to = [
        pair_scores(tiny, Assignment("", owners(a1=1, a2=1, a3=1, b1=2, b2=2, tablet=c))) for c in (1, 2, 9)
    ]
    assert {scores.overall for scores in given_to} == {given_to[0].overall}
    assert given_to[0].overall.item_count == 5
    assert given_to[0].shared_count == 1


def test_what_is_given_to_nobody_or_left_out_stands_alone_and_what_truth_does_not_know_is_counted(tiny):
    scores = pair_scores(tiny, Assignment("", owners(a1=1, a2=None, b1=None, b2=2, x=2)))
    assert scores.overall.claimed_pair_count == 0
    assert scores.overall.pair_recall == 0
    assert (scores.unowned_count, scores.unknown_count) == (3, 1)


def test_events_are_scored_by_their_one_true_person(tiny):
    scores = event_scores(tiny, Assignment("", owners(), event_owners(e1=1, e2=2, e3=2)))
    assert (scores.overall.pair_precision, scores.overall.pair_recall) == (0, 0)
    assert scores.overall.bcubed_recall == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_a_person_is_whole_only_if_her_events_are_with_her_identifiers(tiny):
    everything = owners(a1=1, a2=1, a3=1, b1=2, b2=2)
    assert whole_persons(tiny, Assignment("", everything, event_owners(e1=1, e2=1, e3=2))).tolist() == [
        True,
        True,
    ]
    assert whole_persons(tiny, Assignment("", everything, event_owners(e1=1, e2=7, e3=2))).tolist() == [
        False,
        True,
    ]
    assert whole_persons(tiny, Assignment("", everything, event_owners(e1=1, e2=1, e3=1))).tolist() == [
        False,
        False,
    ]


def test_an_identifier_named_twice_is_refused(tiny):
    twice = pa.concat_tables([owners(a1=1), owners(a1=2)])
    with pytest.raises(ValueError, match="more than once"):
        pair_scores(tiny, Assignment("", twice))


def test_the_truth_itself_scores_one_everywhere(world):
    found = measure(world.truth, world.perfect, world.profiles)
    for scores in (found.identifiers, found.events):
        for part in (scores.overall, *scores.by_group.values()):
            assert (part.pair_precision, part.pair_recall) == (1, 1)
            assert (part.bcubed_precision, part.bcubed_recall) == (pytest.approx(1), pytest.approx(1))
        assert (scores.unowned_count, scores.unknown_count) == (0, 0)
    assert found.whole_count == found.person_count == 280 + 56
    assert found.exact.is_exact
    assert found.exact.mismatches == {}


def test_both_cohort_questions_have_answers_to_compare(world):
    cohorts = measure(world.truth, world.perfect, world.profiles).cohorts
    assert all(cohort.truth_count > 5 and cohort.is_equal for cohort in cohorts)


def test_the_parsed_events_are_those_of_the_truth(world):
    assert set(world.events["event_id"].to_pylist()) == set(world.truth.events["event_id"].to_pylist())
    assert len(world.identifiers) == len(world.truth.identifiers)


def test_wrong_values_are_counted_by_column_with_the_persons_labels(world):
    hers = names_of(world.truth, "connected")[:7]
    wrong = replaced(world.profiles, "session_count", pc.is_in(world.profiles["person"], pa.array(hers)), 999)
    wrong = replaced(wrong, "first_login_at", pc.equal(wrong["person"], hers[0]), None)
    found = exact_people(world.truth, world.perfect.owners, wrong)
    assert {name: mismatch.count for name, mismatch in found.mismatches.items()} == {
        "session_count": 7,
        "first_login_at": 1,
    }
    assert found.mismatches["session_count"].examples == tuple(hers[:5])
    assert found.one_profile_count - found.exact_count == 7


def test_the_order_of_platforms_and_the_spelling_of_instants_do_not_matter(world):
    platforms = pa.array([used[::-1] for used in world.profiles["platforms"].to_pylist()])
    other = world.profiles.set_column(world.profiles.column_names.index("platforms"), "platforms", platforms)
    place = other.column_names.index("last_seen_at")
    other = other.set_column(place, "last_seen_at", other["last_seen_at"].cast(pa.timestamp("ns", "UTC")))
    assert exact_people(world.truth, world.perfect.owners, other).is_exact


def test_merged_split_missing_and_repeated_profiles_are_told_apart(world):
    merged, into, split, missing, repeated = names_of(world.truth, "connected")[:5]
    believed = world.perfect.owners
    believed = replaced(believed, "canonical_id", pc.equal(believed["canonical_id"], merged), into)
    first_of_split = pc.index(believed["canonical_id"], split).as_py()
    is_first = pa.chunked_array([[row == first_of_split for row in range(len(believed))]])
    believed = replaced(believed, "canonical_id", is_first, "p999999")
    profiles = world.profiles.filter(pc.not_equal(world.profiles["person"], missing))
    profiles = pa.concat_tables([profiles, profiles.filter(pc.equal(profiles["person"], repeated))])
    found = exact_people(world.truth, believed, profiles)
    assert {name: (mismatch.count, mismatch.examples) for name, mismatch in found.mismatches.items()} == {
        "merged": (2, (merged, into)),
        "split": (1, (split,)),
        "profile_missing": (1, (missing,)),
        "profile_repeated": (1, (repeated,)),
    }
    assert found.one_profile_count == found.person_count - 5
    assert not found.is_exact


def test_an_identifier_that_the_truth_does_not_know_spoils_its_person(world):
    hers = names_of(world.truth, "connected")[0]
    junk = {"tenant": TENANT, "namespace": "user_id", "value": "null", "canonical_id": hers}
    believed = world.perfect.owners
    believed = pa.concat_tables([believed, pa.Table.from_pylist([junk], schema=believed.schema)])
    assert exact_people(world.truth, believed, world.profiles).mismatches["merged"].examples == (hers,)


def test_a_wrong_cohort_answer_names_who_is_missing_and_who_is_surplus(world):
    used_mobile = pc.and_(
        world.truth.persons["is_identified"], pc.equal(world.truth.persons["group"], "connected")
    )
    nobody = replaced(world.profiles, "login_count", used_mobile, 0)
    mobile, three = exact_people(world.truth, world.perfect.owners, nobody).cohorts
    assert mobile.missing.count == mobile.truth_count > 0
    assert three.missing.count == three.truth_count > 0
    everybody = replaced(world.profiles, "anonymous_session_count_before_first_login", used_mobile, 3)
    _, three = exact_people(world.truth, world.perfect.owners, everybody).cohorts
    assert three.surplus.count == three.profile_count - three.truth_count > 0
    assert not three.is_equal


def test_group_by_user_id_leaves_the_anonymous_history_behind(world):
    found = world.of("group_by_user_id")
    assert found.events.by_group["connected"].pair_recall < 0.8
    assert found.whole_count < found.person_count / 2
    cohort = found.cohorts[1]
    assert cohort.profile_count == 0 < cohort.truth_count


def test_last_login_wins_gives_a_kiosks_history_to_the_wrong_person(world):
    found = world.of("last_login_wins")
    assert found.events.by_group["shared_household"].pair_precision < 1
    assert found.identifiers.by_group["connected"].pair_recall < 1
    assert found.whole_count < found.person_count


def test_plain_connected_components_glue_the_visitors_of_a_kiosk_together(world):
    found = world.of("plain_connected_components")
    assert found.identifiers.by_group["shared_kiosk"].pair_precision < 0.3
    assert found.events.by_group["shared_kiosk"].pair_precision < 0.3
    assert found.identifiers.overall.pair_precision < 0.95
    # Where nothing is shared, it is as good as any method, the cohort answers included.
    assert found.identifiers.by_group["connected"].pair_recall == 1
    assert found.whole_count == found.person_count
    assert all(cohort.is_equal for cohort in found.cohorts)
    assert found.whole_by_group["shared_kiosk"] == (0, 12)


def test_no_method_ties_what_never_met(world):
    assert all(one.identifiers.by_group["unconnected"].pair_recall < 1 for one in world.baselines.values())


def test_the_report_shows_every_method_and_group_and_no_identifier(world):
    text = report([measure(world.truth, world.perfect, world.profiles), *world.baselines.values()])
    for word in ("stitchlake", *world.baselines, *set(world.truth.persons["group"].to_pylist())):
        assert word in text
    assert "identifiers of several persons" in text
    assert not any(value in text for value in world.identifiers["value"].to_pylist())


def test_rows_are_plain_names_numbers_and_units_that_json_can_write(world):
    rows = as_rows([measure(world.truth, world.perfect, world.profiles), *world.baselines.values()])
    assert all(set(row) == {"name", "value", "unit"} for row in json.loads(json.dumps(rows)))
    values = {row["name"]: row["value"] for row in rows}
    assert len(values) == len(rows)
    assert values["accuracy.stitchlake.identifiers.all.pair_precision"] == 1
    assert values["accuracy.plain_connected_components.events.shared_kiosk.pair_precision"] < 0.3
    assert values["accuracy.stitchlake.persons.exact_count"] == 336
