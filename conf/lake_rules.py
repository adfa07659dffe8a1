"""Rules that hold between tables: each one a query in SQL that Spark and DuckDB read alike.

A rule belongs to the table whose rows it finds. `{batch}` stands for that table's rows as of the published batch; other
tables are named, the upserted ones by their live views. It selects what breaks the rule: no row means that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.table_spec import Severity, SpecError, TableSpec
from conf.tables import (
    BATCHES,
    BRONZE_CORRECTIONS,
    BRONZE_EVENTS,
    EVENTS,
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    IDENTITY_REDIRECTS,
    PROFILES,
    QUARANTINE,
    REJECTED_EDGES,
    SESSIONS,
)


@dataclass(frozen=True)
class LakeRule:
    """One rule of `table`. When it is broken, `critical` stops jobs that publish from it, `warning` is reported."""

    table: TableSpec
    name: str
    says: str
    unexpected: str
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        if self.unexpected.count("{batch}") != self.unexpected.count("{") or "{batch}" not in self.unexpected:
            raise SpecError(
                f"rule {self.name}: a query names its own table as {{batch}}, and has no other braces"
            )


def _batch_is_published(table: TableSpec, column: str) -> LakeRule:
    return LakeRule(
        table,
        "batch_is_published",
        "every row was brought by a batch that is published",
        f"SELECT 1 FROM {{batch}} AS row_ ANTI JOIN ops.batches AS batch ON batch.batch_id = row_.{column}",
    )


def _node_is_known(table: TableSpec, column: str, node: str = "") -> LakeRule:
    return LakeRule(
        table,
        f"{column}_is_known",
        f"the {column} of every row is the node of an identifier of the same tenant",
        f"SELECT 1 FROM {{batch}} AS row_ ANTI JOIN silver.identifiers AS node "
        f"ON node.node_id = {node or f'row_.{column}'} AND node.tenant = row_.tenant "
        f"WHERE row_.{column} IS NOT NULL",
    )


# A rebuild counts all records anew, and a replay moves rows of earlier batches. So up to the last of either the totals
# have to agree, from the rebuild's own on, and after it the counts of each batch.
_COUNTED = """
WITH rebuilt AS (
  SELECT coalesce(max(batch_id), -1) AS batch_id FROM ops.batches WHERE kind = 'rebuild'
),
settled AS (
  SELECT coalesce(max(batch_id), -1) AS batch_id FROM ops.batches WHERE kind IN ('rebuild', 'replay')
),
counted AS (
  SELECT greatest(batch_id, (SELECT batch_id FROM settled)) AS batch_id,
    sum(CASE WHEN kind = 'rebuild' THEN metrics['replayed_$count'] ELSE $count END) AS row_count
  FROM ops.batches WHERE batch_id >= (SELECT batch_id FROM rebuilt) GROUP BY 1
),
found AS (
  SELECT greatest(batch_id, (SELECT batch_id FROM settled)) AS batch_id, count(*) AS row_count
  FROM ($rows) AS row_ GROUP BY 1
)
SELECT 1 FROM counted FULL OUTER JOIN found ON found.batch_id = counted.batch_id
WHERE coalesce(found.row_count, 0) <> coalesce(counted.row_count, 0)
"""

# Archiving takes whole files, which may hold a part of a batch, and says how many records are gone by then.
_RECORDS = """
WITH compared AS (
  SELECT coalesce(found.row_count, 0) - batch.record_count AS surplus
  FROM ops.batches AS batch
  LEFT JOIN (SELECT batch_id, count(*) AS row_count FROM {batch} GROUP BY batch_id) AS found
    ON found.batch_id = batch.batch_id
  WHERE batch.kind <> 'replay'
),
archived AS (
  SELECT metrics['archived_record_count'] AS row_count,
    row_number() OVER (ORDER BY batch_id DESC) AS newest_first
  FROM ops.batches WHERE metrics['archived_record_count'] IS NOT NULL
)
SELECT 1 FROM compared WHERE surplus > 0
UNION ALL
SELECT 1 FROM (SELECT -coalesce(sum(surplus), 0) AS missing FROM compared) AS total
WHERE missing <> coalesce((SELECT max(row_count) FROM archived WHERE newest_first = 1), 0)
"""


def _counted(rows: str, count: str) -> str:
    return _COUNTED.replace("$rows", rows).replace("$count", count).strip()


LAKE_RULES: tuple[LakeRule, ...] = (
    # -- conservation: what was counted is there, batch by batch
    LakeRule(
        BRONZE_EVENTS,
        "records_are_conserved",
        "no batch has more records than ops.batches counted, and none is missing that is not archived",
        _RECORDS.strip(),
    ),
    LakeRule(
        BRONZE_CORRECTIONS,
        "corrections_are_conserved",
        "each replay has as many corrections as ops.batches counted",
        "SELECT 1 FROM (SELECT batch_id, record_count FROM ops.batches WHERE kind = 'replay') AS batch "
        "FULL OUTER JOIN (SELECT batch_id, count(*) AS row_count FROM {batch} GROUP BY batch_id) AS found "
        "ON found.batch_id = batch.batch_id "
        "WHERE coalesce(found.row_count, 0) <> coalesce(batch.record_count, 0)",
    ),
    LakeRule(
        EVENTS,
        "valid_events_are_conserved",
        "each batch has as many valid events and decisions as ops.batches counted",
        _counted(
            "SELECT batch_id FROM {batch} UNION ALL SELECT batch_id FROM silver.identity_decisions_live",
            "valid_count",
        ),
    ),
    LakeRule(
        QUARANTINE,
        "refused_events_are_conserved",
        "each batch has as many refused events as ops.batches counted",
        _counted("SELECT batch_id FROM {batch}", "quarantined_count"),
    ),
    *(
        _batch_is_published(table, "updated_batch_id" if "updated_batch_id" in table.names else "batch_id")
        for table in (
            BRONZE_EVENTS,
            QUARANTINE,
            EVENTS,
            IDENTIFIERS,
            IDENTITY_DECISIONS,
            IDENTITY_EDGES,
            IDENTITY_MAP,
            IDENTITY_REDIRECTS,
            IDENTITY_LOG,
            REJECTED_EDGES,
            SESSIONS,
            PROFILES,
        )
    ),
    # -- identity: who is who, once
    LakeRule(
        IDENTIFIERS,
        "value_has_one_node",
        "no identifier has two nodes, and so none belongs to two persons",
        "SELECT tenant FROM {batch} GROUP BY tenant, namespace, value HAVING count(*) > 1",
    ),
    _node_is_known(EVENTS, "anchor_node_id"),
    _node_is_known(EVENTS, "user_node_id"),
    _node_is_known(IDENTITY_EDGES, "left_node_id"),
    _node_is_known(IDENTITY_EDGES, "right_node_id"),
    _node_is_known(REJECTED_EDGES, "left_node_id"),
    _node_is_known(REJECTED_EDGES, "right_node_id"),
    # An anchor's unclaimed node is its own with a minus.
    _node_is_known(IDENTITY_MAP, "node_id", "abs(row_.node_id)"),
    LakeRule(
        IDENTITY_MAP,
        "edges_have_persons",
        "every node that evidence ties to another belongs to somebody",
        "SELECT 1 FROM (SELECT left_node_id AS node_id FROM silver.identity_edges_live "
        "UNION SELECT right_node_id FROM silver.identity_edges_live) AS tied "
        "ANTI JOIN {batch} AS owner ON owner.node_id = tied.node_id",
    ),
    LakeRule(
        IDENTITY_MAP,
        "person_has_one_tenant",
        "no person holds identifiers of two tenants",
        "SELECT canonical_id FROM {batch} GROUP BY canonical_id HAVING count(DISTINCT tenant) > 1",
    ),
    LakeRule(
        IDENTITY_MAP,
        "person_has_a_profile",
        "every person has a profile",
        "SELECT 1 FROM (SELECT DISTINCT tenant, canonical_id FROM {batch}) AS person "
        "ANTI JOIN gold.profiles_live AS profile "
        "ON profile.canonical_id = person.canonical_id AND profile.tenant = person.tenant",
    ),
    LakeRule(
        IDENTITY_REDIRECTS,
        "one_step",
        "no redirect leads to an id that is retired itself",
        "SELECT 1 FROM {batch} AS first_ JOIN {batch} AS second_ "
        "ON second_.retired_canonical_id = first_.canonical_id",
    ),
    LakeRule(
        IDENTITY_REDIRECTS,
        "leads_to_somebody",
        "every redirect leads to a person",
        "SELECT 1 FROM {batch} AS redirect ANTI JOIN silver.identity_map_live AS owner "
        "ON owner.canonical_id = redirect.canonical_id AND owner.tenant = redirect.tenant",
    ),
    LakeRule(
        IDENTITY_REDIRECTS,
        "retired_is_nobody",
        "no retired id is anybody's",
        "SELECT 1 FROM {batch} AS redirect SEMI JOIN silver.identity_map_live AS owner "
        "ON owner.canonical_id = redirect.retired_canonical_id",
    ),
    LakeRule(
        IDENTITY_LOG,
        "last_word_is_the_map",
        "the log's last entry of every identifier names its present owner",
        "SELECT 1 FROM (SELECT node_id, to_canonical_id, "
        "row_number() OVER (PARTITION BY node_id ORDER BY batch_id DESC) AS newest_first FROM {batch}) AS entry "
        "LEFT JOIN silver.identity_map_live AS owner ON owner.node_id = entry.node_id "
        # An anchor's unclaimed node comes with an entry and goes without one.
        "WHERE newest_first = 1 AND entry.node_id > 0 AND entry.to_canonical_id <> coalesce(owner.canonical_id, 0)",
        "warning",
    ),
    # -- sessions and profiles follow from events
    LakeRule(
        SESSIONS,
        "owner_is_known",
        "the owner node of every session belongs to somebody of the same tenant",
        "SELECT 1 FROM {batch} AS session ANTI JOIN silver.identity_map_live AS owner "
        "ON owner.node_id = session.owner_node_id AND owner.tenant = session.tenant",
    ),
    LakeRule(
        SESSIONS,
        "user_owns",
        "a session with a user is that user's, unless somebody has decided about its anchor's sessions",
        "SELECT 1 FROM {batch} AS session ANTI JOIN "
        "(SELECT anchor_node_id FROM silver.identity_decisions_live WHERE decision = 'assign' AND is_in_force) "
        "AS decided ON decided.anchor_node_id = session.anchor_node_id "
        "WHERE session.user_node_id IS NOT NULL AND session.owner_node_id <> session.user_node_id",
    ),
    LakeRule(
        SESSIONS,
        "events_are_counted_once",
        "the sessions of every anchor hold its events, each one once",
        "SELECT 1 FROM (SELECT anchor_node_id, sum(event_count) AS row_count FROM {batch} GROUP BY anchor_node_id) "
        "AS counted FULL OUTER JOIN "
        "(SELECT anchor_node_id, count(*) AS row_count FROM silver.events GROUP BY anchor_node_id) AS found "
        "ON found.anchor_node_id = counted.anchor_node_id "
        "WHERE coalesce(counted.row_count, 0) <> coalesce(found.row_count, 0)",
    ),
    LakeRule(
        PROFILES,
        "person_is_known",
        "every profile is of somebody who owns an identifier",
        "SELECT 1 FROM {batch} AS profile ANTI JOIN silver.identity_map_live AS owner "
        "ON owner.canonical_id = profile.canonical_id AND owner.tenant = profile.tenant",
    ),
    LakeRule(
        PROFILES,
        "sessions_are_counted_once",
        "every profile counts the sessions and events of its person",
        "SELECT 1 FROM {batch} AS profile LEFT JOIN ("
        "SELECT owner.canonical_id, count(*) AS session_count, sum(session.event_count) AS event_count "
        "FROM silver.sessions_live AS session "
        "JOIN silver.identity_map_live AS owner ON owner.node_id = session.owner_node_id "
        "GROUP BY owner.canonical_id) AS found ON found.canonical_id = profile.canonical_id "
        "WHERE profile.session_count <> coalesce(found.session_count, 0) "
        "OR profile.event_count <> coalesce(found.event_count, 0)",
    ),
    # -- warnings
    LakeRule(
        EVENTS,
        "not_from_the_future",
        "no event happens more than a day after its batch was published",
        "SELECT 1 FROM {batch} AS event JOIN ops.batches AS batch ON batch.batch_id = event.batch_id "
        "WHERE event.event_at > batch.published_at + INTERVAL '1' DAY",
        "warning",
    ),
    LakeRule(
        BATCHES,
        "most_events_are_valid",
        "no batch refused more than half of its events",
        "SELECT 1 FROM {batch} WHERE quarantined_count * 2 > received_count",
        "warning",
    ),
)
