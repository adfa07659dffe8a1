"""Live views in Spark's catalog, on small explicit frames; and that no reader shows hot rows of a later batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest
from chispa import assert_df_equality

from conf.tables import BATCHES, IDENTITY_REDIRECTS
from pipelines.lake import views
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.views import register_duckdb, register_spark
from pipelines.lake.writing.compaction import compact_hot
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.state.arrow_lookup import ArrowLookup
from pipelines.state.spark_lookup import SparkLookup
from tests.pipelines.lake_rows import drop_lake, make_lake, only_redirects_in_catalog, publish, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOT = IDENTITY_REDIRECTS.hot
COLUMNS = "retired_canonical_id long, canonical_id long, updated_batch_id long"
GONE = -1
pytestmark = pytest.mark.usefixtures("few_views")


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    only_redirects_in_catalog(monkeypatch)


def redirect(lake: Lake, batch: int, **successors: int) -> None:
    """Hot rows of a batch: `_5=3` redirects 5 to 3; GONE is a tombstone."""
    rows = [
        {
            "retired_canonical_id": int(retired[1:]),
            "canonical_id": successor,
            "is_deleted": successor == GONE,
            "updated_batch_id": batch,
        }
        for retired, successor in successors.items()
    ]
    DeltaRsWriter(lake).append(HOT, rows_of(HOT, *rows), Txn("s", batch))


@pytest.fixture
def lake(lake_dir: Path) -> Lake:
    """5 and 6 in the base, as batch 1 left them; in the hot part 5 is replaced, 6 deleted, 7 new, and 8 comes and
    goes. Batch 2 is published."""
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)
    redirect(lake, 1, _5=1, _6=1, _8=1)
    compact_hot(lake, IDENTITY_REDIRECTS, 1, writer)
    redirect(lake, 2, _5=2, _6=GONE, _7=2, _8=GONE)
    publish(lake, writer, 2)
    return lake


def live_rows_are(spark: SparkSession, *rows: tuple[int, int, int]) -> None:
    found = spark.sql(
        f"SELECT {', '.join(COLUMNS.replace(' long', '').split(', '))} FROM silver.identity_redirects_live"
    )
    assert_df_equality(
        found,
        spark.createDataFrame(list(rows), COLUMNS),
        ignore_row_order=True,
        ignore_nullable=True,
        ignore_metadata=True,
    )


def test_a_live_view_is_the_base_with_the_newest_hot_rows_until_the_catalog_has_moved_on(
    lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables move one by one, ops.batches last. Stopped before it, the hot part has the rows of batch 3 already, and
    the live view shows none of them."""

    def until_batches(spark: SparkSession, name: str, *rest: str) -> None:
        if name == BATCHES.full_name:
            raise KeyboardInterrupt
        view(spark, name, *rest)

    view = views._spark_view
    try:
        shown = register_spark(spark, lake)
        live_rows_are(spark, (5, 2, 2), (7, 2, 2))
        redirect(lake, 3, _5=3, _7=GONE, _9=3)
        publish(lake, DeltaRsWriter(lake), 3)
        with monkeypatch.context() as interrupted:
            interrupted.setattr(views, "_spark_view", until_batches)
            with pytest.raises(KeyboardInterrupt):
                register_spark(spark, lake, shown)
        live_rows_are(spark, (5, 2, 2), (7, 2, 2))
        register_spark(spark, lake, shown)
        live_rows_are(spark, (5, 3, 3), (9, 3, 3))
    finally:
        drop_lake(spark)


class TestHotRowsOfALaterBatch:
    """A version on record may have rows of a batch that died half-written: no reader shows them."""

    @pytest.fixture
    def lake(self, lake: Lake) -> Lake:
        """Batch 4 has written its hot rows when batch 3 is published with the tables as they are."""
        redirect(lake, 3, _9=3)
        redirect(lake, 4, _5=4, _7=GONE, _10=4)
        publish(lake, DeltaRsWriter(lake), 3)
        return lake

    WANTED = ((5, 2, 2), (7, 2, 2), (9, 3, 3))

    def test_in_the_snapshot_and_in_duckdb(self, lake: Lake) -> None:
        snapshot, con = published(lake), duckdb.connect()
        register_duckdb(con, lake)
        names = COLUMNS.replace(" long", "")
        assert con.sql(f"SELECT {names} FROM silver.identity_redirects_live ORDER BY 1").fetchall() == [
            *self.WANTED
        ]
        rows = snapshot.arrow(IDENTITY_REDIRECTS, names.split(", ")).to_pylist()
        assert sorted(tuple(row.values()) for row in rows) == [*self.WANTED]

    def test_in_look_ups_without_spark(self, lake: Lake) -> None:
        assert self.looked_up(ArrowLookup(published(lake))) == [*self.WANTED]

    def test_in_look_ups_by_spark(self, lake: Lake, spark: SparkSession) -> None:
        assert self.looked_up(SparkLookup(published(lake), spark)) == [*self.WANTED]

    def looked_up(self, look_up: ArrowLookup | SparkLookup) -> list[tuple]:
        asked = {"retired_canonical_id": np.arange(20)}
        found = look_up.rows(IDENTITY_REDIRECTS, COLUMNS.replace(" long", "").split(", "), asked)
        return sorted(tuple(row.values()) for row in found.to_pylist())
