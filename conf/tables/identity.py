"""Silver: identifiers, evidence, and whose they are."""

from conf.table_spec import Check, ColumnSpec, TableSpec
from conf.tables import columns as c

IDENTIFIERS = TableSpec(
    "silver",
    "identifiers",
    "one node: namespace and normalised value; with refused records the only place in silver and gold with raw values",
    (
        c.TENANT,
        c.NODE_ID,
        ColumnSpec("namespace", "string", "kind of identifier", nullable=False),
        ColumnSpec("value", "string", "normalised value", nullable=False, personal=True, identifies=True),
        ColumnSpec(
            "tie_hash", "long", "unkeyed hash that decides between pairs of equal rank", personal=True
        ),
        c.BATCH_ID,
    ),
    ("node_id",),
    "insert_only",
    checks=(Check("node_is_hashed", "a node id is above 0", "node_id > 0"),),
    made_from=("bronze.events",),
)

IDENTITY_EDGES = TableSpec(
    "silver",
    "identity_edges",
    "one (pair of nodes, source, kind): evidence that two nodes are one person, smaller node first",
    (
        c.TENANT,
        ColumnSpec("left_node_id", "long", "the smaller node of the pair", nullable=False),
        ColumnSpec("right_node_id", "long", "the larger node of the pair", nullable=False),
        ColumnSpec("source", "string", "the source mapping that showed it", nullable=False),
        ColumnSpec(
            "kind",
            "string",
            "`observed` together, or joined by an `alias` or a manual `merge`",
            nullable=False,
            accepted=("observed", "alias", "merge"),
        ),
        ColumnSpec("evidence_count", "long", "distinct events that show it"),
        ColumnSpec("first_seen_at", "timestamp", "first such event"),
        ColumnSpec("last_seen_at", "timestamp", "last such event"),
        c.UPDATED_BATCH_ID,
    ),
    ("left_node_id", "right_node_id", "source", "kind"),
    "upsert",
    checks=(
        Check(
            "smaller_node_first", "the smaller node of a pair is on the left", "left_node_id < right_node_id"
        ),
        Check("has_evidence", "somebody has seen every pair", "evidence_count >= 1"),
        Check("seen_in_order", "nothing is last seen before the first time", "first_seen_at <= last_seen_at"),
    ),
    made_from=("silver.events", "silver.identifiers"),
)

IDENTITY_MAP = TableSpec(
    "silver",
    "identity_map",
    "one node and the person it belongs to now",
    (
        c.TENANT,
        c.NODE_ID,
        ColumnSpec("namespace", "string", "kind of identifier"),
        c.CANONICAL_ID,
        ColumnSpec(
            "component_id",
            "long",
            "label of the nodes connected right now, null for shared ones; a computation, not an identity",
            "provenance",
        ),
        ColumnSpec(
            "is_shared", "boolean", "seen with more persons than one may have; cut out before components"
        ),
        ColumnSpec("is_hub", "boolean", "tied to more nodes than max_degree; stands alone"),
        ColumnSpec(
            "host_node_id", "long", "for a shared node, the node it is tied to most and whose person owns it"
        ),
        ColumnSpec("first_canonical_id", "long", "the person it was first given to", "provenance"),
        ColumnSpec("since_at", "timestamp", "when it came to this person: the batch's time", "provenance"),
        c.UPDATED_BATCH_ID,
    ),
    ("node_id",),
    "upsert",
    checks=(Check("canonical_id_is_minted", "a canonical id is above 0", "canonical_id > 0"),),
    made_from=("silver.identifiers", "silver.identity_edges", "silver.identity_decisions"),
)

IDENTITY_REDIRECTS = TableSpec(
    "silver",
    "identity_redirects",
    "one retired canonical id and its live successor, in one step",
    (
        c.TENANT,
        ColumnSpec(
            "retired_canonical_id", "long", "an id that is nobody's now", "provenance", nullable=False
        ),
        c.CANONICAL_ID,
        c.UPDATED_BATCH_ID,
    ),
    ("retired_canonical_id",),
    "upsert",
    checks=(Check("leads_elsewhere", "no id redirects to itself", "retired_canonical_id <> canonical_id"),),
    made_from=("silver.identity_map",),
)

IDENTITY_LOG = TableSpec(
    "silver",
    "identity_log",
    "one change of one node's owner: (batch, node, from, to, cause)",
    (
        c.TENANT,
        c.BATCH_ID,
        c.NODE_ID,
        ColumnSpec("from_canonical_id", "long", "whose it was; null when the node is new", "provenance"),
        ColumnSpec(
            "to_canonical_id",
            "long",
            "whose it is now; 0 when it counts no longer",
            "provenance",
            nullable=False,
        ),
        ColumnSpec(
            "cause",
            "string",
            "new, merge, split, shared, decision, moved, rebuild",
            "provenance",
            accepted=("new", "merge", "split", "shared", "decision", "moved", "rebuild"),
        ),
        ColumnSpec("logged_at", "timestamp", "the batch's time", "provenance"),
    ),
    ("batch_id", "node_id"),
    "append",
    checks=(
        Check(
            "owner_changes",
            "an entry leads to another owner than before",
            "from_canonical_id <> to_canonical_id",
            "warning",
        ),
    ),
    made_from=("silver.identity_map",),
)

REJECTED_EDGES = TableSpec(
    "silver",
    "rejected_edges",
    "one pair refused at present, with the limit and the blocking pair",
    (
        c.TENANT,
        ColumnSpec("left_node_id", "long", "the smaller node of the refused pair", nullable=False),
        ColumnSpec("right_node_id", "long", "the larger node of the refused pair", nullable=False),
        ColumnSpec(
            "reason",
            "string",
            "`limit:<namespace>`: joining them would give one person too many of it; `decision`: somebody decided it",
        ),
        ColumnSpec(
            "limit_count", "long", "how many of that namespace a person may have; null for a decision"
        ),
        ColumnSpec("blocking_left_node_id", "long", "a node of that namespace on the left side"),
        ColumnSpec("blocking_right_node_id", "long", "a node of that namespace on the right side"),
        c.UPDATED_BATCH_ID,
    ),
    ("left_node_id", "right_node_id"),
    "upsert",
    checks=(
        Check(
            "smaller_node_first", "the smaller node of a pair is on the left", "left_node_id < right_node_id"
        ),
        Check(
            "reason_is_known",
            "a refusal names a limit or a decision",
            "reason = 'decision' OR reason LIKE 'limit:%'",
        ),
    ),
    made_from=("silver.identity_edges", "silver.identity_decisions"),
)

IDENTITY_DECISIONS = TableSpec(
    "silver",
    "identity_decisions",
    "one manual decision: merge, split, keep_apart, assign or undo, in force or not",
    (
        c.TENANT,
        ColumnSpec("decision_id", "string", "the decision's own id", nullable=False),
        ColumnSpec(
            "decision",
            "string",
            "merge, split, keep_apart, assign or undo",
            nullable=False,
            accepted=("merge", "split", "keep_apart", "assign", "undo"),
        ),
        ColumnSpec("is_in_force", "boolean", "false once a later decision has undone it", nullable=False),
        ColumnSpec(
            "joins",
            "array<struct<left_node_id:long,right_node_id:long>>",
            "pairs of nodes that are one person, whatever the evidence",
        ),
        ColumnSpec(
            "sides",
            "array<struct<node_id:long,side:long>>",
            "nodes that are kept apart: no person holds one of side 0 and one of side 1",
        ),
        ColumnSpec("anchor_node_id", "long", "of an assigned session: its anchor"),
        ColumnSpec("start_at", "timestamp", "of an assigned session: it starts no earlier"),
        ColumnSpec("end_at", "timestamp", "of an assigned session: it starts no later"),
        ColumnSpec("owner_node_id", "long", "of an assigned session: whose it is; null for nobody's"),
        ColumnSpec("undoes", "string", "the decision that it takes back"),
        ColumnSpec("author", "string", "who decided", personal=True),
        ColumnSpec("stated_reason", "string", "why", personal=True),
        ColumnSpec("decided_at", "timestamp", "when, by the decider's clock", nullable=False),
        ColumnSpec(
            "event_key",
            "long",
            "64 bits of a hash of (tenant, decision_id); in older rows the one that an event of that id has",
            "provenance",
            nullable=False,
        ),
        ColumnSpec("content_digest", "long", "64-bit hash of the decision's content"),
        ColumnSpec("batch_id", "long", "the batch that brought it", "provenance", nullable=False),
        ColumnSpec("batch_ordinal", "long", "its place among that batch's decisions", "provenance"),
        c.UPDATED_BATCH_ID,
    ),
    ("tenant", "decision_id"),
    "upsert",
    made_from=("bronze.events",),
)
