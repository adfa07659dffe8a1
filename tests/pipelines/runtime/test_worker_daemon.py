"""Workers import from what is installed, and from none of the archives that Spark puts in front of it."""

from __future__ import annotations

import pytest

from pipelines.runtime.worker_daemon import SPARKS_ARCHIVES
from tests.engine import MASTER


@pytest.mark.parametrize(
    "place, is_sparks",
    [
        ("/opt/pyspark/python/lib/pyspark.zip", True),
        ("/opt/pyspark/python/lib/py4j-0.10.9.9-src.zip", True),
        (r"C:\spark\jars\spark-core_2.13-4.0.5.jar", True),
        ("/opt/venv/lib/python3.11/site-packages", False),
        ("/home/ann/stitchlake-0.1.0-py3-none-any.whl", False),
        ("/home/ann/mypyspark.zip", False),
    ],
)
def test_sparks_own_archives_are_known_by_their_names(place: str, is_sparks: bool) -> None:
    assert bool(SPARKS_ARCHIVES.search(place)) == is_sparks


@pytest.mark.skipif(
    MASTER.startswith("local-cluster"), reason="executors of their own start from Spark's daemon"
)
def test_a_worker_has_no_archive_whose_directory_it_would_read_again(spark) -> None:
    """Seen to fail with Spark's own daemon: sixteen of them, of three archives."""

    def look(batches):
        import sys
        import zipimport

        import pyarrow as pa
        import pyspark

        for _ in batches:
            pass
        importers = [i for i in sys.path_importer_cache.values() if isinstance(i, zipimport.zipimporter)]
        archives = [p for p in sys.path if SPARKS_ARCHIVES.search(p)]
        yield pa.record_batch(
            [[len(importers)], [str(archives)], [pyspark.__file__]], ["importers", "path", "pyspark"]
        )

    found = (
        spark.range(1)
        .repartition(1)
        .mapInArrow(look, "importers long, path string, pyspark string")
        .collect()
    )
    ((importers, archives, origin),) = found
    assert (importers, archives) == (0, "[]")
    assert ".zip" not in origin
