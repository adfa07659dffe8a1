"""LakeState: what batches ask of a lake, held in the driver's memory and loaded from one published snapshot.

A batch changes this state directly. `settle` keeps the changes once the batch is published; otherwise `undo` takes them
back, at a cost that depends on the changes. In between, and after an error that cannot be undone, the state is dirty.
The next batch replaces a dirty state by a new one from the lake. Codes that an undone batch has assigned may stay: they
have no meaning outside the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.table_spec import TableSpec
from conf.tables import (
    EVENTS,
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.runtime.released_memory import give_back
from pipelines.state.decision_rows import rows_to_decisions
from pipelines.state.identity_state import REDIRECTS, IdentityState
from pipelines.state.keyed_rows import KeyedRows, Rows, loaded, numpy_of
from transforms.activity.ownership import ANCHOR_FACTS
from transforms.activity.person_folds import PERSON_FOLDS
from transforms.arrays.integers import is_in, places_in, without
from transforms.identity.cluster import BY_DECISION, Refusals
from transforms.identity.evidence import KINDS, Evidence
from transforms.identity.nodes import Nodes

UNCLAIMED = "unclaimed"
# `event_key_low`: 0 of events that were published without.
EVENT_KEYS = pa.schema([(n, pa.int64()) for n in ("event_key", "event_key_low", "content_digest")])
OTHER_IDENTIFIERS = pa.schema([("id", pa.int64()), ("tie", pa.int64())])
NODE_COLUMNS = ["node_id", "tenant", "namespace", "canonical_id", "component_id", "first_canonical_id"] + [
    *("host_node_id", "is_shared", "is_hub", "since_at")
]
EDGE_COLUMNS = ["left_node_id", "right_node_id", "source", "kind", "evidence_count"] + [
    *("first_seen_at", "last_seen_at")
]
SESSION_INDEXES = ("anchor_node_id", "owner_node_id", "session_id")


class PublishedTables(Protocol):
    """The part of a snapshot that the state is loaded from."""

    @property
    def batch_id(self) -> int:
        """The published batch."""

    def arrow(self, spec: TableSpec, columns: list[str] | None = None) -> pa.Table:
        """The rows of a table."""


class Codes:
    """Small integers for strings that repeat, in order of first sight; meaningful inside one process only."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names: list[str] = list(names)
        self._code = {n: i for i, n in enumerate(names)}
        self._texts = pa.array(names, pa.string())
        self._settled_count = len(names)

    def encode(self, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
        """The code of each text; new texts get the next codes."""
        encoded = pc.dictionary_encode(column)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks() if encoded.num_chunks != 1 else encoded.chunk(0)
        return self.of(encoded.dictionary.to_pylist())[encoded.indices.to_numpy(zero_copy_only=False)]

    def of(self, names: list[str]) -> np.ndarray:
        """The codes of these names; new names get the next codes."""
        for name in names:
            if name not in self._code:
                self._code[name] = len(self.names)
                self.names.append(name)
        return np.array([self._code[n] for n in names], np.int32)

    def decode(self, codes: np.ndarray) -> pa.Array:
        """The text of each code."""
        if len(self._texts) < len(self.names):
            self._texts = pa.array(self.names, pa.string())
        return self._texts.take(pa.array(codes))

    def settle(self) -> None:
        """The names are there to stay."""
        self._settled_count = len(self.names)

    def undo(self) -> None:
        """Forget the names that have come since."""
        for name in self.names[self._settled_count :]:
            del self._code[name]
        del self.names[self._settled_count :]
        self._texts = pa.array(self.names, pa.string())

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._code


class LakeState:
    """`identity`, `sessions`, `event_keys`, `other_identifiers` and `tenants` of one lake under one policy."""

    # Whether it answers from the files of one snapshot, so that upkeep which moves rows to other files outdates it.
    depends_on_files = False
    may_be_shared = True  # whether several threads may ask at the same time

    def __init__(self, policy: Policy, row_limit: int | None = None) -> None:
        """Empty. `row_limit`: with more rows than this, the next batch starts from a new state."""
        self.tenants = Codes()
        self.mappings = Codes()
        self.kinds = Codes(KINDS)
        self.namespaces = Codes((*(n.name for n in policy.namespaces), UNCLAIMED))
        self.unclaimed = len(policy.namespaces)
        self.identity = IdentityState()
        self.sessions: Rows = KeyedRows(SESSIONS.arrow, SESSION_INDEXES, then="start_at")
        # Of anchors with so many sessions that a batch reads those alone that are near its events.
        self.anchor_facts: Rows = KeyedRows(ANCHOR_FACTS, ("anchor_node_id",))
        # Of persons with so many sessions that a batch reads those alone that it takes away and adds.
        self.person_folds: Rows = KeyedRows(PERSON_FOLDS, ("canonical_id",))
        self.event_keys: Rows = KeyedRows(EVENT_KEYS, ("event_key",))
        self.other_identifiers: Rows = KeyedRows(OTHER_IDENTIFIERS, ("id",))
        self.is_dirty = False
        self.as_of = 0  # the last published batch that is in it
        self._row_limit = row_limit

    @classmethod
    def load(
        cls, snapshot: PublishedTables | None, policy: Policy, row_limit: int | None = None
    ) -> LakeState:
        """The state as of a published snapshot; an empty one where nothing has been published."""
        state = cls(policy, row_limit)
        if snapshot is None:
            return state
        state.as_of = snapshot.batch_id
        # One table after the other, the largest first: while one is read, little else is in memory.
        for read in (
            state._read_sessions,
            state._read_nodes,
            state._read_edges,
            state._read_event_keys,
            state._read_refusals,
        ):
            read(snapshot)
            give_back()
        state.tenants.settle()
        return state

    def _read_sessions(self, snapshot: PublishedTables) -> None:
        self.sessions = loaded(SESSIONS.arrow, SESSION_INDEXES, snapshot.arrow(SESSIONS), then="start_at")

    def _read_nodes(self, snapshot: PublishedTables) -> None:
        identifiers = snapshot.arrow(IDENTIFIERS, ["node_id", "tie_hash"])
        known = numpy_of(identifiers["node_id"])
        by = np.argsort(known, kind="stable")
        known, tie = known[by], numpy_of(identifiers["tie_hash"])[by]
        del identifiers, by
        nodes = self.nodes_of(snapshot.arrow(IDENTITY_MAP, NODE_COLUMNS), known, tie)
        others = without(known, nodes.id)
        columns = {"id": others, "tie": tie[places_in(known, others)]}
        self.other_identifiers = loaded(OTHER_IDENTIFIERS, ("id",), pa.table(columns))
        del known, tie
        self.identity.load_nodes(nodes)

    def _read_edges(self, snapshot: PublishedTables) -> None:
        self.identity.load_edges(self.evidence_of(snapshot.arrow(IDENTITY_EDGES, EDGE_COLUMNS)))

    def _read_refusals(self, snapshot: PublishedTables) -> None:
        redirects = redirects_of(snapshot.arrow(IDENTITY_REDIRECTS))
        self.identity.load_persons(redirects, self.refusals_of(snapshot.arrow(REJECTED_EDGES)))

    def _read_event_keys(self, snapshot: PublishedTables) -> None:
        self.identity.decisions.load(rows_to_decisions(snapshot.arrow(IDENTITY_DECISIONS)))
        events = snapshot.arrow(EVENTS, EVENT_KEYS.names).cast(EVENT_KEYS)
        keys = pa.concat_tables([with_low_keys(events), self.identity.decisions.keys()])
        self.event_keys = loaded(EVENT_KEYS, ("event_key",), keys)

    def __len__(self) -> int:
        """Rows in the driver's memory, of all kinds."""
        return len(self.identity) + len(self.sessions) + len(self.event_keys) + len(self.other_identifiers)

    def prefetch(self, received: pa.Table) -> None:
        """Fetch what a batch will ask about these records. Here everything is in memory already."""

    def events_in(self, windows: pa.Table, stored: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Published events of the windows' anchors between the earliest start and the latest end. `stored` reads them
        from the tables."""
        return stored(windows)

    def begin(self) -> None:
        """A batch is about to change this state. It is dirty until `settle` or `undo`."""
        self.is_dirty = True

    def invalidate(self) -> None:
        """The lake has changed otherwise: the next batch starts from a new state."""
        self.is_dirty = True

    def set_as_of(self, batch_id: int) -> None:
        """The last published batch is this one, and everything of it is in this state."""
        self.as_of = batch_id

    def settle(self) -> None:
        """The batch is published: this state is the lake's again, unless it has become too large to be kept."""
        for part in self._parts():
            part.settle()
        self.is_dirty = self._row_limit is not None and len(self) > self._row_limit

    def undo(self) -> None:
        """The batch was not published: this state is again what it was before it."""
        for part in self._parts():
            part.undo()
        self.is_dirty = False

    def _parts(self) -> tuple[IdentityState | Rows | Codes, ...]:
        rows = (
            self.sessions,
            self.anchor_facts,
            self.person_folds,
            self.event_keys,
            self.other_identifiers,
        )
        return self.identity, *rows, self.tenants

    # -- rows of the tables, as they are held in memory ------------------------------------------------------------

    def nodes_of(self, owners: pa.Table, known: np.ndarray, tie: np.ndarray) -> Nodes:
        """Rows of the identity map as nodes; `tie` are the unkeyed hashes of the nodes `known`, which is sorted."""
        ids = numpy_of(owners["node_id"])
        is_known = ids > 0  # an anchor's unclaimed node is nobody's identifier
        ties = np.zeros(len(ids), np.int64)
        if not is_in(ids[is_known], known).all():
            raise LookupError("a node of silver.identity_map is not in silver.identifiers")
        ties[is_known] = tie[places_in(known, ids[is_known])]
        return Nodes(
            id=ids,
            tenant=self.tenants.encode(owners["tenant"]),
            namespace=self.namespaces.encode(owners["namespace"]),
            tie=ties,
            canonical=numpy_of(owners["canonical_id"]),
            component=numpy_of(owners["component_id"]),
            first_canonical=numpy_of(owners["first_canonical_id"]),
            host=numpy_of(owners["host_node_id"]),
            is_shared=numpy_of(owners["is_shared"]),
            is_hub=numpy_of(owners["is_hub"]),
            since=numpy_of(owners["since_at"]),
        )

    def evidence_of(self, rows: pa.Table) -> Evidence:
        """Rows of the identity edges as evidence."""
        return Evidence(
            left=numpy_of(rows["left_node_id"]),
            right=numpy_of(rows["right_node_id"]),
            source=self.mappings.encode(rows["source"]),
            kind=self.kinds.encode(rows["kind"]),
            count=numpy_of(rows["evidence_count"]),
            first_seen=numpy_of(rows["first_seen_at"]),
            last_seen=numpy_of(rows["last_seen_at"]),
        )

    def refusals_of(self, rows: pa.Table) -> Refusals:
        """Rows of the rejected edges as refusals."""
        is_limit = pc.starts_with(rows["reason"], "limit:").to_numpy()
        spaces = pc.replace_substring(rows["reason"], "limit:", "")
        return Refusals(
            left=numpy_of(rows["left_node_id"]),
            right=numpy_of(rows["right_node_id"]),
            namespace=self._limit_codes(spaces, is_limit),
            blocking_left=numpy_of(rows["blocking_left_node_id"]),
            blocking_right=numpy_of(rows["blocking_right_node_id"]),
        )

    def _limit_codes(self, spaces: pa.ChunkedArray, is_limit: np.ndarray) -> np.ndarray:
        codes = np.full(len(is_limit), BY_DECISION, np.int64)
        codes[is_limit] = self.namespaces.encode(spaces.filter(pa.array(is_limit)))
        return codes


def with_low_keys(events: pa.Table) -> pa.Table:
    """EVENT_KEYS of published events, 0 where one was published without the lower half of its key."""
    place = EVENT_KEYS.get_field_index("event_key_low")
    return events.set_column(place, EVENT_KEYS.field(place), events.column(place).fill_null(0))


def redirects_of(rows: pa.Table) -> pa.Table:
    """Rows of the identity redirects: a retired canonical id and its successor."""
    return pa.table(
        {"retired": rows["retired_canonical_id"], "successor": rows["canonical_id"]}, schema=REDIRECTS
    )
