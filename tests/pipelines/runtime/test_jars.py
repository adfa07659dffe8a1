"""When the folder of jars is used as it is, and when it is fetched again. Nothing here touches a network."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conf.jars import GRAPHFRAMES, GRAPHFRAMES_VARIABLE, SPARK_JARS, Exclude, Jar, JarSet, spark_jars
from pipelines.runtime import jars as jars_module
from pipelines.runtime.jars import (
    JarsUnavailable,
    fingerprint,
    ivy_module,
    jars_in,
    reason_in,
    resolve_jars,
    write_manifest,
)

ONE = JarSet(jars=(Jar("org.example:one:1.0", why="a test"),), excludes=(Exclude("org.noise", why="a test"),))
OTHER = JarSet(jars=(Jar("org.example:one:1.1", why="a test"),), excludes=ONE.excludes)


def fill(folder: Path, jar_set: JarSet) -> None:
    (folder / "one-1.0.jar").write_bytes(b"classes")
    write_manifest(folder, jar_set)


def environment(root: Path) -> dict[str, str]:
    return {"STITCHLAKE_JARS_DIR": str(root), "PATH": os.environ.get("PATH", "")}


def test_a_complete_folder_is_used(tmp_path: Path) -> None:
    fill(tmp_path, ONE)
    assert jars_in(tmp_path, ONE) == [tmp_path / "one-1.0.jar"]


def test_a_folder_of_other_coordinates_is_not_used(tmp_path: Path) -> None:
    fill(tmp_path, ONE)
    assert jars_in(tmp_path, OTHER) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "one-1.0.jar").unlink(),
        lambda folder: (folder / "one-1.0.jar").write_bytes(b"half"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
    ],
    ids=["jar missing", "jar cut short", "no manifest", "half a manifest", "a manifest of another shape"],
)
def test_a_damaged_folder_is_not_used(tmp_path: Path, damage) -> None:
    fill(tmp_path, ONE)
    damage(tmp_path)
    assert jars_in(tmp_path, ONE) is None


def test_the_manifest_names_the_coordinates_for_a_person(tmp_path: Path) -> None:
    fill(tmp_path, ONE)
    assert json.loads((tmp_path / "manifest.json").read_text())["coordinates"] == ["org.example:one:1.0"]


def test_every_coordinate_exclude_and_scope_changes_the_fingerprint() -> None:
    without_excludes = JarSet(jars=ONE.jars, excludes=())
    alone = JarSet(
        jars=(Jar("org.example:one:1.0", why="a test", with_dependencies=False),), excludes=ONE.excludes
    )
    assert len({fingerprint(s) for s in (ONE, OTHER, without_excludes, alone)}) == 4


def test_a_reason_reworded_does_not_fetch_everything_again() -> None:
    reworded = JarSet(jars=(Jar("org.example:one:1.0", why="another reason"),), excludes=ONE.excludes)
    assert fingerprint(reworded) == fingerprint(ONE)


def test_jars_that_are_there_are_used_without_starting_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ivy(*_: object) -> None:
        raise AssertionError("Ivy was started although the jars are there")

    monkeypatch.setattr(jars_module, "_run_ivy", no_ivy)
    folder = tmp_path / fingerprint(SPARK_JARS)
    folder.mkdir()
    fill(folder, SPARK_JARS)
    assert resolve_jars(environment(tmp_path)) == [folder / "one-1.0.jar"]


def test_a_damaged_folder_is_fetched_again_and_nothing_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        jars_module, "_run_ivy", lambda _, into, __: (into / "one-1.0.jar").write_bytes(b"classes")
    )
    folder = tmp_path / fingerprint(SPARK_JARS)
    folder.mkdir()
    fill(folder, SPARK_JARS)
    (folder / "one-1.0.jar").unlink()
    assert resolve_jars(environment(tmp_path)) == [folder / "one-1.0.jar"]
    assert {entry.name for entry in tmp_path.iterdir()} <= {folder.name, ".lock"}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_a_failure_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: JarSet, into: Path, __: object) -> None:
        (into / "one-1.0.jar").write_bytes(b"half")
        raise JarsUnavailable("the network went away")

    monkeypatch.setattr(jars_module, "_run_ivy", half)
    with pytest.raises(JarsUnavailable):
        resolve_jars(environment(tmp_path))
    assert {entry.name for entry in tmp_path.iterdir()} <= {".lock"}


def _resolve_slowly(root: Path, counter: Path, found: multiprocessing.Queue) -> None:
    def ivy(_: JarSet, into: Path, __: object) -> None:
        with counter.open("a") as started:
            started.write("x")
        (into / "one-1.0.jar").write_bytes(b"classes")

    jars_module._run_ivy = ivy
    found.put([str(jar) for jar in resolve_jars(environment(root))])


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_processes_that_start_at_once_fetch_once_and_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    root, counter = tmp_path / "jars", tmp_path / "counter"
    processes = [context.Process(target=_resolve_slowly, args=(root, counter, found)) for _ in range(4)]
    for process in processes:
        process.start()
    answers = [found.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(timeout=300)
    assert all(answer == answers[0] for answer in answers)
    assert counter.read_text() == "x"


def test_a_failing_ivy_is_quoted_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "java"
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-version*) echo \'openjdk version "17.0.1"\' >&2; exit 0;; esac\n'
        "echo ':: loading settings ::'\n"
        "echo '  :: org.example#one;1.0: not found'\n"
        "exit 1\n"
    )
    executable.chmod(0o755)
    with pytest.raises(JarsUnavailable) as failed:
        resolve_jars(environment(tmp_path / "jars") | {"JAVA_HOME": str(home)})
    message = str(failed.value)
    assert "org.example#one;1.0: not found" in message
    assert "loading settings" not in message
    for way_out in ("STITCHLAKE_JARS_DIR", "STITCHLAKE_IVY_SETTINGS", "proxyHost", "make jars"):
        assert way_out in message


def test_the_reason_is_a_few_lines_however_much_ivy_says() -> None:
    said = "\n".join(f"module {n} not found" for n in range(1000)) + "\n:: 8 artifacts copied"
    assert len(reason_in(said).splitlines()) == 12


def test_ivy_gets_every_jar_and_every_exclude() -> None:
    module = ElementTree.fromstring(ivy_module(SPARK_JARS))
    assert len(module.findall("./dependencies/dependency")) == len(SPARK_JARS.jars)
    assert len(module.findall("./dependencies/exclude")) == len(SPARK_JARS.excludes)
    assert {d.get("conf") for d in module.iter("dependency")} == {"default->default", "default->master"}


def test_graphframes_own_jar_replaces_the_shaded_one_by_configuration() -> None:
    own = "io.graphframes:graphframes-spark4_2.13:0.9.3"
    chosen = spark_jars({GRAPHFRAMES_VARIABLE: own})
    assert own in [jar.coordinate for jar in chosen.jars]
    assert GRAPHFRAMES.coordinate not in [jar.coordinate for jar in chosen.jars]
    assert fingerprint(chosen) != fingerprint(SPARK_JARS)


def test_a_coordinate_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=f"{GRAPHFRAMES_VARIABLE}.*group:artifact:version"):
        spark_jars({GRAPHFRAMES_VARIABLE: "graphframes"})
