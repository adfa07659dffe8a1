"""A batch that fails costs the next one nothing: what it changed of the driver's state is taken back, all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.table_spec import TableSpec
from conf.tables import BATCHES, IDENTITY_DECISIONS, IDENTITY_MAP, PROFILES, SESSIONS
from pipelines.lake.snapshot import published
from pipelines.lake.writing.writer import Txn
from pipelines.state import keyed_rows
from pipelines.state.keyed_rows import KeyedRows
from pipelines.state.lake_state import LakeState
from tests.direct_lake import DirectLake
from tests.examples import examples

SCHEMA = pa.schema([("key", pa.int64()), ("group", pa.int64()), ("text", pa.string())])
small = st.integers(1, 4)
rows_of_keys = st.lists(st.tuples(small, small, st.sampled_from("abc")), max_size=6)
steps = st.lists(st.tuples(st.sampled_from(["replace", "settle", "undo"]), small, rows_of_keys), max_size=20)


def rows(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))


@settings(max_examples=examples(300))
@given(rows_of_keys, steps)
def test_rows_are_after_an_undo_what_they_were_when_they_were_settled(loaded, steps):
    """Seen to fail where `undo` left alone the rows that a merge had moved, and where it left those marked dead."""

    def table(values: list[tuple]) -> pa.Table:
        return pa.Table.from_pylist([dict(zip(SCHEMA.names, v, strict=True)) for v in values], schema=SCHEMA)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keyed_rows, "PACKED_FROM", 5)
        held = KeyedRows(SCHEMA, ("key", "group"))
        held.load(table(loaded))
        now, settled = list(loaded), list(loaded)
        for step, key, new in steps:
            if step == "replace":
                held.replace(held.find("key", np.array([key])), table(new))
                now = [v for v in now if v[0] != key] + new
            elif step == "settle":
                held.settle()
                settled = list(now)
            else:
                held.undo()
                now = list(settled)
            assert len(held) == len(now)
            assert rows(held.all_rows()) == rows(table(now))
            for asked in range(1, 5):
                found = held.rows("group", np.array([asked]))
                assert rows(found) == rows(table([v for v in now if v[1] == asked]))


def event(at: int, **identifiers: str) -> dict[str, object]:
    instant = f"2026-03-0{1 + at // 1440}T{at // 60 % 24:02d}:{at % 60:02d}:00Z"
    return {"event_id": f"e{at}", "timestamp": instant, "identifiers": identifiers}


# The last of them touches everything: it joins persons, makes a device shared, cuts a session, decides.
BATCHES_OF_EVENTS = [
    [
        event(1, device_id="d", user_id="ann"),
        event(2, device_id="d"),
        event(9, email="a@x.org", cookie_id="c"),
    ],
    [event(3, device_id="e", user_id="ann"), event(500, device_id="d"), event(510, cookie_id="c")],
    [
        event(400, device_id="d", user_id="bea"),
        event(501, device_id="d", user_id="bea"),
        event(4, email="a@x.org", user_id="ann"),
        event(700, cookie_id="new"),
    ],
]
DECISION = {
    "decision_id": "k1",
    "decision": "keep_apart",
    "decided_at": "2026-03-02T00:00:00Z",
    "tenant": "default",
    "sides": [[{"namespace": "user_id", "value": "ann"}], [{"namespace": "user_id", "value": "bea"}]],
}


def contents(state: LakeState) -> dict[str, object]:
    """Everything that a state says, with codes as what they stand for."""
    identity = state.identity
    parts = {
        **{
            name: getattr(identity, name)
            for name in ("_nodes", "_edges", "_redirects", "_refusals", "_merge_requests")
        },
        **{name: getattr(state, name) for name in ("sessions", "event_keys", "other_identifiers")},
    }
    found: dict[str, object] = {"decisions": sorted(map(repr, identity.decisions._decisions.values()))}
    for name, part in parts.items():
        table = part.all_rows()
        for column, codes in (
            ("tenant", state.tenants),
            ("source", state.mappings),
            ("namespace", state.namespaces),
        ):
            if column in table.column_names and pa.types.is_integer(table.schema.field(column).type):
                at = table.column_names.index(column)
                table = table.set_column(at, column, codes.decode(table[column].to_numpy()))
        found[name] = rows(table)
    return found


class Broken(Exception):
    """What the disk says."""


def break_writes(lake: DirectLake, spec: TableSpec, is_after: bool) -> list[str]:
    """Let the next commit to a table fail, before it is made or after. Returns the list of what was written."""
    writer, written = lake.processor.setup.writer, []
    append = writer.append

    def failing(table: TableSpec, data: pa.Table, txn: Txn) -> int:
        if table is spec and spec.full_name not in written:
            written.append(table.full_name)
            if is_after:
                append(table, data, txn)
            raise Broken
        return append(table, data, txn)

    writer.append = failing
    return written


def lake_before_the_last(folder: Path) -> DirectLake:
    lake = DirectLake(folder, mappings=("native",))
    for batch in BATCHES_OF_EVENTS[:-1]:
        lake.feed(batch)
    return lake


def last_batch(lake: DirectLake) -> pa.Table:
    events = lake.parsed(BATCHES_OF_EVENTS[-1], "native", "last.jsonl")
    return pa.concat_tables([events, lake.parsed(json.dumps(DECISION).encode(), "control", "1.json")])


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> DirectLake:
    lake = lake_before_the_last(tmp_path_factory.mktemp("clean") / "lake")
    rows = last_batch(lake)
    lake.processor.process(lambda: rows, lake.batches)
    return lake


@pytest.mark.parametrize("is_after", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize(
    "spec",
    [IDENTITY_DECISIONS.hot, IDENTITY_MAP.hot, SESSIONS.hot, PROFILES.hot, BATCHES],
    ids=lambda spec: spec.full_name,
)
def test_a_failed_batch_leaves_the_state_as_it_was_and_nothing_is_read_again(spec, is_after, clean, tmp_path):
    """Seen to fail where the state was dirty after a failure: the next batch read the whole lake again."""
    lake = lake_before_the_last(tmp_path / "lake")
    before = contents(lake.processor.last.ready())
    opened = []
    setup = lake.processor.setup
    lake.processor.last._setup = replace(
        setup, open_state=lambda snapshot: opened.append(snapshot) or setup.open_state(snapshot)
    )
    batch = last_batch(lake)
    written = break_writes(lake, spec, is_after)
    with pytest.raises(Broken):
        lake.processor.process(lambda: batch, lake.batches)
    assert written == [spec.full_name]
    assert contents(lake.processor.last.state) == before
    lake.processor.process(lambda: batch, lake.batches)  # the same batch, called again
    # A batch whose row is published has succeeded, whatever the writer said: that one has to be read.
    assert len(opened) == (spec is BATCHES and is_after)
    assert lake.contents() == clean.contents()
    kept, read = lake.processor.last.state, LakeState.load(published(lake.lake), lake.policy)
    assert contents(kept) == contents(read)
    assert contents(clean.processor.last.state)["sessions"] == contents(read)["sessions"]


def test_a_stream_that_goes_on_after_a_failure_compacts_while_it_is_idle(tmp_path: Path) -> None:
    """Seen to fail while `go_on` kept the failure of the batch before."""
    lake = DirectLake(tmp_path / "lake")
    lake.settings = replace(lake.settings, compact_every_seconds=0.0)
    lake.processor = lake.new_processor()
    lake.feed([event(0, cookie_id="c1", user_id="u1")])
    lake.processor.compact()

    def broken() -> pa.Table:
        raise OSError("the broker is away")

    with pytest.raises(OSError, match="away"):
        lake.processor.process(broken, 1)
    lake.processor.end()
    lake.processor.go_on()
    lake.processor.compactions.count(1)
    lake.processor.compactions._may_from = lake.processor.compactions._due_at = 0.0
    lake.processor.compact_if_due()
    assert lake.processor.compactions.is_running or not lake.processor.compactions.is_due
    lake.processor.close()
