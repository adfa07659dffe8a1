"""The manual decisions of a lake in memory, found by node and by anchor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.state.keyed_rows import KeyedRows, numpy_of
from transforms.arrays.integers import union
from transforms.identity.apart import Sides
from transforms.identity.evidence import MERGE_CODE, Evidence
from transforms.ingest.decisions import Decision, in_force
from transforms.ingest.values.hashing import decision_key

_LONG = pa.int64()
JOINS = pa.schema([("left", _LONG), ("right", _LONG), ("decided_at", _LONG)])
SIDES = pa.schema([("node", _LONG), ("decision", _LONG), ("side", _LONG)])
ASSIGNMENTS = pa.schema(
    [(n, _LONG) for n in ("anchor_node_id", "start_at", "end_at", "owner_node_id", "place")]
)


@dataclass(frozen=True)
class DecisionChange:
    """What new decisions change: those to write, each with whether it is in force; the touched nodes and anchors."""

    rows: list[tuple[Decision, bool]]
    nodes: np.ndarray
    anchors: np.ndarray


class DecisionState:
    """All decisions, and indexes over those in force."""

    def __init__(self) -> None:
        self._decisions: dict[tuple[str, str], Decision] = {}
        self._in_force: frozenset[tuple[str, str]] = frozenset()
        self._published: dict[tuple[str, str], Decision] | None = None  # before the running batch's decisions
        self._index()

    def __len__(self) -> int:
        return len(self._decisions)

    def load(self, decisions: Iterable[Decision]) -> None:
        """Hold these decisions in place of all others."""
        self._published = None
        self._hold({d.key: d for d in decisions})

    def settle(self) -> None:
        """What was put is published, and stays."""
        self._published = None

    def undo(self) -> None:
        """Take back what was put since `settle` or `load` was last called."""
        if self._published is not None:
            self.load(self._published.values())

    def put(self, decisions: list[Decision]) -> DecisionChange:
        """Take in new decisions, in their order. What an undo touches is what the undone decision touched."""
        if not decisions:
            return DecisionChange([], np.empty(0, np.int64), np.empty(0, np.int64))
        before = self._in_force
        if self._published is None:
            self._published = self._decisions
        self._hold(self._decisions | {d.key: d for d in decisions})
        changed = {d.key for d in decisions} | (before ^ self._in_force)
        touched = [self._decisions[key] for key in sorted(changed)]
        nodes = {n for d in touched for n in d.nodes}
        anchors = {d.anchor for d in touched if d.anchor}
        return DecisionChange(
            [(d, d.key in self._in_force) for d in touched],
            np.array(sorted(nodes), np.int64),
            np.array(sorted(anchors), np.int64),
        )

    def keys(self) -> pa.Table:
        """(event_key, event_key_low, content_digest) of every decision. What is stored may be older, and a key that an
        event has as well."""
        found = [(*decision_key(*key), d.content_digest) for key, d in self._decisions.items()]
        upper, lower, digest = zip(*found, strict=True) if found else ((), (), ())
        columns = {"event_key": upper, "event_key_low": lower, "content_digest": digest}
        return pa.table({name: pa.array(values, _LONG) for name, values in columns.items()})

    def merges_of(self, ids: np.ndarray) -> Evidence:
        """The decided merges with an end in `ids`, as evidence."""
        at = union(self._joins.find("left", ids), self._joins.find("right", ids))
        rows = self._joins.take(at)
        count = rows.num_rows
        decided_at = numpy_of(rows["decided_at"])
        return Evidence(
            left=numpy_of(rows["left"]),
            right=numpy_of(rows["right"]),
            source=np.zeros(count, np.int32),
            kind=np.full(count, MERGE_CODE, np.int32),
            count=np.ones(count, np.int64),
            first_seen=decided_at,
            last_seen=decided_at,
        )

    def sides_of(self, ids: np.ndarray) -> Sides:
        """The sides that decisions in force put these nodes on, one row per node and decision."""
        rows = self._sides.rows("node", ids)
        return Sides(*(numpy_of(c) for c in rows.columns))

    def assignments_of(self, anchors: np.ndarray) -> pa.Table:
        """The decided owners of sessions of `anchors`, ASSIGNMENTS; of several for one session the last counts."""
        return self._assignments.rows("anchor_node_id", anchors).sort_by("place")

    def _hold(self, decisions: dict[tuple[str, str], Decision]) -> None:
        self._decisions = decisions
        self._in_force = in_force(decisions)
        self._index()

    def _index(self) -> None:
        decided = sorted((self._decisions[k] for k in self._in_force), key=lambda d: d.sequence)
        joins = {(min(p), max(p)): d.decided_at for d in reversed(decided) for p in d.joins}
        pairs = [(left, right, at) for (left, right), at in joins.items()]
        sides = [(n, i, side) for i, d in enumerate(decided) for n, side in d.sides]
        assigned = [
            (d.anchor, d.start_at, d.end_at, d.owner or -d.anchor, i)
            for i, d in enumerate(decided)
            if d.kind == "assign"
        ]
        self._joins = _keyed(JOINS, ("left", "right"), pairs)
        self._sides = _keyed(SIDES, ("node",), sides)
        self.assigned_anchors = np.array(sorted({row[0] for row in assigned}), np.int64)
        self._assignments = _keyed(ASSIGNMENTS, ("anchor_node_id",), assigned)


def _keyed(schema: pa.Schema, indexes: tuple[str, ...], rows: Sequence[tuple[int, ...]]) -> KeyedRows:
    keyed = KeyedRows(schema, indexes)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    keyed.load(pa.table([pa.array(c, _LONG) for c in columns], schema=schema))
    return keyed
