"""Whose an event is, by the identifiers that link: its user, its anchor, and the nodes that claim it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from transforms.arrays.grouped import changes, offsets
from transforms.arrays.integers import Flags, Longs, distinct_first
from transforms.ingest.parsed_schema import Made, Mentions, kind_of
from transforms.ingest.subject import Node

WEAK, DEVICE, UNIQUE, STRONG = range(4)
STRENGTHS = {"weak": WEAK, "device": DEVICE, "unique": UNIQUE, "strong": STRONG}
_NAMESPACE = Node._fields.index("namespace")  # by place is twice as fast


class LinkingNodes(NamedTuple):
    """The nodes of many records that link, without weak ones that are attached. The record of each, ascending; in a
    record the best node first; its id; its strength, a value of STRENGTHS; its namespace, a place among `names`."""

    record: Longs
    node_id: Longs
    strength: Longs
    namespace: Longs
    names: Sequence[str]


def linking_nodes(counts: Sequence[int], mentions: Mentions, strengths: Mapping[str, str]) -> LinkingNodes:
    """The linking nodes among the `mentions` of records: of each record the first ones, so many as `counts` says.

    `strengths`: of the policy's namespaces.
    """
    begins = np.searchsorted(mentions.record, np.arange(len(counts)))
    rank = np.arange(len(mentions.record)) - begins[mentions.record]
    chosen = np.flatnonzero(rank < np.array(counts, np.int64)[mentions.record])
    place = {name: at for at, name in enumerate(strengths)}
    namespaces = map(itemgetter(_NAMESPACE), mentions.nodes)
    spaces = np.array([place.get(name, -1) for name in namespaces], np.int64)[chosen]
    of_names = np.array([STRENGTHS.get(strength, WEAK) for strength in strengths.values()], np.int64)
    return LinkingNodes(
        mentions.record[chosen], mentions.node_id[chosen], of_names[spaces], spaces, list(strengths)
    )


def subject_columns(nodes: LinkingNodes, unique: frozenset[str], count: int) -> Made:
    """`user_node_id`, `anchor_node_id` and `claims` of records 0 … count-1; null where a record has none.

    `unique`: the unique namespaces of a policy that has several; else none.
    """
    user, anchor = _users_and_anchors(nodes, count)
    return {"user_node_id": user, "anchor_node_id": anchor, "claims": _claims(nodes, unique, count)}


def _users_and_anchors(nodes: LinkingNodes, count: int) -> tuple[pa.Array, pa.Array]:
    """The node that authenticates an event: its best unique one. The node whose run of activity it belongs to: its best
    device, else its best node."""
    user, has_user = _best(nodes, nodes.strength == UNIQUE, count)
    device, has_device = _best(nodes, nodes.strength == DEVICE, count)
    best, has_any = _best(nodes, np.ones(len(nodes.record), bool), count)
    return pa.array(user, mask=~has_user), pa.array(np.where(has_device, device, best), mask=~has_any)


def _best(nodes: LinkingNodes, chosen: Flags, count: int) -> tuple[Longs, Flags]:
    """(the best of the chosen nodes of every record, whether there is one)."""
    ids, is_there = np.zeros(count, np.int64), np.zeros(count, bool)
    record, of = nodes.record[chosen], nodes.node_id[chosen]
    begins = changes(record)
    ids[record[begins]], is_there[record[begins]] = of[begins], True
    return ids, is_there


def _claims(nodes: LinkingNodes, unique: frozenset[str], count: int) -> pa.Array:
    """The nodes that could be one person's own, best first: the strong ones, and the best of each namespace in
    `unique`."""
    is_claim = nodes.strength == STRONG
    if unique:
        is_unique = np.array([name in unique for name in nodes.names], bool)
        rows = np.flatnonzero(is_unique[nodes.namespace])
        _, first = distinct_first(nodes.record[rows] * len(nodes.names) + nodes.namespace[rows])
        is_claim[rows[first]] = True
    rows = np.flatnonzero(is_claim)
    kind, record = kind_of("claims"), nodes.record[rows]
    is_none = np.ones(count, bool)
    is_none[record] = False
    namespaces = pa.array(nodes.names, pa.string()).take(pa.array(nodes.namespace[rows]))
    values = pa.StructArray.from_arrays(
        [namespaces, pa.array(nodes.node_id[rows])], fields=list(kind.value_type)
    )
    return pa.ListArray.from_arrays(offsets(record, count), values, type=kind, mask=pa.array(is_none))
