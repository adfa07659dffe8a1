"""IdentityState: the published identity graph, as the resolver asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from pipelines.state.decision_state import DecisionState
from pipelines.state.keyed_rows import KeyedRows, Rows, loaded, numpy_of
from pipelines.state.packed_rows import Known
from pipelines.state.recent_nodes import RecentNodes
from transforms.arrays.integers import places_in, union
from transforms.identity.apart import Sides
from transforms.identity.cluster import Refusals
from transforms.identity.evidence import OBSERVED_CODE, Evidence, concat_evidence, merge_evidence
from transforms.identity.nodes import Nodes
from transforms.identity.resolve import Resolution

_LONG, _CODE, _FLAG = pa.int64(), pa.int32(), pa.bool_()
NODES = pa.schema(
    [("id", _LONG), ("tenant", _CODE), ("namespace", _CODE), ("tie", _LONG), ("canonical", _LONG)]
    + [
        ("component", _LONG),
        ("first_canonical", _LONG),
        ("host", _LONG),
        ("is_shared", _FLAG),
        ("is_hub", _FLAG),
    ]
    + [("since", _LONG)]
)
EDGES = pa.schema(
    [("left", _LONG), ("right", _LONG), ("source", _CODE), ("kind", _CODE), ("count", _LONG)]
    + [("first_seen", _LONG), ("last_seen", _LONG), ("pair", _LONG)]
)
REDIRECTS = pa.schema([("retired", _LONG), ("successor", _LONG)])
REFUSALS = pa.schema([(f.name, _LONG) for f in fields(Refusals)])
# Pairs that an `alias` event asked to be one: few, and asked for on their own.
WISHES = pa.schema([("left", _LONG), ("right", _LONG), ("pair", _LONG)])
# Few persons are parts of a component, and few have had another id before.
NODES_KNOWN = Known(mostly={"component": "canonical", "first_canonical": "canonical"})
NODE_INDEXES = ("id", "canonical", "component", "host")
EDGE_INDEXES = ("left", "right", "pair")
REDIRECT_INDEXES = ("retired", "successor")
REFUSAL_INDEXES = ("left", "right")


@dataclass(frozen=True)
class Members:
    """Nodes with the persons they belong to, one row per node, in any order."""

    id: np.ndarray
    tenant: np.ndarray
    namespace: np.ndarray
    canonical: np.ndarray

    def select(self, mask_or_rows: np.ndarray) -> Members:
        """The members of these rows."""
        return Members(*(getattr(self, f.name)[mask_or_rows] for f in fields(self)))


class IdentityState:
    """Implements `IdentityLookup`; `apply` takes in what a batch changes, for good at `settle` or until `undo`."""

    def __init__(
        self,
        nodes: Rows | None = None,
        edges: Rows | None = None,
        redirects: Rows | None = None,
        refusals: Rows | None = None,
    ) -> None:
        """Empty, or over rows of NODES, EDGES, REDIRECTS and REFUSALS that are kept elsewhere."""
        self._nodes: Rows = KeyedRows(NODES, NODE_INDEXES, NODES_KNOWN) if nodes is None else nodes
        self._edges: Rows = KeyedRows(EDGES, EDGE_INDEXES, EDGES_KNOWN) if edges is None else edges
        self._redirects: Rows = KeyedRows(REDIRECTS, REDIRECT_INDEXES) if redirects is None else redirects
        self._refusals: Rows = KeyedRows(REFUSALS, REFUSAL_INDEXES) if refusals is None else refusals
        # Where edges are kept elsewhere, merge requests are found among them.
        self._merge_requests = KeyedRows(WISHES, EDGE_INDEXES) if edges is None else None
        self.decisions = DecisionState()
        self._recent = RecentNodes()

    def load_nodes(self, nodes: Nodes) -> None:
        """Forget all nodes and hold these in memory."""
        self._recent.forget()
        self._nodes = loaded(NODES, NODE_INDEXES, node_table(nodes), NODES_KNOWN)

    def load_edges(self, edges: Evidence) -> None:
        """Forget all edges and merge requests and hold these in memory."""
        self._edges = loaded(EDGES, EDGE_INDEXES, edge_table(edges), EDGES_KNOWN)
        self._merge_requests = loaded(WISHES, EDGE_INDEXES, _merge_request_table(edges))

    def load_persons(self, redirects: pa.Table, refusals: Refusals) -> None:
        """Forget all redirects and refusals and hold these in memory."""
        self._redirects = loaded(REDIRECTS, REDIRECT_INDEXES, redirects)
        self._refusals = loaded(REFUSALS, REFUSAL_INDEXES, refusal_table(refusals))

    def __len__(self) -> int:
        """Rows in memory, of all four kinds."""
        return sum(map(len, (self._nodes, self._edges, self._redirects, self._refusals)))

    def nodes(self, ids: np.ndarray) -> Nodes:
        """The known nodes among `ids`, sorted by id."""
        return self._recent.of(ids, lambda fresh: _nodes(self._nodes.rows("id", fresh)))

    def nodes_of_components(self, components: np.ndarray) -> Nodes:
        """Every node of these components, sorted by id."""
        return self._recent.of_components(
            components, lambda fresh: _nodes(self._nodes.rows("component", fresh))
        )

    def members_of(self, canonical_ids: np.ndarray) -> Members:
        """The nodes of these persons."""
        rows = self._nodes.rows("canonical", canonical_ids, [f.name for f in fields(Members)])
        return Members(*(numpy_of(c) for c in rows.columns))

    def nodes_hosted_by(self, ids: np.ndarray) -> Nodes:
        """The shared nodes that these nodes host, sorted by id."""
        return _nodes(self._nodes.rows("host", ids[ids > 0]))

    def edges_of(self, ids: np.ndarray) -> Evidence:
        """Every edge row with an end in `ids`, each once; merges that somebody decided are among them."""
        at = self._edges.find_any({"left": ids, "right": ids})
        return concat_evidence(_evidence(self._edges.take(at)), self.decisions.merges_of(ids))

    def merge_requests_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(left, right) of the pairs with an end in `ids` that an alias or a manual merge declares to be one."""
        if self._merge_requests is None:
            edges = self.edges_of(ids)
            asked = edges.kind > OBSERVED_CODE
            return edges.left[asked], edges.right[asked]
        rows = self._merge_requests.take(self._merge_requests.find_any({"left": ids, "right": ids}))
        merges = self.decisions.merges_of(ids)
        return (
            np.concatenate([numpy_of(rows["left"]), merges.left]),
            np.concatenate([numpy_of(rows["right"]), merges.right]),
        )

    def sides_of(self, ids: np.ndarray) -> Sides:
        """The sides that decisions in force put these nodes on, one row per node and decision."""
        return self.decisions.sides_of(ids)

    def redirects_to(self, canonical_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(retired, successor) of the redirects to these canonical ids."""
        rows = self._redirects.rows("successor", canonical_ids)
        return numpy_of(rows["retired"]), numpy_of(rows["successor"])

    def refusals_of(self, ids: np.ndarray) -> Refusals:
        """The refusals in force with an end in `ids`."""
        at = self._refusals.find_any({"left": ids, "right": ids})
        return Refusals(*(numpy_of(c) for c in self._refusals.take(at).columns))

    def with_prior(self, evidence: Evidence) -> Evidence:
        """The batch's evidence added to what is on record of the same (pair, source, kind): absolute values."""
        prior = _evidence(self._edges.rows("pair", pair_key(evidence.left, evidence.right)))
        merged = merge_evidence(concat_evidence(prior, evidence))
        return merged.select(_is_row_of(merged, evidence))

    def apply(self, resolution: Resolution, edges: Evidence, refused: Refusals, lifted: Refusals) -> None:
        """Take in a batch: `edges` are absolute rows, `refused` new refusals, `lifted` those that ended."""
        self.put_nodes(resolution.nodes)
        old = self._edges.find("pair", pair_key(edges.left, edges.right))
        same = _is_row_of(_evidence_in_order(self._edges, old), edges)
        self._edges.replace(old[same], edge_table(edges))
        if self._merge_requests is not None:
            merge_requests = _merge_request_table(edges)
            known = self._merge_requests.rows("pair", numpy_of(merge_requests["pair"]))
            is_new = ~np.isin(_ends(merge_requests), _ends(known))
            self._merge_requests.replace(np.empty(0, np.int64), merge_requests.filter(pa.array(is_new)))
        ids = resolution.ids
        self._redirects.replace(
            self._redirects.find("retired", union(ids.retired, ids.reopened)),
            pa.table({"retired": ids.retired, "successor": ids.successor}),
        )
        gone = union(self._positions_of(lifted), self._positions_of(refused))
        self._refusals.replace(gone, refusal_table(refused))

    def put_nodes(self, nodes: Nodes) -> None:
        """Insert or replace nodes."""
        self._nodes.replace(self._nodes.find("id", nodes.id), node_table(nodes))
        self._recent.put(nodes)

    def drop_nodes(self, ids: np.ndarray) -> None:
        """Remove nodes by id."""
        self._nodes.replace(self._nodes.find("id", ids), NODES.empty_table())
        self._recent.drop(ids)

    def settle(self) -> None:
        """The batch is published: keep its changes, and forget what was cached for it."""
        for rows in self._changed():
            rows.settle()
        self._recent.forget()

    def undo(self) -> None:
        """Take back what was changed since the last batch was published."""
        for rows in self._changed():
            rows.undo()
        self._recent.forget()

    def _changed(self) -> tuple[Rows | DecisionState, ...]:
        rows = (self._nodes, self._edges, self._redirects, self._refusals, self.decisions)
        return rows if self._merge_requests is None else (*rows, self._merge_requests)

    def _positions_of(self, refusals: Refusals) -> np.ndarray:
        at = np.sort(self._refusals.find("left", refusals.left))
        rows = self._refusals.take(at, ["left", "right"])
        wanted = set(zip(refusals.left.tolist(), refusals.right.tolist(), strict=True))
        pairs = zip(rows["left"].to_pylist(), rows["right"].to_pylist(), strict=True)
        return at[np.fromiter((p in wanted for p in pairs), bool, len(at))]


def _nodes(rows: pa.Table) -> Nodes:
    columns = {f.name: numpy_of(rows[f.name]) for f in fields(Nodes)}
    order = np.argsort(columns["id"])
    return Nodes(**{name: column[order] for name, column in columns.items()})


def _evidence(rows: pa.Table) -> Evidence:
    return Evidence(*(numpy_of(rows[f.name]) for f in fields(Evidence)))


def _evidence_in_order(edges: Rows, positions: np.ndarray) -> Evidence:
    """Evidence aligned with ascending `positions`."""
    positions.sort()
    return _evidence(edges.take(positions))


def node_table(nodes: Nodes) -> pa.Table:
    """Nodes as a table in NODES, one row per node."""
    return _table(nodes, NODES)


def refusal_table(refusals: Refusals) -> pa.Table:
    """Refused pairs as a table in REFUSALS, one row per pair."""
    return _table(refusals, REFUSALS)


def _table(rows: Nodes | Refusals, schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array(getattr(rows, n), schema.field(n).type) for n in schema.names], schema=schema)


def edge_table(e: Evidence) -> pa.Table:
    """Evidence as a table in EDGES, one row per pair, source and kind."""
    columns = {f.name: getattr(e, f.name) for f in fields(Evidence)}
    columns["pair"] = pair_key(e.left, e.right)
    return pa.table([pa.array(columns[n], EDGES.field(n).type) for n in EDGES.names], schema=EDGES)


def _merge_request_table(e: Evidence) -> pa.Table:
    asked = e.kind > OBSERVED_CODE
    left, right = e.left[asked], e.right[asked]
    return pa.table([pa.array(left), pa.array(right), pa.array(pair_key(left, right))], schema=WISHES)


def _ends(pairs: pa.Table) -> np.ndarray:
    """One comparable value per pair."""
    out = np.empty(pairs.num_rows, dtype=[("left", np.int64), ("right", np.int64)])
    out["left"], out["right"] = numpy_of(pairs["left"]), numpy_of(pairs["right"])
    return out


def pair_key(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A 64-bit key of the pair for look-ups; collisions only cost a comparison.

    left XOR right with its halves exchanged: Spark's SQL says the same without an overflow.
    """
    bits = right.astype(np.int64).view(np.uint64)
    exchanged = (bits << np.uint64(32)) | (bits >> np.uint64(32))
    return left ^ exchanged.view(np.int64)


EDGES_KNOWN = Known(follows={"pair": (("left", "right"), pair_key)})


def _is_row_of(e: Evidence, others: Evidence) -> np.ndarray:
    """For every row of `e` whether its (pair, source, kind), which is there once, is one of `others`."""
    keys = pair_key(others.left, others.right)
    order = np.argsort(keys)
    keys, mine = keys[order], pair_key(e.left, e.right)
    found = np.zeros(len(e), bool)
    place, rows = places_in(keys, mine), np.arange(len(e))
    while True:  # once, and once more for every further source or kind that some pair has
        is_there = place < len(keys)
        is_there[is_there] = keys[place[is_there]] == mine[rows[is_there]]
        rows, place = rows[is_there], place[is_there]
        if not len(rows):
            return found
        other = order[place]
        found[rows] |= (
            (e.left[rows] == others.left[other])
            & (e.right[rows] == others.right[other])
            & (e.source[rows] == others.source[other])
            & (e.kind[rows] == others.kind[other])
        )
        place = place + 1
