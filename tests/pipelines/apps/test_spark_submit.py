"""The job files run by themselves under spark-submit, from the wheel alone and in the session that was configured."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from conf.jars import DELTA, GRAPHFRAMES, KAFKA
from conf.tables import BATCHES, PROFILES
from pipelines.apps.jobs import cohorts, resolve, stream
from pipelines.generator import generate
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.runtime.jars import resolve_jars
from pipelines.runtime.session import SETTINGS, Scope
from tests.pipelines.lake_rows import drop_lake

ROOT = Path(__file__).parents[3]
PACKAGES = ("conf", "transforms", "quality", "pipelines", "serving")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel as `make wheel` builds it, from a copy of the packages with one more environment in it."""
    copy = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    (copy / "conf" / "environments" / "from_the_wheel.yaml").write_text("writer: delta_rs\nengine: driver\n")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    build = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "dist").glob("stitchlake-*.whl")
    return built


def submit(wheel: Path, cwd: Path, job: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    """Run a job file with pyspark's own spark-submit, as docs/spark-submit.md has it; the checkout is out of sight."""
    script = shutil.copy(ROOT / "pipelines" / "apps" / "jobs" / f"{job}.py", cwd)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "SPARK_", "PYSPARK_"))
    }
    environment["PYSPARK_PYTHON"] = str(_python_without_the_checkout(cwd))
    confs = {"spark.ui.enabled": "false", "spark.driver.memory": "1g", **settings}
    command = [
        str(Path(sys.executable).with_name("spark-submit")),
        *("--master", "local[2]"),
        *(word for key, value in confs.items() for word in ("--conf", f"{key}={value}")),
        *("--jars", ",".join(map(str, resolve_jars()))),
        *("--py-files", str(wheel)),
        script,
        *arguments,
    ]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def _python_without_the_checkout(folder: Path) -> Path:
    """This interpreter with the installed packages but not the editable install of ours, for driver and workers."""
    python = folder / "python"
    packages = sysconfig.get_path("purelib")
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec "{sys.executable}" -S "$@"\n'  # -S: no .pth files
    )
    python.chmod(0o755)
    return python


@pytest.mark.thorough
def test_the_wheel_has_every_module_and_every_file_of_data(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".yaml", ".sql", ".properties")
    }
    assert wanted <= packed
    assert not [name for name in packed if name.startswith(("tests/", "benchmarks/", "notebooks/"))]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist ." in recipe


@pytest.mark.thorough
def test_a_zipped_wheel_finds_its_own_policies_mappings_and_rules(wheel):
    script = (
        "import conf.settings as s, conf.policy as p, conf.source_mapping as m\n"
        "import pipelines.lake.views as v, pipelines.runtime.fingerprint as f\n"
        "assert '.whl' in s.__file__\n"
        "print(s.load_settings('from_the_wheel').writer, len(p.load_policy().namespaces))\n"
        "print(*m.shipped_mappings(), len(v.view_statements()), f.code_fingerprint())"
    )
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("delta_rs ")
    assert "native" in done.stdout
    assert re.search(r" [0-9a-f]{16}$", done.stdout.strip())


@pytest.mark.spark
def test_the_stream_job_fills_a_lake_in_the_session_that_was_submitted(wheel, tmp_path):
    generate(20, 200, seed=5, out=tmp_path / "landing")
    (tmp_path / "log").mkdir()
    done = submit(
        *(wheel, tmp_path, "stream"),
        *("--source", "native:landing", "--lake", "lake", "--once", "--env", "from_the_wheel", "--json"),
        **{
            "spark.eventLog.enabled": "true",
            "spark.eventLog.rolling.enabled": "false",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": (tmp_path / "log").as_uri(),
            "spark.sql.shuffle.partitions": "7",
            "spark.sql.session.timeZone": "Asia/Tokyo",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1])["received"] == 200
    lake = Lake(tmp_path / "lake")
    snapshot = published(lake)
    assert snapshot is not None
    assert sum(snapshot.arrow(BATCHES, ["received_count"])["received_count"].to_pylist()) == 200
    assert snapshot.arrow(PROFILES).num_rows > 10

    (log,) = (
        p for p in (tmp_path / "log").rglob("*") if p.is_file() and not p.name.startswith((".", "appstatus"))
    )
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    settings = [e["Spark Properties"] for e in events if e["Event"] == "SparkListenerEnvironmentUpdate"][-1]
    assert settings["spark.sql.shuffle.partitions"] == "7"  # the submitter's, not ours
    assert settings["spark.sql.session.timeZone"] == "UTC"  # results depend on it
    assert (
        settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    )  # ours, where nothing is said
    machine = {s.key for s in SETTINGS if s.scope is Scope.MACHINE}
    assert not machine & set(settings) - {
        "spark.driver.host",
        "spark.ui.enabled",
    }  # Spark's own, and submitted
    key = key_path(tmp_path / "lake").read_bytes()
    assert key.hex() not in log.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.spark
def test_every_other_job_file_runs_by_itself_too(wheel, tmp_path, analysts_lake):
    events = analysts_lake.landing / "part-00000.jsonl"
    done = submit(
        wheel, tmp_path, "resolve", str(events), "--output", "people.jsonl", "--env", "from_the_wheel"
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "people.jsonl").stat().st_size > 0
    done = submit(wheel, tmp_path, "cohorts", "--lake", str(analysts_lake.path), "--output", "out")
    assert done.returncode == 0, done.stderr[-4000:]
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(cohorts.COHORTS)
    done = submit(wheel, tmp_path, "stream", "--source", "nosuch:.", "--lake", "lake")
    assert done.returncode == 2
    assert "nosuch" in done.stdout  # in client mode spark-submit has both of Python's streams there
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "job, arguments",
    [
        (stream, ["--source", "native:/no/such/folder"]),
        (stream, ["--source", "native:.", "--env", "moon"]),
        (resolve, ["missing.jsonl", "--output", "x"]),
    ],
)
def test_a_jobs_mistaken_arguments_are_one_line_and_fail_a_scheduled_task(
    job, arguments, capsys, monkeypatch
):
    assert job.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["job", *arguments])
    with pytest.raises(SystemExit) as stopped:
        job.task()
    assert stopped.value.code == 2


@pytest.mark.slow  # Spark plans every view anew
def test_cohorts_are_written_as_files_with_the_members_that_the_query_finds(
    spark, analysts_lake, tmp_path, capsys
):
    own = tmp_path / "busy.sql"
    own.write_text(
        "SELECT canonical_id, platforms, identifier_counts FROM gold.profiles_live WHERE event_count > 3"
    )
    base = ["--lake", str(analysts_lake.path), "--output", str(tmp_path / "out")]
    try:
        assert (
            cohorts.main([*base, "--format", "csv", "--cohort", str(own), "--cohort", cohorts.COHORTS[0]])
            == 0
        )
        said = capsys.readouterr().out
        (file,) = (tmp_path / "out" / "busy").glob("*.csv")
        rows = list(csv.DictReader(file.open(encoding="utf-8")))
        assert f"{len(rows)} members of busy" in said
        assert json.loads(rows[0]["platforms"])
        assert json.loads(rows[0]["identifier_counts"])
        snapshot = published(analysts_lake.lake)
        busy = [r for r in snapshot.arrow(PROFILES, ["event_count"]).to_pylist() if r["event_count"] > 3]
        assert len(rows) == len(busy) > 0
        (tmp_path / "wrong.sql").write_text("SELECT nothing FROM gold.profiles")
        for cohort, why in ((str(tmp_path / "wrong.sql"), "nothing"), ("vips", "vips")):
            assert cohorts.main([*base, "--cohort", cohort]) == 2
            *notices, error = capsys.readouterr().err.splitlines()
            assert why in error
            assert all("quality" in notice for notice in notices)
    finally:
        drop_lake(spark)
    assert cohorts.main(["--lake", str(tmp_path / "nowhere"), "--output", "out"]) == 1


def test_the_page_on_spark_submit_names_the_jars_that_are_declared():
    page = (ROOT / "docs" / "spark-submit.md").read_text(encoding="utf-8")
    for jar in (DELTA, GRAPHFRAMES, KAFKA):
        assert jar.coordinate in page
    for job in (ROOT / "pipelines" / "apps" / "jobs").glob("[a-z]*.py"):
        assert f"pipelines/apps/jobs/{job.name}" in page
