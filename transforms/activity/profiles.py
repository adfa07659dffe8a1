"""Profiles: one row per person, from the sessions of her nodes and from the nodes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.tables.gold import PLATFORM_FLAGS, PROFILES
from transforms.activity.person_folds import WAYS, fold_sessions
from transforms.arrays.grouped import (
    Longs,
    codes,
    distinct_lists,
    filled,
    longs,
    offsets,
    whole,
)
from transforms.arrays.integers import distinct_first, distinct_pairs, is_ascending, places_in

TOUCH_PARTS = ("source", "medium", "campaign", "referrer")
_COUNTS = ("sum", "sum_before_login")


def fold_profiles(sessions: pa.Table, nodes: pa.Table, policy: Policy, batch_id: int) -> pa.Table:
    """One row is one person: every canonical_id of `nodes` or `sessions`, ascending.

    sessions: all sessions of these persons, as `fold_sessions` takes them. nodes: as `profiles_of` takes them.
    """
    return profiles_of(fold_sessions(sessions), nodes, policy, batch_id)


def profiles_of(folds: pa.Table, nodes: pa.Table, policy: Policy, batch_id: int) -> pa.Table:
    """One row is one person: every canonical_id of `nodes` or `folds`, ascending.

    folds: PERSON_FOLDS of these persons, in any order. nodes: all nodes of these persons, each once: canonical_id,
    tenant, node_id, namespace. A person may have no session (an e-mail only seen in sessions of others), and no
    identifier (an anchor's unclaimed node).
    """
    person_of_fold, person_of_node = longs(folds["canonical_id"]), longs(nodes["canonical_id"])
    both = np.concatenate((person_of_node, person_of_fold))
    persons, first_row = distinct_first(both)
    tenants = pa.concat_arrays([whole(t["tenant"]).cast(pa.string()) for t in (nodes, folds)])
    columns = {
        "tenant": tenants.take(pa.array(first_row)),
        "canonical_id": pa.array(persons),
        **_from_folds(folds, places_in(persons, person_of_fold), len(persons)),
        **_from_nodes(nodes, places_in(persons, person_of_node), len(persons), policy),
        "updated_batch_id": pa.array(np.full(len(persons), batch_id, np.int64)),
    }
    return pa.table(filled(columns, PROFILES.arrow, len(persons)), schema=PROFILES.arrow)


def _from_folds(folds: pa.Table, person: Longs, persons: int) -> dict[str, pa.Array]:
    """The columns that sessions give; of a person without any, counts are 0 and the others empty."""
    row = np.full(persons, -1, np.int64)
    row[person] = np.arange(len(person))
    is_as_it_is = len(person) == persons and is_ascending(person)
    folds = folds if is_as_it_is else folds.take(pa.array(row, mask=row < 0))
    columns: dict[str, pa.Array] = {}
    for name, way in WAYS.items():
        values = whole(folds[name])
        if way in _COUNTS:
            columns[name] = pc.fill_null(values, 0)
        elif way == "uses":
            columns |= _platforms(values, persons)
        elif way in ("first_touch", "last_touch"):
            parts = dict(zip((f.name for f in values.type), values.flatten(), strict=True))
            columns |= {f"{name}_{part}": parts[part] for part in TOUCH_PARTS}
        else:
            columns[name] = values
    return columns


def _platforms(uses: pa.Array, persons: int) -> dict[str, pa.Array]:
    person = np.repeat(np.arange(persons), longs(pc.fill_null(pc.list_value_length(uses), 0)))
    code, platforms = codes(uses.flatten().field("platform"))
    all_used = distinct_lists(person, code, persons, platforms, PROFILES.arrow.field("platforms").type)
    columns = {"platforms": all_used}
    names = platforms.to_pylist()
    for platform in PLATFORM_FLAGS:
        has_used = np.zeros(persons, np.bool_)
        if platform in names:
            has_used[person[code == names.index(platform)]] = True
        columns[f"has_used_{platform}"] = pa.array(has_used)
    return columns


def _from_nodes(nodes: pa.Table, person: Longs, persons: int, policy: Policy) -> dict[str, pa.Array]:
    """Identifiers are counted; an anchor's unclaimed node (negative) is none."""
    code, namespaces = codes(whole(nodes["namespace"]).cast(pa.string()))
    is_identifier = (longs(nodes["node_id"]) > 0) & (code >= 0)
    person, code, count = distinct_pairs(person[is_identifier], code[is_identifier], len(namespaces))
    names = namespaces.to_pylist()

    def count_of(namespace: str) -> pa.Array:
        counts = np.zeros(persons, np.int64)
        if namespace in names:
            is_it = code == names.index(namespace)
            counts[person[is_it]] = count[is_it]
        return pa.array(counts)

    unique = {n.name for n in policy.namespaces if n.strength == "unique"}
    is_unique = np.array([name in unique for name in names], np.bool_)
    is_identified = np.zeros(persons, np.bool_)
    is_identified[person[is_unique[code]]] = True
    counts = pa.MapArray.from_arrays(
        offsets(person, persons),
        namespaces.take(pa.array(code)),
        pa.array(count),
        type=PROFILES.arrow.field("identifier_counts").type,
    )
    return {
        "is_identified": pa.array(is_identified),
        "device_count": count_of("device_id"),
        "cookie_count": count_of("cookie_id"),
        "identifier_counts": counts,
    }
