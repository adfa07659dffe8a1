"""What holds for both engines that write tables: one set of tests, run against each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from chispa import assert_df_equality
from deltalake import DeltaTable, write_deltalake

from conf.table_spec import TableSpec
from conf.tables import (
    ALL,
    BATCHES,
    BY_NAME,
    EVENTS,
    IDENTITY_LOG,
    IDENTITY_REDIRECTS,
    PROFILES,
    QUARANTINE,
    SESSIONS,
)
from pipelines.lake.lake import Lake
from pipelines.lake.writing import delta_rs_writer
from pipelines.lake.writing.blind_append import append_next
from pipelines.lake.writing.compaction import compact_files
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.engines import AutoWriter, make_writer
from pipelines.lake.writing.spark_writer import SparkWriter
from pipelines.lake.writing.writer import RowsRefused, TableWriter, Txn, conform
from tests.pipelines.lake_rows import make_lake, minute, plain, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOG_ROWS = rows_of(IDENTITY_LOG, {"node_id": 1}, {"node_id": 2})
WriterFor = Callable[[Lake], TableWriter]


@pytest.fixture(params=["delta_rs", pytest.param("spark", marks=pytest.mark.spark)])
def writer_for(request: pytest.FixtureRequest) -> WriterFor:
    """A writer of each engine; only the Spark one starts a session."""
    if request.param == "delta_rs":
        return DeltaRsWriter
    session: SparkSession = request.getfixturevalue("spark")
    return lambda lake: SparkWriter(lake, session)


class TestBothEngines:
    def test_rows_are_there_and_the_version_is_the_tables(
        self, lake_dir: Path, writer_for: WriterFor
    ) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        version = writer_for(lake).append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0))
        assert version == lake.version(IDENTITY_LOG) == 1
        assert plain(lake.open(IDENTITY_LOG).to_pyarrow_table(), "node_id") == plain(LOG_ROWS, "node_id")

    def test_a_transaction_seen_before_writes_nothing(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        # Version 0 is a version: the first batch of a stream is retried like any other.
        assert [writer_for(lake).append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) for _ in range(2)] == [1, 1]
        writer = writer_for(lake)
        assert [writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", n)) for n in (2, 2, 1)] == [2, 2, 2]
        assert lake.open(IDENTITY_LOG).count() == 4

    def test_another_stream_is_not_taken_for_a_replay(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        writer = writer_for(lake)
        for stream in ("s", "t"):
            writer.append(IDENTITY_LOG, LOG_ROWS, Txn(stream, 7))
        assert lake.open(IDENTITY_LOG).count() == 4

    def test_no_rows_are_no_commit(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        assert writer_for(lake).append(IDENTITY_LOG, LOG_ROWS.slice(0, 0), Txn("s", 0)) == 0
        assert lake.open(IDENTITY_LOG).transaction_version("s") is None

    def test_columns_in_another_order_and_of_narrower_types_are_brought_to_the_declaration(
        self, lake_dir: Path, writer_for: WriterFor
    ) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        shuffled = LOG_ROWS.select(LOG_ROWS.column_names[::-1])
        shuffled = shuffled.set_column(
            shuffled.column_names.index("node_id"), "node_id", pa.array([1, 2], pa.int16())
        )
        writer_for(lake).append(IDENTITY_LOG, shuffled, Txn("s", 0))
        assert plain(lake.open(IDENTITY_LOG).to_pyarrow_table(), "node_id") == plain(LOG_ROWS, "node_id")

    def test_missing_and_extra_columns_are_named(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        wrong = LOG_ROWS.drop_columns(["cause"]).append_column("reason", pa.array(["a", "b"]))
        with pytest.raises(
            RowsRefused, match=r"silver\.identity_log: .*missing: cause; not declared: reason"
        ):
            writer_for(lake).append(IDENTITY_LOG, wrong, Txn("s", 0))
        assert lake.version(IDENTITY_LOG) == 0

    def test_no_value_where_there_must_be_one_is_refused(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        hollow = LOG_ROWS.set_column(0, "tenant", pa.array(["default", None]))
        with pytest.raises(RowsRefused, match="column tenant: 1 of 2 rows have no value"):
            writer_for(lake).append(IDENTITY_LOG, hollow, Txn("s", 0))
        assert lake.version(IDENTITY_LOG) == 0

    def test_every_table_and_hot_part_reads_back_as_it_was_written(
        self, lake_dir: Path, writer_for: WriterFor
    ) -> None:
        specs = (
            [*ALL, SESSIONS.hot, PROFILES.hot] if writer_for is DeltaRsWriter else [QUARANTINE, PROFILES.hot]
        )
        lake = make_lake(lake_dir)
        writer = writer_for(lake)
        for spec in specs:
            rows = rows_of(spec, {"end_at": minute(-20_000_000)}, dict.fromkeys(nullable(spec)), {})
            writer.append(spec, rows, Txn("s", 0))
            assert plain(lake.open(spec).to_pyarrow_table(), *spec.key) == plain(rows, *spec.key), (
                spec.full_name
            )

    def test_four_tables_at_once(self, lake_dir: Path, writer_for: WriterFor) -> None:
        lake = make_lake(lake_dir)
        writer = writer_for(lake)
        specs = [
            BY_NAME[n] for n in ("silver.identity_log", "silver.quarantine", "silver.events", "ops.batches")
        ]
        for batch in range(2):
            with ThreadPoolExecutor(4) as threads:
                done = [threads.submit(writer.append, s, rows_of(s, {}, {}), Txn("s", batch)) for s in specs]
                assert [d.result() for d in done] == [batch + 1] * 4
        assert {lake.open(s).count() for s in specs} == {4}


def nullable(spec) -> list[str]:
    return [column.name for column in spec.columns if column.nullable]


def test_a_value_that_does_not_fit_is_refused_without_being_quoted() -> None:
    wrong = LOG_ROWS.set_column(2, "node_id", pa.array(["ada@example.org", "2"]))
    with pytest.raises(
        RowsRefused, match="column node_id: string does not fit the declared int64"
    ) as refusal:
        conform(IDENTITY_LOG, wrong)
    assert "ada" not in str(refusal.value)


def test_a_table_changed_by_upkeep_between_two_writes_is_no_obstacle(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG)
    writer = DeltaRsWriter(lake)
    for batch in range(6):
        writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", batch))
    assert compact_files(lake, IDENTITY_LOG, from_files=2) == 7
    assert writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 6)) == 8
    assert (lake.open(IDENTITY_LOG).count(), len(lake.open(IDENTITY_LOG).file_uris())) == (14, 2)


def in_between(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Have `meanwhile` done once, when rows are about to be committed as the next version."""
    waiting = [meanwhile]

    def late(*args) -> bool:
        while waiting:
            waiting.pop()()
        return append_next(*args)

    monkeypatch.setattr(delta_rs_writer, "append_next", late)


def files_in(lake: Lake, spec: TableSpec) -> int:
    return len(list(lake.table_path(spec).glob("*.parquet")))


def test_a_version_that_somebody_else_took_is_theirs_and_the_next_one_ours(
    lake_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where a version that was there counted as made."""
    lake = make_lake(lake_dir, IDENTITY_LOG)
    ours, theirs = DeltaRsWriter(lake), DeltaRsWriter(lake)
    ours.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0))
    in_between(monkeypatch, lambda: theirs.append(IDENTITY_LOG, LOG_ROWS.slice(0, 1), Txn("t", 0)))
    assert ours.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 1)) == 3
    table = lake.open(IDENTITY_LOG)
    assert (table.count(), len(table.file_uris()), files_in(lake, IDENTITY_LOG)) == (5, 3, 3)
    assert (table.transaction_version("s"), table.transaction_version("t")) == (1, 0)


def test_a_transaction_that_somebody_else_made_meanwhile_is_not_made_again(
    lake_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where the table was not read again."""
    lake = make_lake(lake_dir, IDENTITY_LOG)
    ours, theirs = DeltaRsWriter(lake), DeltaRsWriter(lake)
    in_between(monkeypatch, lambda: theirs.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)))
    assert ours.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 1
    assert (lake.open(IDENTITY_LOG).count(), files_in(lake, IDENTITY_LOG)) == (2, 1)


def test_a_commit_that_cannot_be_made_leaves_nothing(lake_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG)
    writer = DeltaRsWriter(lake)
    with monkeypatch.context() as patched:
        patched.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OSError, match="no room"):
            writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0))
    log = lake.table_path(IDENTITY_LOG) / "_delta_log"
    assert (files_in(lake, IDENTITY_LOG), [p.name for p in log.iterdir()]) == (0, [f"{0:020d}.json"])
    assert writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 1


class TestATableWithARuleOfItsOwn:
    """A user has put a constraint on a table: rows are held against it, so the library writes them."""

    @pytest.fixture
    def lake(self, lake_dir: Path) -> Lake:
        lake = make_lake(lake_dir, IDENTITY_LOG)
        lake.open(IDENTITY_LOG).alter.add_constraint({"few": "node_id < 10"})
        return lake

    def test_it_is_kept(self, lake: Lake) -> None:
        """Seen to fail where every table was appended to in the short way."""
        writer = DeltaRsWriter(lake)
        assert writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 2
        with pytest.raises(RowsRefused, match=r"identity_log: rows break a constraint") as refusal:
            writer.append(IDENTITY_LOG, rows_of(IDENTITY_LOG, {"node_id": 987_654}), Txn("s", 1))
        assert "987" not in str(refusal.value)
        assert lake.open(IDENTITY_LOG).count() == 2

    def test_that_came_between_two_appends_is_kept_as_well(self, lake_dir: Path) -> None:
        lake = make_lake(lake_dir, EVENTS)
        writer = DeltaRsWriter(lake)
        writer.append(EVENTS, rows_of(EVENTS, {"event_key": 1}), Txn("s", 0))
        lake.open(EVENTS).alter.add_constraint({"few": "event_key < 10"})
        with pytest.raises(RowsRefused, match="constraint"):
            writer.append(EVENTS, rows_of(EVENTS, {"event_key": 11}), Txn("s", 1))

    def test_a_conflicting_commit_is_tried_again(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def conflicting(*args, **kwargs) -> None:
            calls.append(1)
            if len(calls) < 3:
                raise delta_rs_writer.CommitFailedError("a concurrent transaction deleted data")
            write_deltalake(*args, **kwargs)

        monkeypatch.setattr(delta_rs_writer, "write_deltalake", conflicting)
        assert DeltaRsWriter(lake).append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 2
        assert (len(calls), lake.open(IDENTITY_LOG).count()) == (3, 2)

    def test_a_commit_that_went_through_although_it_was_reported_as_failed_is_not_repeated(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def written_and_failed(*args, **kwargs) -> None:
            write_deltalake(*args, **kwargs)
            raise delta_rs_writer.CommitFailedError("the connection was lost")

        monkeypatch.setattr(delta_rs_writer, "write_deltalake", written_and_failed)
        assert DeltaRsWriter(lake).append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 2
        assert lake.open(IDENTITY_LOG).count() == 2


@pytest.mark.thorough  # more than ten commits
def test_the_log_gets_checkpoints_and_loses_nothing(lake_dir: Path) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG)
    writer = DeltaRsWriter(lake)
    for batch in range(60):
        writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", batch))
    log = lake.table_path(IDENTITY_LOG) / "_delta_log"
    assert 1 <= len(list(log.glob("*.checkpoint.parquet"))) <= 2  # the first one not at once in all tables
    assert lake.open(IDENTITY_LOG).count() == 120
    assert len(list(log.glob("*.json"))) == 61
    # A new process starts from the checkpoint and still knows what it has seen.
    assert DeltaRsWriter(lake).append(IDENTITY_LOG, LOG_ROWS, Txn("s", 3)) == 60


def test_auto_gives_many_rows_to_spark_and_few_to_delta_rs(lake_dir: Path) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def append(self, spec, rows, txn) -> int:
            self.seen.append(rows.num_rows)
            return 0

    few, many = Recorder(), Recorder()
    writer = AutoWriter(few, many, Lake(lake_dir), spark_from_rows=2)
    writer.append(IDENTITY_LOG, LOG_ROWS.slice(0, 1), Txn("s", 0))
    writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 1))
    assert (few.seen, many.seen) == ([1], [2])


def test_without_a_session_auto_is_delta_rs_and_spark_is_refused(lake_dir: Path) -> None:
    assert isinstance(make_writer("auto", Lake(lake_dir)), DeltaRsWriter)
    with pytest.raises(ValueError, match="needs a Spark session"):
        make_writer("spark", Lake(lake_dir))


def test_spark_reads_what_delta_rs_wrote_and_the_other_way_round(lake_dir: Path, spark: SparkSession) -> None:
    lake = make_lake(lake_dir)
    rs, jvm = DeltaRsWriter(lake), SparkWriter(lake, spark)
    for spec in (SESSIONS, PROFILES, EVENTS, BATCHES):
        from_rs = rows_of(spec, {}, dict.fromkeys(nullable(spec)))
        from_spark = from_rs.set_column(0, spec.arrow.field(0), pa.array(["other", "other"]))
        rs.append(spec, from_rs, Txn("s", 0))
        jvm.append(spec, from_spark, Txn("s", 1))
        both = plain(pa.concat_tables([from_rs, from_spark]), "tenant", *spec.key)
        assert plain(DeltaTable(lake.table_path(spec)).to_pyarrow_table(), "tenant", *spec.key) == both
        in_spark = spark.read.format("delta").load(str(lake.table_path(spec))).toArrow().cast(spec.arrow)
        assert plain(in_spark, "tenant", *spec.key) == both
        # And each knows the other's transactions.
        assert rs.append(spec, from_rs, Txn("s", 1)) == jvm.append(spec, from_rs, Txn("s", 0)) == 2


def test_a_failed_spark_write_leaves_no_transaction_in_the_session(
    lake_dir: Path, spark: SparkSession
) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG, SESSIONS)
    writer = SparkWriter(lake, spark)
    with pytest.raises(Exception, match=r"schema|column|field"):
        writer.write(IDENTITY_LOG, rows_of(SESSIONS, {}), Txn("s", 0))
    for key in ("txnAppId", "txnVersion"):
        assert spark.conf.get(f"spark.databricks.delta.write.{key}", None) is None
    assert writer.append(IDENTITY_LOG, LOG_ROWS, Txn("s", 0)) == 1


def test_spark_itself_skips_a_transaction_it_has_seen(lake_dir: Path, spark: SparkSession) -> None:
    lake = make_lake(lake_dir, IDENTITY_LOG)
    writer = SparkWriter(lake, spark)
    for _ in range(2):
        writer.write(IDENTITY_LOG, LOG_ROWS, Txn("s", 0))
    assert lake.open(IDENTITY_LOG).count() == 2


def test_a_frame_of_what_spark_appended_has_the_rows_that_were_given(
    lake_dir: Path, spark: SparkSession
) -> None:
    """A second append of the same transaction adds nothing. (Folding is in test_compaction.py, for both engines.)"""
    lake, hot = make_lake(lake_dir, IDENTITY_REDIRECTS.hot), IDENTITY_REDIRECTS.hot
    columns = "tenant string, retired_canonical_id long, canonical_id long, updated_batch_id long, is_deleted boolean"
    wanted = [("default", 1, 10, 7, False), ("default", 2, 20, 7, True)]
    given = rows_of(hot, *(dict(zip(hot.names, row, strict=True)) for row in wanted))
    for _ in range(2):
        SparkWriter(lake, spark).append(hot, given, Txn("s", 0))
    assert_df_equality(
        spark.read.format("delta").load(str(lake.table_path(hot))),
        spark.createDataFrame(wanted, columns),
        ignore_row_order=True,
        ignore_nullable=True,
        ignore_metadata=True,
    )
