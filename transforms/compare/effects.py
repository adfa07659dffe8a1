"""The effect of another policy: compares the derived tables before and after, as ids and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import TableSpec
from conf.tables import EVENTS, IDENTITY_MAP, PROFILES, QUARANTINE, REJECTED_EDGES, SESSIONS
from transforms.arrays.grouped import Longs, longs
from transforms.compare.compared import Compared

LARGEST = 10
OTHERS_NAMED = 10
NODES_NAMED = 5
MERGE, SPLIT, GONE = "merge", "split", "gone"

Tables = Mapping[TableSpec, pa.Table]


@dataclass(frozen=True)
class Effect:
    """One person to whom much happens. merge: `canonical_id` takes in identifiers of `others`. split: it loses some to
    `others`. gone: it has no identifier left.

    session_count: sessions that are still the same and go from or to it; of one who is gone, all. `node_ids`: a few of
    the identifiers concerned."""

    effect: str
    canonical_id: int
    others: tuple[int, ...]
    other_count: int
    identifier_count: int
    session_count: int
    node_ids: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class Effects:
    """The whole of it. Persons have at least one identifier; `changed_profile_columns`: column → how many profiles."""

    person_count_before: int
    person_count_after: int
    merged_person_count: int
    split_person_count: int
    gone_person_count: int
    moved_identifier_count: int
    new_identifier_count: int
    gone_identifier_count: int
    profile_count_before: int
    profile_count_after: int
    changed_profile_count: int
    changed_profile_columns: dict[str, int]
    session_count_before: int
    session_count_after: int
    new_session_count: int
    gone_session_count: int
    session_owner_change_count: int
    valid_count_before: int
    valid_count_after: int
    newly_valid_count: int
    no_longer_valid_count: int
    quarantined_count_before: int
    quarantined_count_after: int
    quarantine_reasons_before: dict[str, int]
    quarantine_reasons_after: dict[str, int]
    refused_pair_count_before: int
    refused_pair_count_after: int
    largest: tuple[Effect, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the identifiers' node ids."""
        found = asdict(self)
        for effect in found["largest"]:
            del effect["node_ids"]
        return found


def effects_of(before: Tables, after: Tables, compared: Mapping[TableSpec, Compared]) -> Effects:
    """Both sets of derived tables under comparable ids: a person that stays has the same one in both."""
    owners, was, now = _owners(before, after)
    is_there = (was > 0) & (now > 0)
    persons_before, persons_after = np.unique(was[was > 0]), np.unique(now[now > 0])
    lost = np.setdiff1d(persons_before, persons_after)
    gone = np.setdiff1d(persons_before, was[is_there])
    pairs, pair_count = np.unique(np.stack([was[is_there], now[is_there]]), axis=1, return_counts=True)
    parts_of, part_count = np.unique(pairs[0], return_counts=True)
    sessions, profiles, events = compared[SESSIONS], compared[PROFILES], compared[EVENTS]
    session_was, session_now = _session_owners(before, after, sessions)
    held = Counter(_owners_of_sessions(before).tolist())
    return Effects(
        person_count_before=len(persons_before),
        person_count_after=len(persons_after),
        merged_person_count=len(np.setdiff1d(lost, gone)),
        split_person_count=len(parts_of[part_count > 1]),
        gone_person_count=len(gone),
        moved_identifier_count=int((was != now)[is_there].sum()),
        new_identifier_count=int((was == 0).sum()),
        gone_identifier_count=int((now == 0).sum()),
        profile_count_before=before[PROFILES].num_rows,
        profile_count_after=after[PROFILES].num_rows,
        changed_profile_count=int(profiles.is_changed.sum()),
        changed_profile_columns={
            name: int(differs.sum()) for name, differs in profiles.differs.items() if differs.any()
        },
        session_count_before=before[SESSIONS].num_rows,
        session_count_after=after[SESSIONS].num_rows,
        new_session_count=len(sessions.right_only),
        gone_session_count=len(sessions.left_only),
        session_owner_change_count=int((session_was != session_now).sum()),
        valid_count_before=before[EVENTS].num_rows,
        valid_count_after=after[EVENTS].num_rows,
        newly_valid_count=len(events.right_only),
        no_longer_valid_count=len(events.left_only),
        quarantined_count_before=before[QUARANTINE].num_rows,
        quarantined_count_after=after[QUARANTINE].num_rows,
        quarantine_reasons_before=_reasons(before),
        quarantine_reasons_after=_reasons(after),
        refused_pair_count_before=before[REJECTED_EDGES].num_rows,
        refused_pair_count_after=after[REJECTED_EDGES].num_rows,
        largest=_largest(owners, was, now, pairs, pair_count, gone, session_was, session_now, held),
    )


def _owners(before: Tables, after: Tables) -> tuple[Longs, Longs, Longs]:
    """(node, id before, id after), 0 where it is in no map; what anchors left unclaimed is no identifier."""
    columns = []
    for tables in (before, after):
        node, owner = (longs(tables[IDENTITY_MAP][c]) for c in ("node_id", "canonical_id"))
        columns.append((node[node > 0], owner[node > 0]))
    nodes = np.unique(np.concatenate([node for node, _ in columns]))
    owners = []
    for node, owner in columns:
        of_all = np.zeros(len(nodes), np.int64)
        of_all[np.searchsorted(nodes, node)] = owner
        owners.append(of_all)
    return nodes, owners[0], owners[1]


def _session_owners(before: Tables, after: Tables, sessions: Compared) -> tuple[Longs, Longs]:
    """(id before, id after) of every session that is in both."""
    return _owners_of_sessions(before)[sessions.left], _owners_of_sessions(after)[sessions.right]


def _owners_of_sessions(tables: Tables) -> Longs:
    """The person of every session."""
    node, person = (longs(tables[IDENTITY_MAP][c]) for c in ("node_id", "canonical_id"))
    by = np.argsort(node)
    owner = longs(tables[SESSIONS]["owner_node_id"])
    return person[by][np.searchsorted(node[by], owner)] if len(owner) else owner


def _reasons(tables: Tables) -> dict[str, int]:
    found = Counter(pc.list_flatten(tables[QUARANTINE]["reasons"]).to_pylist())
    return dict(sorted(found.items()))


def _largest(
    nodes: Longs,
    was: Longs,
    now: Longs,
    pairs: Longs,
    pair_count: Longs,
    gone: Longs,
    session_was: Longs,
    session_now: Longs,
    sessions_held: Counter[int],
) -> tuple[Effect, ...]:
    """The ten effects on most identifiers and sessions, ties by id."""
    is_moved = pairs[0] != pairs[1]
    from_id, to_id, count = pairs[0][is_moved], pairs[1][is_moved], pair_count[is_moved]
    session_moved = session_was != session_now
    left_by = Counter(session_was[session_moved].tolist())
    come_to = Counter(session_now[session_moved].tolist())
    persons_before, persons_after = set(was.tolist()), set(now.tolist())
    sources, targets = Counter(to_id.tolist()), Counter(from_id.tolist())
    candidates: list[tuple[int, int, str]] = []
    for person, moved in _totals(to_id, count):
        # Several meet here: this one was there already, or more than one came.
        if person in persons_before or sources[person] > 1:
            candidates.append((moved + come_to[person], person, MERGE))
    for person, moved in _totals(from_id, count):
        if person in persons_after or targets[person] > 1:
            candidates.append((moved + left_by[person], person, SPLIT))
    held = Counter(was[np.isin(was, gone)].tolist())
    candidates += [(held[person] + sessions_held[person], person, GONE) for person in gone.tolist()]
    candidates.sort(key=lambda c: (-c[0], c[1], c[2]))

    found = []
    for _, person, effect in candidates[:LARGEST]:
        mine = (now == person) & (was != person) & (was > 0) if effect == MERGE else (was == person)
        if effect == SPLIT:
            mine &= (now != person) & (now > 0)
        others = {MERGE: was, SPLIT: now}.get(effect, np.zeros_like(was))[mine]
        ids, times = np.unique(others[others > 0], return_counts=True)
        ids = ids[np.lexsort((ids, -times))]
        found.append(
            Effect(
                effect,
                int(person),
                tuple(ids[:OTHERS_NAMED].tolist()),
                len(ids),
                int(mine.sum()),
                {MERGE: come_to, SPLIT: left_by, GONE: sessions_held}[effect][int(person)],
                tuple(np.sort(nodes[mine])[:NODES_NAMED].tolist()),
            )
        )
    return tuple(found)


def _totals(ids: Longs, counts: Longs) -> list[tuple[int, int]]:
    unique, inverse = np.unique(ids, return_inverse=True)
    return list(
        zip(unique.tolist(), np.bincount(inverse, counts, len(unique)).astype(int).tolist(), strict=True)
    )
