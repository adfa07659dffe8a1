"""TableState: a LakeState over the published tables, for a lake that does not fit the driver's memory.

A batch asks as it always does; what it asks is looked up in the published tables, kept until the batch is published
and then dropped. So the driver holds what a batch touches, and a batch pays with look-ups: `prefetch` puts those that
can be foreseen into a few rounds of parallel ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.policy import Policy
from conf.table_spec import TableSpec
from conf.tables import (
    EVENTS,
    IDENTIFIERS,
    IDENTITY_EDGES,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.state.identity_state import (
    EDGE_INDEXES,
    EDGES,
    NODE_INDEXES,
    NODES,
    REDIRECT_INDEXES,
    REDIRECTS,
    REFUSAL_INDEXES,
    REFUSALS,
    IdentityState,
    edge_table,
    node_table,
    pair_key,
    refusal_table,
)
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import (
    EVENT_KEYS,
    OTHER_IDENTIFIERS,
    SESSION_INDEXES,
    LakeState,
    redirects_of,
    with_low_keys,
)
from pipelines.state.table_rows import TableRows
from transforms.activity.ownership import named_nodes
from transforms.arrays.integers import distinct, union, without
from transforms.identity.canonical import ORDINAL_BITS
from transforms.identity.evidence import different_pairs
from transforms.ingest.decisions import Decision

TIES = pa.schema([("node_id", pa.int64()), ("tie_hash", pa.int64())])
PAIR = "pair"  # not a column: `pair_key` of left_node_id and right_node_id
# What an index in memory is called in its table.
COLUMN_OF = {
    "id": "node_id",
    "canonical": "canonical_id",
    "component": "component_id",
    "host": "host_node_id",
    "left": "left_node_id",
    "right": "right_node_id",
    "retired": "retired_canonical_id",
    "successor": "canonical_id",
}


class LookUp(Protocol):
    """Questions to one published snapshot; safe to ask from several threads."""

    @property
    def batch_id(self) -> int:
        """The last batch that is in the snapshot."""
        ...

    def rows(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: tuple[str, datetime, datetime] | None = None,
    ) -> pa.Table:
        """The live rows of a table in which one of the columns named in `asked` has one of its values, each once.

        `between`: a column and the bounds, both included, that its value lies in.
        """
        ...


class NothingPublished:
    """The `LookUp` of a new lake."""

    batch_id = 0

    def rows(
        self,
        spec: TableSpec,
        columns: list[str],
        asked: Mapping[str, np.ndarray],
        between: tuple[str, datetime, datetime] | None = None,
    ) -> pa.Table:
        """No rows: the table is empty in this state."""
        return pa.schema([spec.arrow.field(c) for c in columns]).empty_table()


class TableState(LakeState):
    """A state of one batch over one published snapshot."""

    depends_on_files = True
    may_be_shared = False

    def __init__(
        self, policy: Policy, look_up: LookUp, decisions: Iterable[Decision] = (), tenants: Iterable[str] = ()
    ) -> None:
        """`tenants`: all that have an event or a decision in the snapshot."""
        super().__init__(policy)
        self.tenants.of(sorted(tenants))
        self.tenants.settle()
        self._look_up, self.as_of = look_up, look_up.batch_id
        self._first_unpublished_person = (look_up.batch_id + 1) << ORDINAL_BITS
        self._ties = TableRows(TIES, ("node_id",), ("node_id",), partial(self._read, IDENTIFIERS, TIES.names))
        self._nodes = TableRows(NODES, NODE_INDEXES, ("id",), self._fetch_nodes)
        self._edges = TableRows(
            EDGES,
            EDGE_INDEXES,
            ("left", "right", "source", "kind"),
            self._fetch(IDENTITY_EDGES, self._edge_rows),
        )
        self._redirects = TableRows(
            REDIRECTS, REDIRECT_INDEXES, ("retired",), self._fetch(IDENTITY_REDIRECTS, redirects_of)
        )
        self._refusals = TableRows(
            REFUSALS, REFUSAL_INDEXES, ("left", "right"), self._fetch(REJECTED_EDGES, self._refusal_rows)
        )
        self.identity = IdentityState(self._nodes, self._edges, self._redirects, self._refusals)
        self.identity.decisions.load(decisions)
        self._sessions = TableRows(
            SESSIONS.arrow,
            SESSION_INDEXES,
            ("session_id",),
            partial(self._read, SESSIONS, list(SESSIONS.names)),
            then="start_at",
        )
        self._event_keys = TableRows(EVENT_KEYS, ("event_key",), ("event_key",), self._fetch_event_keys)
        others = TableRows(OTHER_IDENTIFIERS, ("id",), ("id",), self._fetch_identifiers)
        self.sessions, self.event_keys, self.other_identifiers = self._sessions, self._event_keys, others
        self._all = (
            *(self._ties, self._nodes, self._edges, self._redirects, self._refusals),
            *(self._sessions, self._event_keys, others),
        )

    def __len__(self) -> int:
        return sum(map(len, self._all))

    def settle(self) -> None:
        """The batch is published: nothing of it is kept, and the next one starts from a new snapshot."""
        self.is_dirty = True
        for rows in self._all:
            rows.forget()

    def undo(self) -> None:
        """The next batch starts from a new snapshot whatever became of this one."""
        self.settle()

    def prefetch(self, received: pa.Table) -> None:
        """Look up what the batch is going to ask, in three rounds of parallel look-ups:

        1. the events' keys, their identifiers' nodes, their anchors' sessions
        2. the edges of those nodes that are no hubs, everybody in their components and persons, redirects
        3. their neighbours, the owners of the anchors' sessions, and those persons' sessions

        What this does not foresee is looked up when it is asked; what it foresees in vain is only time.
        """
        # Decisions are few and all in memory; what they touch is looked up when it is asked.
        is_event = pc.and_(
            pc.equal(pc.list_value_length(received["reasons"]), 0), pc.is_null(received["decision"])
        )
        usable = received.filter(is_event)
        lists = usable["node_ids"].combine_chunks()
        lists = lists if usable.num_rows else pa.array([], pa.list_(pa.int64()))
        ids = distinct(numpy_of(pc.list_flatten(lists)))
        others = [numpy_of(pc.list_flatten(usable[c])) for c in ("weak_node_ids", "actor_node_ids")]
        used = distinct(np.concatenate([ids, *others]))
        anchors = distinct(numpy_of(usable["anchor_node_id"]))
        unclaimed = -anchors
        left, right = different_pairs(lists)
        with ThreadPoolExecutor(4, thread_name_prefix="look-up") as pool:

            def at_once(*asks: Callable[[], None]) -> None:
                for done in [pool.submit(ask) for ask in asks]:
                    done.result()

            at_once(
                partial(self._event_keys.ask, {"event_key": distinct(numpy_of(usable["event_key"]))}),
                partial(self._ties.ask, {"node_id": used}),
                partial(self._nodes.ask, {"id": union(used, unclaimed)}),
                partial(self._sessions.ask, {"anchor_node_id": anchors}),
            )
            seen = self.identity.nodes(ids)
            no_hubs = without(ids, seen.id[seen.is_hub])
            persons = distinct(seen.canonical)
            at_once(
                partial(
                    self._edges.ask,
                    {"left": no_hubs, "right": no_hubs, PAIR: distinct(pair_key(left, right))},
                ),
                partial(
                    self._nodes.ask,
                    {
                        "component": distinct(seen.component[seen.component > 0]),
                        "canonical": persons,
                        "host": ids,
                    },
                ),
                partial(self._redirects.ask, {"successor": persons}),
            )
            edges = self.identity.edges_of(no_hubs)
            members = self.identity.members_of(persons).id
            there = self.sessions.rows("anchor_node_id", anchors, ["owner_node_id", "user_node_id", "claims"])
            owners = numpy_of(there["owner_node_id"])
            near = distinct(np.concatenate([edges.left, edges.right, seen.host, owners, named_nodes(there)]))
            users = numpy_of(there["user_node_id"])
            owning = distinct(np.concatenate([ids, members, unclaimed, owners, users]))
            at_once(
                partial(self._nodes.ask, {"id": near[near != 0], "host": members[members > 0]}),
                partial(self._sessions.ask, {"owner_node_id": owning[owning != 0]}),
            )

    def events_in(self, windows: pa.Table, stored: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Published events of the windows' anchors, between the earliest start and the latest end."""
        anchors = distinct(numpy_of(windows["anchor_node_id"]))
        first, last = pc.min(windows["start_at"]).as_py(), pc.max(windows["end_at"]).as_py()
        return self._look_up.rows(
            EVENTS, list(EVENTS.names), {"anchor_node_id": anchors}, ("event_at", first, last)
        )

    # -- what is looked up, in the shape in which it is held -------------------------------------------------------

    def _read(self, spec: TableSpec, columns: list[str], asked: Mapping[str, np.ndarray]) -> pa.Table:
        return self._look_up.rows(spec, columns, {COLUMN_OF.get(i, i): v for i, v in asked.items()})

    def _fetch(
        self, spec: TableSpec, held: Callable[[pa.Table], pa.Table]
    ) -> Callable[[Mapping[str, np.ndarray]], pa.Table]:
        return lambda asked: held(self._read(spec, list(spec.names), asked))

    def _fetch_nodes(self, asked: Mapping[str, np.ndarray]) -> pa.Table:
        # A person of this batch is in no published table, and batches ask for the persons that they have just made.
        asked = {
            i: v[v < self._first_unpublished_person] if i in ("canonical", "component") else v
            for i, v in asked.items()
        }
        if not any(len(v) for v in asked.values()):
            return NODES.empty_table()
        owners = self._read(IDENTITY_MAP, list(IDENTITY_MAP.names), asked)
        ids = numpy_of(owners["node_id"])
        ties = self._ties.rows("node_id", ids[ids > 0])
        known = numpy_of(ties["node_id"])
        by = np.argsort(known, kind="stable")
        return node_table(self.nodes_of(owners, known[by], numpy_of(ties["tie_hash"])[by]))

    def _fetch_event_keys(self, asked: Mapping[str, np.ndarray]) -> pa.Table:
        """The keys of published events, and of decisions, which are no events but have an id as well."""
        events = self._read(EVENTS, EVENT_KEYS.names, asked).cast(EVENT_KEYS)
        decisions = self.identity.decisions.keys()
        is_asked = pc.is_in(decisions["event_key"], pa.array(asked["event_key"]))
        return pa.concat_tables([with_low_keys(events), decisions.filter(is_asked)])

    def _fetch_identifiers(self, asked: Mapping[str, np.ndarray]) -> pa.Table:
        return self._ties.rows("node_id", asked["id"]).rename_columns(OTHER_IDENTIFIERS.names)

    def _edge_rows(self, rows: pa.Table) -> pa.Table:
        return edge_table(self.evidence_of(rows))

    def _refusal_rows(self, rows: pa.Table) -> pa.Table:
        return refusal_table(self.refusals_of(rows))
