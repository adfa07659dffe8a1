"""Every way in which the tests spoil a lake: one per declared check and per rule between tables, and one per kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from conf.table_spec import TableSpec
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
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.stream.batch.publish import Publication, publication_row
from tests.pipelines.lake_rows import rows_of

Rows = list[dict[str, Any]]
Change = Callable[[Rows], Rows]
EARLY, LATE = datetime(1991, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
NOBODY = 999_999_999_999
FIRST_PERSON = 1 << 28  # the first id that batch 1 mints


def spoil(lake: Lake, spec: TableSpec, change: Change) -> None:
    """Write a table anew with changed rows, and publish that: no error, and nothing else notices."""
    snapshot = published(lake)
    assert snapshot is not None
    rows = change(snapshot.arrow(spec).to_pylist())
    table = pa.Table.from_pylist(rows, schema=spec.arrow)
    write_deltalake(str(lake.table_path(spec)), table, mode="overwrite")
    if spec.write == "upsert":
        empty = spec.hot.arrow.empty_table()
        write_deltalake(str(lake.table_path(spec.hot)), empty, mode="overwrite")
    if spec is not BATCHES:
        publish_as_it_is(lake)


def publish_as_it_is(lake: Lake) -> None:
    """One more row of ops.batches, with every table as it is now."""
    from conf.tables import ALL

    snapshot = published(lake)
    assert snapshot is not None
    batch_id = snapshot.batch_id + 1
    versions = {spec.full_name: lake.version(spec) for spec in with_hot_parts(ALL)}
    row = publication_row(Publication("test", "compaction", batch_id, 0, versions, {}, "p", "k", "{}"))
    DeltaRsWriter(lake).append(BATCHES, row, Txn("test:spoiled", batch_id))


def each(**values: Any) -> Change:
    """Every row with these values; a function gets the row."""
    return lambda rows: [
        {**row, **{k: v(row) if callable(v) else v for k, v in values.items()}} for row in rows
    ]


def added(spec: TableSpec, **values: Any) -> Change:
    """One more row, made up but for these values."""
    return lambda rows: [*rows, *rows_of(spec, values).to_pylist()]


def without_the_first(rows: Rows) -> Rows:
    return rows[1:]


def twice(rows: Rows) -> Rows:
    return [*rows, rows[0]]


def _unpublished(spec: TableSpec) -> Change:
    column = "updated_batch_id" if "updated_batch_id" in spec.names else "batch_id"
    return added(spec, **{column: 999})


# (table, rule) ─▶ what breaks it
SPOILED: dict[tuple[TableSpec, str], Change] = {
    (QUARANTINE, "has_reasons"): each(reasons=None),
    (EVENTS, "date_is_of_the_instant"): each(event_date=EARLY.date()),
    (EVENTS, "instant_is_usable"): each(event_date=datetime(1901, 1, 1).date()),
    (EVENTS, "authenticated_by_a_user"): each(is_authenticated=lambda row: not row["is_authenticated"]),
    (IDENTIFIERS, "node_is_hashed"): each(node_id=lambda row: -row["node_id"]),
    (IDENTITY_EDGES, "smaller_node_first"): each(
        left_node_id=lambda row: row["right_node_id"], right_node_id=lambda row: row["left_node_id"]
    ),
    (IDENTITY_EDGES, "has_evidence"): each(evidence_count=0),
    (IDENTITY_EDGES, "seen_in_order"): each(last_seen_at=EARLY),
    (IDENTITY_MAP, "canonical_id_is_minted"): each(canonical_id=0),
    (IDENTITY_REDIRECTS, "leads_elsewhere"): added(
        IDENTITY_REDIRECTS, retired_canonical_id=NOBODY, canonical_id=NOBODY
    ),
    (IDENTITY_LOG, "owner_changes"): each(from_canonical_id=lambda row: row["to_canonical_id"]),
    (REJECTED_EDGES, "smaller_node_first"): added(REJECTED_EDGES, left_node_id=5, right_node_id=4),
    (REJECTED_EDGES, "reason_is_known"): added(REJECTED_EDGES, reason="a whim"),
    (SESSIONS, "starts_before_its_end"): each(end_at=EARLY),
    (SESSIONS, "has_an_event"): each(event_count=0),
    (SESSIONS, "anonymous_without_a_user"): each(is_anonymous=lambda row: not row["is_anonymous"]),
    (SESSIONS, "logins_are_events"): each(login_event_count=99),
    (PROFILES, "canonical_id_is_minted"): each(canonical_id=0),
    (PROFILES, "sessions_add_up"): each(session_count=99),
    (PROFILES, "anonymous_before_login_is_a_part"): each(anonymous_session_count_before_first_login=99),
    (PROFILES, "seen_in_order"): each(last_seen_at=EARLY),
    (PROFILES, "logged_in_in_order"): each(last_login_at=EARLY),
    (PROFILES, "first_login_is_seen"): each(first_login_at=EARLY),
    (BATCHES, "conservation"): each(valid_count=lambda row: row["valid_count"] + 1),
    (BATCHES, "only_a_replay_takes_back"): each(valid_count=-1),
    (BRONZE_EVENTS, "records_are_conserved"): without_the_first,
    (BRONZE_CORRECTIONS, "corrections_are_conserved"): added(BRONZE_CORRECTIONS, batch_id=2),
    (EVENTS, "valid_events_are_conserved"): without_the_first,
    (QUARANTINE, "refused_events_are_conserved"): without_the_first,
    **{
        (spec, "batch_is_published"): _unpublished(spec)
        for spec in (
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
    },
    (IDENTIFIERS, "value_has_one_node"): lambda rows: [*rows, {**rows[0], "node_id": NOBODY}],
    (EVENTS, "anchor_node_id_is_known"): each(anchor_node_id=NOBODY),
    (EVENTS, "user_node_id_is_known"): each(user_node_id=NOBODY),
    (IDENTITY_EDGES, "left_node_id_is_known"): each(left_node_id=NOBODY),
    (IDENTITY_EDGES, "right_node_id_is_known"): each(tenant="somebody else"),
    (REJECTED_EDGES, "left_node_id_is_known"): added(REJECTED_EDGES, left_node_id=1),
    (REJECTED_EDGES, "right_node_id_is_known"): added(REJECTED_EDGES, right_node_id=1),
    (IDENTITY_MAP, "node_id_is_known"): each(node_id=lambda row: row["node_id"] + 1),
    (IDENTITY_MAP, "edges_have_persons"): lambda rows: rows[:1],
    (IDENTITY_MAP, "person_has_one_tenant"): lambda rows: [
        {**row, "tenant": f"t{i % 2}", "canonical_id": 1} for i, row in enumerate(rows)
    ],
    (IDENTITY_MAP, "person_has_a_profile"): each(canonical_id=NOBODY),
    (IDENTITY_REDIRECTS, "one_step"): lambda rows: added(
        IDENTITY_REDIRECTS, retired_canonical_id=NOBODY, canonical_id=1
    )(added(IDENTITY_REDIRECTS, retired_canonical_id=NOBODY + 1, canonical_id=NOBODY)(rows)),
    (IDENTITY_REDIRECTS, "leads_to_somebody"): added(
        IDENTITY_REDIRECTS, retired_canonical_id=NOBODY, canonical_id=NOBODY + 1
    ),
    (IDENTITY_REDIRECTS, "retired_is_nobody"): added(
        IDENTITY_REDIRECTS, retired_canonical_id=FIRST_PERSON, canonical_id=NOBODY
    ),
    (IDENTITY_LOG, "last_word_is_the_map"): each(to_canonical_id=NOBODY),
    (SESSIONS, "owner_is_known"): each(owner_node_id=NOBODY),
    (SESSIONS, "user_owns"): each(user_node_id=NOBODY),
    (SESSIONS, "events_are_counted_once"): each(event_count=99),
    (PROFILES, "person_is_known"): each(canonical_id=lambda row: row["canonical_id"] + NOBODY),
    (PROFILES, "sessions_are_counted_once"): each(event_count=99),
    (EVENTS, "not_from_the_future"): each(event_at=LATE, event_date=LATE.date()),
    (BATCHES, "most_events_are_valid"): each(quarantined_count=lambda row: row["received_count"] + 1),
    # one per kind that every table has
    (EVENTS, "key_is_unique"): twice,
    (IDENTITY_MAP, "key_is_unique"): twice,
    (IDENTITY_LOG, "cause_is_accepted"): each(cause="a whim"),
    (PROFILES, "event_count_is_at_least_0"): each(event_count=-1),
}
