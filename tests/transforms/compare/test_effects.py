"""What another policy does to people, and whether two sets of tables say the same: on tables drawn by hand."""

from __future__ import annotations

import pyarrow as pa

from conf.table_spec import TableSpec
from conf.tables import EVENTS, IDENTITY_MAP, PROFILES, QUARANTINE, REJECTED_EDGES, SESSIONS
from tests.pipelines.lake_rows import rows_of
from transforms.compare.compared import compare
from transforms.compare.effects import Effects, effects_of
from transforms.compare.reconciliation import compare_states

Tables = dict[TableSpec, pa.Table]


def tables(people: dict[int, list[int]], sessions: dict[int, int] | None = None, events: int = 0) -> Tables:
    """people: canonical id → its nodes; sessions: session → its owner's node. A profile counts its person's nodes."""
    owners = [{"canonical_id": p, "node_id": n} for p, nodes in people.items() for n in nodes]
    profiles = [
        {"canonical_id": p, "event_count": len(nodes), "platforms": []} for p, nodes in people.items()
    ]
    same = {
        "tenant": "default",
        "namespace": "x",
        "component_id": 1,
        "first_canonical_id": 1,
        "host_node_id": None,
    }
    fixed = {"is_shared": False, "is_hub": False, "since_at": None, "updated_batch_id": 1}
    return {
        IDENTITY_MAP: rows_of(IDENTITY_MAP, *(same | fixed | row for row in owners)),
        PROFILES: pa.Table.from_pylist(
            [dict.fromkeys(PROFILES.names) | {"tenant": "default", "updated_batch_id": 1} | row for row in profiles],
            schema=PROFILES.arrow,
        ),
        SESSIONS: pa.Table.from_pylist(
            [
                dict.fromkeys(SESSIONS.names)
                | {"tenant": "default", "updated_batch_id": 1, "start_at": 0, "end_at": 0}
                | {"session_id": s, "anchor_node_id": n, "owner_node_id": n}
                for s, n in (sessions or {}).items()
            ],
            schema=SESSIONS.arrow,
        ),
        EVENTS: rows_of(EVENTS, *({"event_id": str(i)} for i in range(events))),
        QUARANTINE: QUARANTINE.arrow.empty_table(),
        REJECTED_EDGES: REJECTED_EDGES.arrow.empty_table(),
    }  # fmt: skip


def effects(before: Tables, after: Tables) -> Effects:
    compared = {}
    for spec, rows in before.items():
        columns = [c for c in spec.names if c not in (*spec.key, "batch_id", "updated_batch_id")]
        compared[spec] = compare(rows, after[spec], spec.key, columns)
    return effects_of(before, after, compared)


def test_persons_that_merge_split_and_go_are_counted_with_what_moves():
    before = tables({7: [1, 2, 3, 4], 8: [5], 9: [6], 10: [-1]}, {100: 4, 101: 5, 102: 6, 103: 1}, events=5)
    after = tables({7: [1, 2, 5], 20: [3, 4], 10: [-1], 21: [8]}, {100: 4, 101: 5, 103: 1}, events=3)
    found = effects(before, after)
    assert (found.person_count_before, found.person_count_after) == (3, 3)  # what is unclaimed is nobody
    assert (found.merged_person_count, found.split_person_count, found.gone_person_count) == (1, 1, 1)
    assert (found.moved_identifier_count, found.new_identifier_count, found.gone_identifier_count) == (
        3,
        1,
        1,
    )
    assert (found.session_owner_change_count, found.gone_session_count) == (2, 1)
    assert (found.no_longer_valid_count, found.newly_valid_count) == (2, 0)
    assert found.changed_profile_columns == {"event_count": 1}
    shown = [(e.effect, e.canonical_id, e.others, e.identifier_count, e.session_count) for e in found.largest]
    assert shown == [("split", 7, (20,), 2, 1), ("merge", 7, (8,), 1, 1), ("gone", 9, (), 1, 1)]
    assert found.largest[0].node_ids == (3, 4)
    assert "node_ids" not in found.as_dict()["largest"][0]


def test_a_person_that_only_moves_to_another_id_is_no_split():
    found = effects(tables({7: [1, 2]}), tables({8: [1, 2]}))
    assert (found.split_person_count, found.merged_person_count, found.moved_identifier_count) == (0, 1, 2)


def test_two_states_are_the_same_up_to_the_ids_of_persons():
    left, right = tables({7: [1, 2], 8: [3]}, {100: 1}), tables({70: [3], 80: [1, 2]}, {100: 1})
    assert all(d.is_equal for d in compare_states(left, right))


def test_states_that_differ_say_in_which_table_and_column():
    left, right = tables({7: [1, 2], 8: [3]}, {100: 1, 101: 2}), tables({7: [1], 8: [2, 3]}, {100: 1, 102: 2})
    found = {d.table: d for d in compare_states(left, right) if not d.is_equal}
    assert set(found) == {"silver.identity_map", "silver.sessions", "gold.profiles"}
    assert found["silver.identity_map"].changed_columns == {"person": 2}
    assert (found["silver.sessions"].left_only_count, found["silver.sessions"].right_only_count) == (1, 1)
    profiles = found["gold.profiles"]
    assert (profiles.changed_columns, profiles.left_only_count) == ({"event_count": 1}, 1)
