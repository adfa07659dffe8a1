"""The cohorts job: the members that a question finds, as files of the asked format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chispa import assert_df_equality

from conf.settings import load_settings
from conf.tables import IDENTITY_REDIRECTS
from pipelines.apps.jobs.cohorts import Export, _with_json_for_lists, run
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.engine import ENVIRONMENT
from tests.pipelines.lake_rows import drop_lake, make_lake, only_redirects_in_catalog, publish, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_a_csv_cell_has_one_value_so_lists_maps_and_structs_become_json(spark: SparkSession) -> None:
    columns = (
        "canonical_id long, platforms array<string>, counts map<string, long>, first struct<campaign: string>"
    )
    rows = [(1, ["web", "ios"], {"email": 2}, ("spring",)), (2, [], {}, (None,)), (3, None, None, None)]
    wanted = [
        (1, '["web","ios"]', '{"email":2}', '{"campaign":"spring"}'),
        (2, "[]", "{}", "{}"),
        (3, None, None, None),
    ]
    assert_df_equality(
        _with_json_for_lists(spark.createDataFrame(rows, columns)),
        spark.createDataFrame(wanted, "canonical_id long, platforms string, counts string, first string"),
    )


def test_every_cohort_is_a_folder_of_the_members_that_are_published(
    lake_dir: Path, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second export takes the place of the first one."""
    only_redirects_in_catalog(monkeypatch)
    lake, hot = make_lake(lake_dir), IDENTITY_REDIRECTS.hot
    writer = DeltaRsWriter(lake)
    question = "SELECT canonical_id, retired_canonical_id FROM silver.identity_redirects_live"
    export = Export(
        lake.path, str(tmp_path / "out"), {"moved": question, "nobody": f"{question} WHERE false"}, "parquet"
    )
    try:
        for batch, retired in ((1, 5), (2, 6), (3, 7)):
            row = {"retired_canonical_id": retired, "canonical_id": 3, "updated_batch_id": batch}
            writer.append(hot, rows_of(hot, row), Txn("s", batch))
            if batch < 3:
                publish(lake, writer, batch)
            if batch != 2:
                assert run(spark, load_settings(ENVIRONMENT), export) == {"moved": min(batch, 2), "nobody": 0}
    finally:
        drop_lake(spark)
    columns = "canonical_id long, retired_canonical_id long"
    for name, members in (("moved", [(3, 5), (3, 6)]), ("nobody", [])):
        assert_df_equality(
            spark.read.parquet(str(tmp_path / "out" / name)),
            spark.createDataFrame(members, columns),
            ignore_row_order=True,
            ignore_nullable=True,
            ignore_metadata=True,
        )
