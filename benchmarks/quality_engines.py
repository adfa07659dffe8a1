"""Who should count for the quality job? The same expectations of one table, counted by pandas, by Spark and by DuckDB.

`python -m benchmarks.quality_engines` prints seconds, CPU seconds and peak memory of each, in a process of its own.
pandas and Spark are Great Expectations' own engines; DuckDB counts, and Great Expectations judges the counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report.record import record
from conf.tables import IDENTITY_MAP
from pipelines.runtime.process_end import run_and_end

ENGINES = ("duckdb", "pandas", "spark")
CHECKED = ("tenant", "node_id", "canonical_id", "updated_batch_id")  # declared never null


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.quality_engines", description=__doc__)
    p.add_argument("--rows", type=int, default=3_000_000)
    p.add_argument("--engine", choices=ENGINES, help="only this one, in this process, on --file")
    p.add_argument("--file", type=Path)
    args = p.parse_args(argv)
    if args.engine:
        print(json.dumps(_counted_by(args.engine, args.file)))
        return 0
    with tempfile.TemporaryDirectory(prefix="stitchlake-quality-engines-") as scratch:
        file = Path(scratch) / "rows.parquet"
        _write(file, args.rows)
        rows = []
        for engine in ENGINES:
            command = [
                sys.executable,
                "-m",
                "benchmarks.quality_engines",
                "--engine",
                engine,
                "--file",
                str(file),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{engine:<7} {found}", flush=True)
            conditions = {"rows": args.rows, "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}
            rows.append(
                {
                    "name": f"quality engine {engine}: peak memory",
                    "value": found["peak_mb"],
                    "unit": "MB",
                    "target": None,
                    "passed": None,
                    "baseline": None,
                    "conditions": conditions,
                }
            )
        record("quality engine", rows)
    return 0


def _write(file: Path, count: int) -> None:
    """Rows of silver.identity_map, as far as the expectations look at them."""
    rng = np.random.default_rng(7)
    columns: dict[str, Any] = {
        "tenant": pa.array(np.full(count, "default")),
        "node_id": rng.permutation(count).astype(np.int64) * 3_000_000_007,
        "namespace": pa.array(rng.choice(["user_id", "email", "device_id", "cookie_id"], count)),
        "canonical_id": rng.integers(1, count // 3, count),
        "component_id": rng.integers(1, count // 3, count),
        "is_shared": rng.random(count) < 0.01,
        "first_canonical_id": rng.integers(1, count // 3, count),
        "updated_batch_id": rng.integers(1, 1000, count),
    }
    pq.write_table(pa.table(columns), file, compression="zstd")


def _counted_by(engine: str, file: Path) -> dict[str, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations  # noqa: F401  # everybody pays for it

    base = _used()
    started = time.perf_counter()
    broken = {"duckdb": _duckdb, "pandas": _pandas, "spark": _spark}[engine](file)
    seconds = time.perf_counter() - started
    cpu, peak = _used()
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu - base[0], 1),
        "peak_mb": round(peak),
        "broken": broken,
    }


def _used() -> tuple[float, float]:
    """CPU seconds and peak MB of this process and its children, the JVM among them."""
    cpu, peak = 0.0, 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        cpu += usage.ru_utime + usage.ru_stime
        peak += usage.ru_maxrss / 1024
    return cpu, peak


def _duckdb(file: Path) -> int:
    import duckdb

    from quality.measure import measure
    from quality.rules import rules_of
    from quality.suites import judge

    con = duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(file.parent)})
    con.execute(f"CREATE SCHEMA silver; CREATE VIEW silver.identity_map_live AS SELECT * FROM '{file}'")
    rules = [rule for rule in rules_of(IDENTITY_MAP) if rule.kind != "columns"]
    measured = measure(IDENTITY_MAP, rules, (), lambda query: con.execute(query).fetchone() or ())
    return sum(not judge(one).is_success for one in measured)


def _pandas(file: Path) -> int:
    import great_expectations as gx

    frame = pq.read_table(file).to_pandas()
    asset = gx.get_context(mode="ephemeral").data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    return _broken(batch)


def _spark(file: Path) -> int:
    import great_expectations as gx

    from pipelines.runtime.session import build_session

    spark = build_session("quality engines", "local[2]", driver_memory="2g")
    frame = spark.read.parquet(str(file))
    asset = gx.get_context(mode="ephemeral").data_sources.add_spark("spark").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    broken = _broken(batch)
    spark.stop()
    if (gateway := spark.sparkContext._gateway) is not None:
        gateway.shutdown()
        if gateway.proc is not None:  # its memory counts once it is over
            gateway.proc.stdin.close()
            gateway.proc.wait()
    return broken


def _broken(batch: Any) -> int:
    import great_expectations as gx
    import great_expectations.expectations as gxe

    suite = gx.ExpectationSuite(
        name="identity_map",
        expectations=[
            *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in CHECKED),
            gxe.ExpectColumnValuesToBeUnique(column="node_id"),
            gxe.ExpectColumnValuesToBeBetween(column="canonical_id", min_value=1),
        ],
    )
    return sum(not one.success for one in batch.validate(suite, result_format="BASIC").results)


if __name__ == "__main__":
    run_and_end(main)
