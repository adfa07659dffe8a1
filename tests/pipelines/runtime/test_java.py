"""Which Java is taken, and what a person reads who has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.runtime import java as java_module
from pipelines.runtime.java import JavaMissing, find_java, parse_version

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for java are shell scripts")


@pytest.fixture(autouse=True)
def no_java_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_module, "USUAL_PLACES", ())


def fake_java(home: Path, version: str, exit_code: int = 0) -> Path:
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(
        "#!/bin/sh\n"
        f"echo '    java.home = {home}' >&2\n"
        f"echo 'openjdk version \"{version}\" 2025-04-15' >&2\n"
        f"exit {exit_code}\n"
    )
    executable.chmod(0o755)
    return home


def environment(java_home: Path | None = None, *on_path: Path) -> dict[str, str]:
    environ = {"PATH": os.pathsep.join(str(home / "bin") for home in on_path)}
    return environ | ({"JAVA_HOME": str(java_home)} if java_home else {})


@pytest.mark.parametrize(
    "banner, version",
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_292"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17-ea"', 17),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_the_major_version_is_read_from_what_java_prints(banner: str, version: int | None) -> None:
    assert parse_version(banner) == version


def test_java_home_is_taken_before_path(tmp_path: Path) -> None:
    chosen = fake_java(tmp_path / "chosen", "21.0.2")
    other = fake_java(tmp_path / "other", "17.0.15")
    found = find_java(environment(chosen, other))
    assert (found.home, found.version, found.origin) == (chosen, 21, "JAVA_HOME")


def test_a_java_home_that_does_not_fit_gives_way_to_one_on_path(tmp_path: Path) -> None:
    too_old = fake_java(tmp_path / "old", "11.0.2")
    fitting = fake_java(tmp_path / "new", "17.0.15")
    assert find_java(environment(too_old, fitting)).home == fitting


def test_java_17_in_a_usual_place_is_preferred_to_21_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = fake_java(tmp_path / "path", "21.0.2")
    installed = fake_java(tmp_path / "jvm" / "java-17", "17.0.15")
    monkeypatch.setattr(java_module, "USUAL_PLACES", ((str(tmp_path / "jvm"), "*/bin/java"),))
    assert find_java(environment(None, on_path)).home == installed


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "16.0.1", "22.0.1", "25"])
def test_a_wrong_version_is_named_together_with_what_to_install(tmp_path: Path, version: str) -> None:
    wrong = fake_java(tmp_path / "wrong", version)
    with pytest.raises(JavaMissing) as missing:
        find_java(environment(wrong))
    message = str(missing.value)
    major = parse_version(f'version "{version}"')
    assert f"Java {major} from JAVA_HOME" in message
    for command in (
        "apt-get install openjdk-17-jre-headless",
        "dnf install java-17-openjdk-headless",
        "brew install openjdk@17",
        "winget install",
    ):
        assert command in message


def test_no_java_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing, match=r"no Java was found[\s\S]*apt-get install openjdk-17"):
        find_java(environment())


def test_a_java_home_without_java_is_named(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing, match="no working bin/java"):
        find_java(environment(tmp_path / "nothing-here"))


def test_a_java_that_fails_is_no_java(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing):
        find_java(environment(fake_java(tmp_path / "broken", "17.0.15", exit_code=1)))


def test_the_command_prints_a_message_and_no_stack_trace(tmp_path: Path) -> None:
    wrong = fake_java(tmp_path / "wrong", "11.0.2")
    without_usual_places = (
        "import pipelines.runtime.java as java, sys\njava.USUAL_PLACES = ()\nsys.exit(java.main())"
    )
    said = subprocess.run(
        [sys.executable, "-c", without_usual_places],
        env=environment(wrong, wrong),
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert "Java 11" in said.stderr
    assert "Traceback" not in said.stderr
