"""The graph check: are the published persons the connected components that GraphFrames finds in the published edges?

    identity_edges ─┐
    decided merges ─┼─ minus pairs at shared identifiers, minus refused pairs ─▶ GraphFrames ─▶ components (Delta)
    rejected_edges ─┘                                                                             │
    identity_map ─────────────────────────────────────────────────────────────────────────── compare ─▶ wrong rows

An independent second opinion: it reads tables alone and shares no code with the resolver. Only counts and a few
examples come to the driver. Examples have node ids and namespaces, and never the value of an identifier.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from conf.policy import Policy
from conf.tables import (
    IDENTIFIERS,
    IDENTITY_DECISIONS,
    IDENTITY_EDGES,
    IDENTITY_LOG,
    IDENTITY_MAP,
    REJECTED_EDGES,
)
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.spark_frames import live_frame
from pipelines.runtime.graph_engine import connected_components
from pipelines.runtime.spark_rows import rows_of

FOLDER = "_stitchlake/graph-check"
EXAMPLES = 20
ANOTHER_PERSON = "its edges make it another person's"
NOT_HOST = "it is shared, and not with the person that hosts it"
MISSING = "it has edges and no row"
OTHER_TENANT = "its tenant or namespace is not that of the identifier"
NOT_LOGGED = "the last change in silver.identity_log made it another person's"

# One row per pair of linking identifiers that evidence or a manual merge connects. `cut`: the rule by which the pair is
# not followed, null for a pair that makes two identifiers one person's. Shared identifiers are cut before people are
# told apart; a refused pair would have made a person of more values than a limit or a decision allows.
_PAIRS = """
WITH all_pairs AS (
  SELECT least(left_node_id, right_node_id) AS src, greatest(left_node_id, right_node_id) AS dst FROM {edges}
  UNION
  SELECT least(pair.left_node_id, pair.right_node_id), greatest(pair.left_node_id, pair.right_node_id)
  FROM (SELECT explode(joins) AS pair FROM {decisions} WHERE is_in_force)
),
refused AS (
  SELECT least(left_node_id, right_node_id) AS src, greatest(left_node_id, right_node_id) AS dst,
         min(split(reason, ':')[0]) AS reason
  FROM {rejected} GROUP BY ALL
)
SELECT src, dst, l.node_id IS NULL OR r.node_id IS NULL AS lacks_row,
       CASE WHEN l.is_shared OR r.is_shared THEN 'shared_identifier' ELSE refused.reason END AS cut
FROM all_pairs LEFT JOIN {nodes} AS l ON l.node_id = src LEFT JOIN {nodes} AS r ON r.node_id = dst
LEFT JOIN refused USING (src, dst)
"""
# Shared identifiers with a host belong to the host's person. Where she has as many values of the namespace as a person
# may have, and where a decision keeps apart, they stand alone.
_HOSTED = """
WITH held AS (SELECT canonical_id, namespace, count(*) AS held FROM {nodes} GROUP BY ALL),
     kept_apart AS (
       SELECT DISTINCT side.node_id FROM (SELECT explode(sides) AS side FROM {decisions} WHERE is_in_force)
     )
SELECT n.node_id, n.canonical_id = h.canonical_id AS is_with_host,
       coalesce(held.held >= limits.value_limit, false) OR kept_apart.node_id IS NOT NULL AS may_stand_alone
FROM {nodes} AS n LEFT JOIN {nodes} AS h ON h.node_id = n.host_node_id
LEFT JOIN held ON held.canonical_id = h.canonical_id AND held.namespace = n.namespace
LEFT JOIN {limits} AS limits ON limits.namespace = n.namespace
LEFT JOIN kept_apart ON kept_apart.node_id = n.node_id
WHERE n.is_shared AND n.host_node_id IS NOT NULL
"""
# Every identifier with the group that it has to be a person with: its component, or itself where it stands alone.
# Sessions that nobody may claim belong to an unclaimed person, whose node is negative and stands alone too.
_PLACED = """
SELECT n.node_id, n.canonical_id, coalesce(concat('component ', c.component), concat('node ', n.node_id)) AS component
FROM {nodes} AS n LEFT JOIN {components} AS c ON c.id = n.node_id
LEFT JOIN {hosted} AS h ON h.node_id = n.node_id
WHERE NOT coalesce(h.is_with_host, false)
"""
# A person and a component belong to each other if the person is the one that most of the component is published as,
# and the component the one that makes most of the person. Of equals none is taken, and all are shown.
_MATCHED = """
WITH bonds AS (SELECT component, canonical_id, count(*) AS shared FROM {placed} GROUP BY ALL),
     sizes AS (SELECT component, count(*) AS size FROM {placed} GROUP BY ALL),
     by_person AS (
       SELECT *, rank() OVER (PARTITION BY canonical_id ORDER BY shared / size DESC, shared DESC) AS place
       FROM bonds JOIN sizes USING (component)
     ),
     by_both AS (
       SELECT *, rank() OVER (PARTITION BY component ORDER BY shared DESC) AS component_place
       FROM by_person WHERE place = 1
     )
SELECT component, canonical_id FROM (
  SELECT *, count(*) OVER (PARTITION BY component) AS rivals, count(*) OVER (PARTITION BY canonical_id) AS others
  FROM by_both WHERE component_place = 1
) WHERE rivals = 1 AND others = 1
"""
_WRONG = """
SELECT p.node_id, p.canonical_id, m.canonical_id AS expected_canonical_id, {another} AS reason
FROM {placed} AS p
LEFT JOIN {matched} AS right_one ON right_one.component = p.component AND right_one.canonical_id = p.canonical_id
LEFT JOIN {matched} AS m ON m.component = p.component
WHERE right_one.component IS NULL
UNION ALL
SELECT node_id, NULL, NULL, {not_host} FROM {hosted} WHERE NOT coalesce(is_with_host, false) AND NOT may_stand_alone
UNION ALL
SELECT node_id, NULL, NULL, {missing}
FROM (SELECT src AS node_id FROM {pairs} WHERE lacks_row UNION SELECT dst FROM {pairs} WHERE lacks_row) AS ends
WHERE NOT EXISTS (SELECT 1 FROM {nodes} AS n WHERE n.node_id = ends.node_id)
UNION ALL
SELECT n.node_id, n.canonical_id, NULL, {other_tenant}
FROM {nodes} AS n LEFT JOIN {identifiers} AS i ON i.node_id = abs(n.node_id)
WHERE i.node_id IS NULL OR i.tenant != n.tenant OR (n.node_id > 0 AND i.namespace != n.namespace)
UNION ALL
SELECT n.node_id, n.canonical_id, l.canonical_id, {not_logged}
FROM {nodes} AS n
JOIN (SELECT node_id, max_by(to_canonical_id, batch_id) AS canonical_id FROM {log} GROUP BY node_id) AS l
  ON l.node_id = n.node_id AND l.canonical_id != n.canonical_id
"""
_NAMED = """
SELECT w.node_id, coalesce(n.namespace, i.namespace) AS namespace,
       coalesce(w.canonical_id, n.canonical_id) AS canonical_id, w.expected_canonical_id, w.reason
FROM {wrong} AS w LEFT JOIN {nodes} AS n ON n.node_id = w.node_id
LEFT JOIN (SELECT DISTINCT node_id, namespace FROM {identifiers}) AS i ON i.node_id = w.node_id
ORDER BY w.node_id, w.reason LIMIT {most}
"""

_NODE_COLUMNS = ("tenant", "node_id", "namespace", "canonical_id", "is_shared", "host_node_id")
_COUNTS = """
SELECT (SELECT count_if(node_id > 0) FROM {nodes}), (SELECT count(DISTINCT canonical_id) FROM {nodes}),
       (SELECT count(DISTINCT component) FROM {components}), (SELECT count(DISTINCT node_id) FROM {wrong})
"""
SMALL_EDGES = 1_000_000


@dataclass(frozen=True)
class WrongRow:
    """One row of silver.identity_map that the edges do not explain, or that is not there. `canonical_id`: as
    published; `expected_canonical_id`: of its component, None where no one person is."""

    node_id: int
    namespace: str | None
    canonical_id: int | None
    expected_canonical_id: int | None
    reason: str


@dataclass(frozen=True)
class GraphCheck:
    """What GraphFrames says of one published batch. Counts are of distinct pairs of identifiers, and of persons.

    `explained`: pairs that were not followed, by the rule that cuts them: at a shared identifier, refused by a limit,
    refused by a decision. `wrong_count`: rows that nothing explains; `wrong`: the first of these.
    """

    batch_id: int
    identifier_count: int
    pair_count: int
    component_count: int
    person_count: int
    explained: dict[str, int]
    wrong_count: int
    wrong: tuple[WrongRow, ...]
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether every row is explained."""
        return not self.wrong_count

    def as_dict(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {"agrees": self.agrees, "engine": f"graphframes {version('graphframes-py')}", **asdict(self)}


def check_components(snapshot: Snapshot, policy: Policy, spark: SparkSession) -> GraphCheck:
    """Compare the persons of a published batch with the connected components of its edges, by GraphFrames.

    `policy`: the lake's own; only its limits are read. Writes Delta tables below the lake, and removes them again.
    """
    started = time.monotonic()
    parts = (IDENTITY_EDGES, IDENTITY_EDGES.hot)
    is_small = sum(snapshot.dataset(part).count_rows() for part in parts) < SMALL_EDGES
    session = spark.newSession()
    if is_small:
        # Planning each step again and compiling it takes longer than the steps of a small graph. This session's alone.
        session.conf.set("spark.sql.adaptive.enabled", "false")
        session.conf.set("spark.sql.codegen.wholeStage", "false")
    with _folder(snapshot) as folder, ExitStack() as kept:

        def persisted(frame: DataFrame) -> DataFrame:
            kept.callback(frame.persist().unpersist)
            return frame

        edges, decisions, rejected, owners, identifiers, log = (
            live_frame(session, snapshot, spec)
            for spec in (
                IDENTITY_EDGES,
                IDENTITY_DECISIONS,
                REJECTED_EDGES,
                IDENTITY_MAP,
                IDENTIFIERS,
                IDENTITY_LOG,
            )
        )
        nodes = persisted(owners.select(*_NODE_COLUMNS))
        pairs = persisted(
            session.sql(_PAIRS, edges=edges, decisions=decisions, rejected=rejected, nodes=nodes)
        )
        components = _components(nodes, pairs, is_small, folder / "components")
        limits = session.createDataFrame(
            [(n.name, n.value_limit) for n in policy.namespaces], "namespace string, value_limit int"
        )
        hosted = session.sql(_HOSTED, nodes=nodes, decisions=decisions, limits=limits)
        placed = persisted(session.sql(_PLACED, nodes=nodes, components=components, hosted=hosted))
        wrong = persisted(
            session.sql(
                _WRONG,
                placed=placed,
                matched=session.sql(_MATCHED, placed=placed),
                hosted=hosted,
                pairs=pairs,
                nodes=nodes,
                identifiers=identifiers,
                log=log,
                another=ANOTHER_PERSON,
                not_host=NOT_HOST,
                missing=MISSING,
                other_tenant=OTHER_TENANT,
                not_logged=NOT_LOGGED,
            )
        )
        ((identifier_count, person_count, component_count, wrong_count),) = rows_of(
            session.sql(_COUNTS, nodes=nodes, components=components, wrong=wrong)
        )
        cut = dict(rows_of(pairs.groupBy("cut").count()))
        named = session.sql(_NAMED, wrong=wrong, nodes=nodes, identifiers=identifiers, most=EXAMPLES)
        return GraphCheck(
            snapshot.batch_id,
            identifier_count,
            pair_count=sum(cut.values()),
            component_count=component_count,
            person_count=person_count,
            explained={rule: count for rule, count in sorted(cut.items(), key=str) if rule is not None},
            wrong_count=wrong_count,
            wrong=tuple(WrongRow(*row) for row in rows_of(named)) if wrong_count else (),
            seconds=round(time.monotonic() - started, 1),
        )


def _components(nodes: DataFrame, pairs: DataFrame, is_small: bool, path: Path) -> DataFrame:
    """(id, component) of every identifier that is not shared, by GraphFrames, written as a Delta table."""
    found = connected_components(
        nodes.where("node_id > 0 AND NOT is_shared").selectExpr("node_id AS id"),
        pairs.where("cut IS NULL AND NOT lacks_row").select("src", "dst"),
        is_small,
    )
    try:
        found.select("id", "component").write.format("delta").save(str(path))
    finally:
        found.unpersist()
    return nodes.sparkSession.read.format("delta").load(str(path))


def as_text(found: GraphCheck) -> str:
    """The check for people, a few lines."""
    not_followed = ", ".join(
        f"{count:,} {_CUT_WORDS.get(rule, rule)}" for rule, count in found.explained.items() if count
    )
    lines = [
        f"GraphFrames: {found.component_count:,} components of {found.identifier_count:,} identifiers and "
        f"{found.pair_count:,} pairs" + (f" ({not_followed} not followed)" if not_followed else ""),
    ]
    if found.agrees:
        lines.append(f"GraphFrames agrees: all {found.person_count:,} persons are what the edges say")
        return "\n".join(lines)
    rows = "row" if found.wrong_count == 1 else "rows"
    lines.append(f"GraphFrames disagrees with {found.wrong_count:,} {rows} of silver.identity_map:")
    for row in found.wrong:
        person = "no person" if row.canonical_id is None else f"person {row.canonical_id}"
        expected = f" {row.expected_canonical_id}" if row.expected_canonical_id is not None else ""
        lines.append(f"  node {row.node_id} ({row.namespace}), published as {person}: {row.reason}{expected}")
    return "\n".join(lines)


_CUT_WORDS = {
    "shared_identifier": "at shared identifiers",
    "limit": "refused by a limit",
    "decision": "refused by a decision",
}


@contextmanager
def _folder(snapshot: Snapshot) -> Iterator[Path]:
    """A folder below the lake, which executors reach like any table; gone when the block ends."""
    folder = snapshot.lake.path.absolute() / FOLDER / uuid.uuid4().hex
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
