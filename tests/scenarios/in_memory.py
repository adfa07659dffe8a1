"""A lake without a JVM: the steps of a batch, one after the other, with a memory in place of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from conf.policy import Policy
from conf.source_mapping import load_mapping
from conf.tables import EVENTS, SESSIONS
from pipelines.lake.views import view_statements
from pipelines.state.lake_state import EVENT_KEYS, LakeState
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import cut_activity, own_sessions
from pipelines.stream.batch.folding import fold_persons
from pipelines.stream.batch.intent import Intent
from pipelines.stream.batch.judged import judge
from pipelines.stream.batch.named import named_in
from pipelines.stream.batch.resolution import identify
from tests.scenarios.outcome import Outcome, outcomes_of
from transforms.identity.components import driver_components
from transforms.ingest.decisions import Decision
from transforms.ingest.parse import RecordParser
from transforms.ingest.parsed_schema import Records

MAPPINGS = {"native": load_mapping("native")}


class World:
    """One lake under one policy; `feed` is one batch."""

    def __init__(self, policy: Policy, key: bytes = b"k" * 32) -> None:
        self.policy, self.state, self.batch_id = policy, LakeState(policy), 0
        self.parser = RecordParser(MAPPINGS, policy, key)
        self.identifiers: list[pa.Table] = []
        self.events = EVENTS.arrow.empty_table()
        self.refused: list[dict[str, Any]] = []
        self.profiles: dict[int, dict[str, Any]] = {}

    def feed(
        self,
        records: Sequence[dict[str, Any]],
        decided: Callable[[pa.Table], list[Decision]] = lambda valid: [],
        *,
        fails: bool = False,
    ) -> None:
        """`decided`: what somebody decides in this batch about identifiers that its events name. `fails`: the batch is
        undone before it is published."""
        self.batch_id += 1
        received = pa.Table.from_batches([self.parser.parse(_records(records, self.batch_id))])
        named = named_in(received).once()
        outcome = judge(received, self.state)
        valid = received.filter(pa.array(outcome.valid))
        self.refused += received.filter(pa.array(outcome.refused)).to_pylist()
        intent = Intent("s", self.batch_id, self.batch_id, self.batch_id, {}, "", "", "", "")
        identified = identify(
            named, valid, decided(valid), self.state, self.policy, driver_components, intent
        )
        # More events than are asked for do no harm.
        cut = cut_activity(valid, self.state, self.policy, intent, lambda _: self.events)
        owned = own_sessions(valid, cut, identified, self.state, self.policy, intent)
        profiles = fold_persons(owned, self.state, self.policy, intent.batch_id)
        self.state.event_keys.replace(np.empty(0, np.int64), valid.select(EVENT_KEYS.names))
        if fails:
            self.state.undo()
            return
        self.state.settle()
        self.events = pa.concat_tables([self.events, rows.event_rows(valid, self.batch_id)])
        self.identifiers.append(identified.identifiers)
        for row in profiles.to_pylist():
            self.profiles.pop(row["canonical_id"], None)
            if not row["is_deleted"]:
                self.profiles[row["canonical_id"]] = row

    def outcomes(self) -> dict[str, Outcome]:
        """What has come out so far, by case."""
        state = self.state
        nodes = state.identity._nodes.all_rows(["id", "canonical", "is_shared"])
        nodes = nodes.rename_columns(["node_id", "canonical_id", "is_shared"])
        sessions = state.sessions.all_rows(list(SESSIONS.names))
        refusals = state.identity._refusals.all_rows(["left", "right"])
        return outcomes_of(
            identifiers=pa.concat_tables(self.identifiers).to_pylist(),
            owners=nodes.to_pylist(),
            refusals=refusals.rename_columns(["left_node_id", "right_node_id"]).to_pylist(),
            events=self.events.to_pylist(),
            sessions=sessions.to_pylist(),
            quarantine=self.refused,
            profiles=list(self.profiles.values()),
            intervals=_intervals(sessions, nodes),
        )


def outcomes_in_memory(policy: Policy, batches: Iterable[Sequence[dict[str, Any]]]) -> dict[str, Outcome]:
    """What comes out of records that arrive in these batches, by case."""
    world = World(policy)
    for batch in batches:
        if batch:
            world.feed(batch)
    return world.outcomes()


def _intervals(sessions: pa.Table, nodes: pa.Table) -> list[dict[str, Any]]:
    """What the view silver.device_ownership says of them."""
    nodes = nodes.append_column("namespace", pa.nulls(nodes.num_rows, pa.string()))  # the view shows it
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver")
        db.register("sessions", sessions)
        db.register("nodes", nodes)
        db.execute("CREATE VIEW silver.sessions_live AS SELECT * FROM sessions")
        db.execute("CREATE VIEW silver.identity_map_live AS SELECT * FROM nodes")
        return db.sql(view_statements()["silver.device_ownership"]).to_arrow_table().to_pylist()


def _records(records: Sequence[dict[str, Any]], batch_id: int) -> Records:
    n = len(records)
    return Records(
        ["here"] * n, ["native"] * n, ["events"] * n, [f"{batch_id}.jsonl"] * n, list(range(n)), ["json"] * n,
        [orjson.dumps(r) for r in records], [0] * n,
    )  # fmt: skip
