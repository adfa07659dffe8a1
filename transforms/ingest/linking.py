"""Whose an event is, by the identifiers that link: its user, its anchor, and the nodes that claim it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from transforms.arrays.grouped import changes, offsets
from transforms.arrays.integers import Flags, Longs, distinct_first
from transforms.ingest.parsed_schema import Made, kind_of
from transforms.ingest.subject import Node

WEAK, DEVICE, UNIQUE, STRONG = range(4)
STRENGTHS = {"weak": WEAK, "device": DEVICE, "unique": UNIQUE, "strong": STRONG}


class LinkingNodes(NamedTuple):
    """The nodes of many records that link, without weak ones that are attached. The record of each, ascending; in a
    record the best node first; its id; its strength, a value of STRENGTHS; its namespace, a place among `names`."""

    record: Longs
    node_id: Longs
    strength: Longs
    namespace: Longs
    names: Sequence[str]


def linking_nodes(lists: Sequence[Sequence[Node]], names: Sequence[str]) -> LinkingNodes:
    """The linking nodes of records, a list for each. `names`: the policy's namespaces."""
    nodes = [node for some in lists for node in some]
    place = {name: at for at, name in enumerate(names)}
    return LinkingNodes(
        np.repeat(np.arange(len(lists)), [len(some) for some in lists]),
        np.array([node.node_id for node in nodes], np.int64),
        np.array([STRENGTHS[node.strength] for node in nodes], np.int64),
        np.array([place[node.namespace] for node in nodes], np.int64),
        names,
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
