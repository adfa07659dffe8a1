"""The Databricks bundle, as far as it can be checked without a workspace: shape, references, entry points, versions."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from conf.jars import GRAPHFRAMES
from pipelines.apps.notebooks import read_cells

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "bundle_schema.json").read_text(encoding="utf-8"))
FILES = [ROOT / "databricks.yml", *sorted((ROOT / "resources").glob("*.yml"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY_POINTS = PROJECT["entry-points"]["stitchlake.jobs"]
# Which Spark a runtime has: 17.x has 4.0, 16.x has 3.5, and 18 has 4.1.
RUNTIMES_WITH_SPARK_4_0 = ("17.",)


def merged() -> dict[str, Any]:
    """The bundle with its included files, as the Databricks command line puts it together."""
    bundle, *included = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES)
    jobs: dict[str, Any] = {}
    for part in included:
        assert set(part) == {"resources"}
        assert not set(jobs) & set(part["resources"]["jobs"])
        jobs |= part["resources"]["jobs"]
    return {**bundle, "resources": {"jobs": jobs}}


BUNDLE = merged()
JOBS = BUNDLE["resources"]["jobs"]
TASKS = [(name, task) for name, job in JOBS.items() for task in job["tasks"]]


def problems(bundle: dict[str, Any]) -> list[str]:
    return [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message}"
        for e in Draft202012Validator(SCHEMA).iter_errors(bundle)
    ]


def test_the_bundle_has_the_documented_shape():
    Draft202012Validator.check_schema(SCHEMA)
    assert problems(BUNDLE) == []
    assert all(
        any(file.relative_to(ROOT).match(pattern) for pattern in BUNDLE["include"]) for file in FILES[1:]
    )


@pytest.mark.parametrize(
    "path, value",
    [
        (("resources", "jobs", "stream", "tasks", 0, "python_wheel_task", "entrypoint"), "stream"),
        (
            ("resources", "jobs", "stream", "schedule"),
            {"quartz_cron_expression": "0 0 5 * * ?", "timezone_id": "UTC"},
        ),
        (("resources", "jobs", "cohorts", "schedule", "quartz_cron_expression"), "daily"),
        (("targets", "dev", "mode"), "develop"),
        (("workspace",), {"token": "dapi123"}),
    ],
)
def test_a_wrong_key_or_value_would_be_found(path, value):
    broken = deepcopy(BUNDLE)
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert problems(broken)


@pytest.mark.parametrize("job, task", TASKS, ids=lambda v: v if isinstance(v, str) else v["task_key"])
def test_what_a_task_names_is_there(job, task):
    assert task["job_cluster_key"] in {c["job_cluster_key"] for c in JOBS[job]["job_clusters"]}
    keys = {t["task_key"] for t in JOBS[job]["tasks"]}
    assert {d["task_key"] for d in task.get("depends_on", ())} <= keys - {task["task_key"]}
    assert {"whl": "../dist/*.whl"} in task["libraries"]  # where `make wheel`, the bundle's build, puts it
    for library in task["libraries"]:
        if "maven" in library:
            assert library["maven"]["coordinates"] == GRAPHFRAMES.coordinate
    if "notebook_task" in task:
        path = (ROOT / "resources" / task["notebook_task"]["notebook_path"]).resolve()
        text = "\n".join(cell.text for cell in read_cells(path))
        widgets = set(re.findall(r'dbutils\.widgets\.text\("(\w+)"', text))
        assert set(task["notebook_task"].get("base_parameters", {})) <= widgets
    else:
        wheel = task["python_wheel_task"]
        assert wheel["package_name"] == PROJECT["name"]
        module, _, function = ENTRY_POINTS[wheel["entry_point"]].partition(":")
        assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize(
    "job, module",
    [
        ("stream", "pipelines.apps.cli.run"),
        ("cohorts", "pipelines.apps.jobs.cohorts"),
        ("upkeep", "pipelines.apps.cli.upkeep"),
        ("reconcile", "pipelines.apps.cli.reconcile"),
    ],
)
def test_a_jobs_parameters_are_arguments_that_it_knows(job, module):
    parameters = JOBS[job]["tasks"][0]["python_wheel_task"]["parameters"]
    values = [resolved(p) for p in parameters]
    if module.endswith("cohorts"):
        parser = import_module(module)._parser()
    else:
        parser = argparse.ArgumentParser()
        import_module(module).declare_arguments(parser)
    args = parser.parse_args(values)
    assert args.env == "cluster"
    assert str(args.lake) == BUNDLE["variables"]["lake"]["default"]


def resolved(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        return BUNDLE["variables"][match.group(1)]["default"]

    return re.sub(r"\$\{var\.(\w+)\}", value, text)


def test_every_variable_is_declared_and_used():
    used = set(re.findall(r"\$\{var\.(\w+)\}", "\n".join(f.read_text(encoding="utf-8") for f in FILES)))
    assert used == set(BUNDLE["variables"])


def test_clusters_run_the_spark_that_the_program_is_made_for():
    spark = next(p for p in PROJECT["optional-dependencies"]["spark"] if p.startswith("pyspark=="))
    assert spark.startswith("pyspark==4.0.")
    for job in JOBS.values():
        for cluster in job["job_clusters"]:
            version = resolved(cluster["new_cluster"]["spark_version"])
            assert version.startswith(RUNTIMES_WITH_SPARK_4_0)
            assert version.endswith("-scala2.13")
            # foreachBatch with a SparkContext: not on clusters that are shared through Spark Connect
            assert cluster["new_cluster"]["data_security_mode"] == "SINGLE_USER"
    # A cluster has its own Spark: the wheel must not bring a second one.
    assert not [d for d in PROJECT["dependencies"] if re.match(r"(pyspark|delta-spark)\b", d)]


def test_one_process_writes_a_lake():
    assert JOBS["stream"]["max_concurrent_runs"] == 1
    writers = [t for _, t in TASKS if t.get("python_wheel_task", {}).get("entry_point") == "stream"]
    assert len(writers) == 1


def test_no_secret_and_no_workspace_is_in_the_bundle():
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        for forbidden in (
            r"\bhost\s*:",
            r"token\b",
            r"password",
            r"dapi[0-9a-f]",
            r"https?://",
            r"AKIA",
            r"secret",
        ):
            assert not re.search(forbidden, text, re.IGNORECASE), (file.name, forbidden)
