"""Compaction may happen at any time, be interrupted anywhere, and be repeated: no reader sees a difference."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.table_spec import SpecError
from conf.tables import IDENTITY_EDGES, IDENTITY_LOG, IDENTITY_MAP, PROFILES, SESSIONS
from pipelines.lake.lake import Lake
from pipelines.lake.live_rows import newest_rows, upserts, without_keys_of
from pipelines.lake.writing import base_rewrite
from pipelines.lake.writing.compaction import compact_files, compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.spark_writer import SparkWriter
from pipelines.lake.writing.writer import TableWriter, Txn
from tests.examples import examples
from tests.pipelines.lake_rows import make_lake, plain, rows_of

pytestmark = pytest.mark.thorough  # many small tables; left to the whole run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WriterFor = Callable[[Lake], TableWriter]
GONE = {"is_deleted": True}
KINDS = ("together", "alias", "together", "alias")


@pytest.fixture(params=["delta_rs", pytest.param("spark", marks=pytest.mark.spark)])
def writer_for(request: pytest.FixtureRequest) -> WriterFor:
    if request.param == "delta_rs":
        return DeltaRsWriter
    session: SparkSession = request.getfixturevalue("spark")
    return lambda lake: SparkWriter(lake, session)


def put(lake: Lake, batch: int, *rows: dict[str, Any]) -> None:
    """A batch's hot rows of silver.sessions: {session_id: …, event_count: …} or a tombstone."""
    table = rows_of(SESSIONS.hot, *({"updated_batch_id": batch, **row} for row in rows))
    DeltaRsWriter(lake).append(SESSIONS.hot, table, Txn("s", batch))


def session(number: int, count: int = 0) -> dict[str, Any]:
    return {"session_id": number, "event_count": count}


def live(lake: Lake, spec=SESSIONS) -> list[dict]:
    """What a reader of base ∪ newest of hot sees, worked out the slow and obvious way."""
    seen = {}
    for row in lake.open(spec).to_pyarrow_table().to_pylist():
        seen[tuple(row[k] for k in spec.key)] = row
    for row in sorted(
        lake.open(spec.hot).to_pyarrow_table().to_pylist(), key=lambda row: row["updated_batch_id"]
    ):
        is_deleted = row.pop("is_deleted")
        key = tuple(row[k] for k in spec.key)
        if is_deleted:
            seen.pop(key, None)
        else:
            seen[key] = row
    return [seen[key] for key in sorted(seen)]


def counts(lake: Lake) -> dict[int, int]:
    return {
        row["session_id"]: row["event_count"] for row in lake.open(SESSIONS).to_pyarrow_table().to_pylist()
    }


class TestBothEngines:
    def test_the_base_gets_the_newest_row_of_every_key(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, SESSIONS)
        writer = writer_for(lake)
        put(lake, 0, session(1, 10), session(2, 20), session(3, 30))
        compact_hot(lake, SESSIONS, 0, writer)
        put(lake, 1, session(1, 11), session(2) | GONE, session(4, 40))
        put(lake, 2, session(1, 12), session(4) | GONE, session(5, 50))
        put(lake, 3, session(2, 23), session(6) | GONE)
        expected = live(lake)
        versions = compact_hot(lake, SESSIONS, 3, writer)
        assert counts(lake) == {1: 12, 2: 23, 3: 30, 5: 50}
        assert live(lake) == expected
        assert lake.open(SESSIONS.hot).count() == 0
        assert (versions.base_version, versions.hot_version) == (
            lake.version(SESSIONS),
            lake.version(SESSIONS.hot),
        )

    def test_rows_of_later_batches_stay_hot(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, SESSIONS)
        for batch in range(4):
            put(lake, batch, session(1, batch), session(10 + batch, batch))
        expected = live(lake)
        compact_hot(lake, SESSIONS, 1, writer_for(lake))
        assert counts(lake) == {1: 1, 10: 0, 11: 1}
        assert sorted(lake.open(SESSIONS.hot).to_pyarrow_table()["updated_batch_id"].to_pylist()) == [
            2,
            2,
            3,
            3,
        ]
        assert live(lake) == expected

    def test_interrupted_compaction_shows_readers_the_same_rows(
        self, lake_dir: Path, writer_for: WriterFor
    ) -> None:
        lake = make_lake(lake_dir, SESSIONS)
        put(lake, 0, session(1, 10), session(2, 20))
        compact_hot(lake, SESSIONS, 0, writer_for(lake))
        put(lake, 1, session(1, 11), session(2) | GONE, session(3, 31))
        expected = live(lake)
        writer_for(lake).fold(SESSIONS, 1)  # and the process dies here
        assert live(lake) == expected
        put(lake, 2, session(3) | GONE, session(4, 42))
        expected = live(lake)
        compact_hot(lake, SESSIONS, 2, writer_for(lake))
        assert live(lake) == expected
        assert counts(lake) == {1: 11, 4: 42}

    def test_compacting_twice_commits_nothing(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, SESSIONS)
        put(lake, 0, session(1, 10), session(2) | GONE)
        once = compact_hot(lake, SESSIONS, 0, writer_for(lake))
        assert compact_hot(lake, SESSIONS, 0, writer_for(lake)) == once

    def test_keys_of_several_columns_and_maps_survive(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_EDGES, PROFILES)
        rs = DeltaRsWriter(lake)
        pair = {"left_node_id": 1, "right_node_id": 2, "source": "web"}
        for batch, kind in enumerate(("together", "alias") if writer_for is not DeltaRsWriter else KINDS):
            edge = {**pair, "kind": kind, "evidence_count": batch, "updated_batch_id": batch}
            rs.append(IDENTITY_EDGES.hot, rows_of(IDENTITY_EDGES.hot, edge), Txn("s", batch))
            person = {"canonical_id": batch % 2, "updated_batch_id": batch}
            rs.append(
                PROFILES.hot, rows_of(PROFILES.hot, person, {**person, "canonical_id": 7}), Txn("s", batch)
            )
            expected = live(lake, IDENTITY_EDGES), live(lake, PROFILES)
            compact_hot(lake, IDENTITY_EDGES, batch, writer_for(lake))
            compact_hot(lake, PROFILES, batch, rs)
            assert (live(lake, IDENTITY_EDGES), live(lake, PROFILES)) == expected
        assert {e["kind"] for e in lake.open(IDENTITY_EDGES).to_pyarrow_table().to_pylist()} == {
            "alias",
            "together",
        }
        assert lake.open(PROFILES).count() == 3


def test_folding_once_more_finds_nothing_to_do(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SESSIONS)
    put(lake, 0, session(1, 10), session(2) | GONE)
    assert [DeltaRsWriter(lake).fold(SESSIONS, 0) for _ in range(2)] == [1, 1]


@pytest.mark.slow  # an interruption at every commit, with both engines
def test_one_engine_goes_on_where_the_other_was_interrupted(lake_dir: Path, spark: SparkSession) -> None:
    lake = make_lake(lake_dir, SESSIONS)
    engines = [DeltaRsWriter(lake), SparkWriter(lake, spark)]
    for batch in range(3):
        gone = [session(1 + batch) | GONE] if batch else []
        put(lake, batch, session(1, batch), session(2 + batch), *gone)
        expected = live(lake)
        engines[batch % 2].fold(SESSIONS, batch)
        assert live(lake) == expected
        engines[(batch + 1) % 2].forget_hot(SESSIONS, batch)
        assert live(lake) == expected


Step = st.one_of(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=5).map(lambda rows: ("batch", dict(rows))),
    st.sampled_from([("fold", None), ("forget", None), ("compact", None), ("join", None)]),
)


@pytest.mark.thorough
@given(steps=st.lists(Step, max_size=14), rows_per_file=st.sampled_from([1, 3, 100_000]))
@settings(max_examples=examples(15))
def test_compaction_at_random_moments_never_changes_the_live_rows(steps, rows_per_file: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_rewrite, "ROWS_PER_FILE", rows_per_file)
        lake = make_lake(Path(folder), SESSIONS)
        writer = DeltaRsWriter(lake)
        model: dict[int, int] = {}
        batch = folded = -1
        for what, rows in steps:
            if what == "batch":
                batch += 1
                put(lake, batch, *(session(n, batch) | ({} if stays else GONE) for n, stays in rows.items()))
                for number, stays in rows.items():
                    model[number] = batch
                    if not stays:
                        del model[number]
            elif what == "fold":
                writer.fold(SESSIONS, batch)
                folded = batch
            elif what == "forget":
                writer.forget_hot(SESSIONS, folded)
            elif what == "compact":
                compact_hot(lake, SESSIONS, batch, writer)
                folded = batch
            else:
                compact_files(lake, SESSIONS, from_files=2)
            assert {row["session_id"]: row["event_count"] for row in live(lake)} == model


def test_only_files_that_hold_a_replaced_key_are_rewritten(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SESSIONS)
    writer = DeltaRsWriter(lake)
    for batch in range(5):
        put(lake, batch, *(session(10 * batch + n) for n in range(10)))
        compact_hot(lake, SESSIONS, batch, writer)
    before = set(lake.open(SESSIONS).file_uris())
    put(lake, 5, session(32, 99), session(99))
    compact_hot(lake, SESSIONS, 5, writer)
    after = set(lake.open(SESSIONS).file_uris())
    assert (len(before), len(before - after), len(after - before)) == (5, 1, 1)
    assert lake.open(SESSIONS).count() == 51


def test_a_rewritten_file_has_true_statistics_and_none_on_personal_data(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, PROFILES)
    people = [{"canonical_id": n, "updated_batch_id": 0, "session_count": None if n else 4} for n in range(3)]
    DeltaRsWriter(lake).append(PROFILES.hot, rows_of(PROFILES.hot, *people), Txn("s", 0))
    compact_hot(lake, PROFILES, 0, DeltaRsWriter(lake))
    entry = lake.table_path(PROFILES) / "_delta_log" / "00000000000000000001.json"
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    stats = json.loads(next(a["add"]["stats"] for a in actions if "add" in a))
    assert stats["numRecords"] == 3
    assert (stats["minValues"]["canonical_id"], stats["maxValues"]["canonical_id"]) == (0, 2)
    assert stats["maxValues"]["first_seen_at"] == "2026-03-01T12:02:00.123456Z"
    assert stats["nullCount"]["session_count"] == 2
    assert not any("referrer" in name for part in ("minValues", "nullCount") for name in stats[part])
    # Readers leave out files by these: a column without bounds would hide its rows.
    for name, value in (("tenant", "default"), ("is_identified", True)):
        found = lake.open(PROFILES).to_pyarrow_dataset().to_table(filter=pc.field(name) == value)
        assert len(found) == len(
            [r for r in lake.open(PROFILES).to_pyarrow_table().to_pylist() if r[name] == value]
        )


def test_a_failed_commit_leaves_no_file_behind(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, SESSIONS)
    put(lake, 0, session(1))

    class Broken:
        """A table whose commit fails."""

        def __init__(self, table) -> None:
            self._table = table

        def __getattr__(self, name: str):
            return getattr(self._table, name)

        def create_write_transaction(self, *_: object, **__: object) -> None:
            raise OSError("no space left on device")

    newest = newest_rows(SESSIONS, lake.open(SESSIONS.hot).to_pyarrow_table())
    with pytest.raises(OSError, match="no space left"):
        base_rewrite.fold_into_base(
            lake.table_path(SESSIONS), Broken(lake.open(SESSIONS)), SESSIONS, newest, None
        )
    assert list(lake.table_path(SESSIONS).glob("*.parquet")) == []


def test_small_files_are_joined_once_there_are_enough_of_them(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG)
    writer = DeltaRsWriter(lake)
    for batch in range(8):
        writer.append(IDENTITY_LOG, rows_of(IDENTITY_LOG, {"batch_id": batch}), Txn("s", batch))
    assert compact_files(lake, IDENTITY_LOG, from_files=9) == 8
    assert compact_files(lake, IDENTITY_LOG, from_files=8) == 9
    assert (lake.open(IDENTITY_LOG).count(), len(lake.open(IDENTITY_LOG).file_uris())) == (8, 1)
    assert lake.open(IDENTITY_LOG).transaction_version("s") == 7


def test_tables_without_a_hot_part_are_refused_and_hot_parts_are_not_joined(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG, SESSIONS)
    with pytest.raises(SpecError, match=r"silver\.identity_log is not upserted"):
        compact_hot(lake, IDENTITY_LOG, 0, DeltaRsWriter(lake))
    with pytest.raises(SpecError, match="hot part"):
        compact_files(lake, SESSIONS.hot)


def test_the_newest_row_of_a_key_is_found_and_its_older_ones_are_not(lake_dir: Path) -> None:
    hot = rows_of(
        IDENTITY_MAP.hot,
        *(
            {"node_id": n, "updated_batch_id": b} | (GONE if gone else {})
            for n, b, gone in [(1, 0, False), (2, 1, True), (1, 2, True), (2, 3, False), (3, 3, False)]
        ),
    )
    newest = newest_rows(IDENTITY_MAP, hot)
    assert [(r["node_id"], r["updated_batch_id"]) for r in plain(newest, "node_id")] == [
        (1, 2),
        (2, 3),
        (3, 3),
    ]
    assert sorted(upserts(newest)["node_id"].to_pylist()) == [2, 3]
    base = rows_of(IDENTITY_MAP, *({"node_id": n} for n in range(5)))
    left = [
        n
        for part in without_keys_of(IDENTITY_MAP, base.to_batches(), newest)
        for n in part["node_id"].to_pylist()
    ]
    assert left == [0, 4]
