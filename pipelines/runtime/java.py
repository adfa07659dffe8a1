"""Find the Java that Spark runs on, or say in one message what to install.

Standard library only, so that the set-up can call it before anything is installed:

    python -m pipelines.runtime.java
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from conf.errors import Refusal

PREFERRED = 17
NEWEST = 21

# Where package managers put Java without putting it on PATH.
USUAL_PLACES = (
    ("/usr/lib/jvm", "*/bin/java"),
    ("/Library/Java/JavaVirtualMachines", "*/Contents/Home/bin/java"),
    ("/opt/homebrew/opt", "openjdk@*/bin/java"),
    ("/usr/local/opt", "openjdk@*/bin/java"),
)

HOW_TO_INSTALL = f"""\
Install Java {PREFERRED} ({PREFERRED} to {NEWEST} will do), then run the same command again:
  Debian, Ubuntu   sudo apt-get install openjdk-17-jre-headless
  Fedora           sudo dnf install java-17-openjdk-headless   (newer releases: java-21-openjdk-headless)
  macOS            brew install openjdk@17
  Windows          winget install EclipseAdoptium.Temurin.17.JRE
If one is installed already, point JAVA_HOME at it, the folder that has bin/java in it."""


class JavaMissing(Refusal):
    """No Java that Spark can run on; the message says what to do about it."""


@dataclass(frozen=True)
class Java:
    """One installation of Java that has answered when asked for its version."""

    executable: Path
    home: Path
    version: int
    origin: str

    @property
    def fits(self) -> bool:
        """Whether Spark runs on this version."""
        return PREFERRED <= self.version <= NEWEST


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """The Java to use: JAVA_HOME if it fits, else Java 17 before others on PATH and in the usual places."""
    environ = os.environ if environ is None else environ
    seen: list[Java] = []
    for executable, origin in _candidates(environ):
        java = _ask(executable, origin)
        if java is None:
            continue
        # JAVA_HOME is somebody's decision, and 17 cannot be bettered.
        if java.fits and (origin == "JAVA_HOME" or java.version == PREFERRED):
            return java
        seen.append(java)
    fitting = [java for java in seen if java.fits]
    if fitting:
        return min(fitting, key=lambda java: java.version)
    raise JavaMissing(f"{_what_is_there(seen, environ)}\n{HOW_TO_INSTALL}")


def parse_version(banner: str) -> int | None:
    """The major version in what `java -version` prints: 17 of `17.0.15`, 8 of `1.8.0_292`."""
    found = re.search(r'version "(?:1\.)?(\d+)', banner)
    return int(found.group(1)) if found else None


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    name = "java.exe" if platform.system() == "Windows" else "java"
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"]) / "bin" / name, "JAVA_HOME"
    on_path = shutil.which(name, path=environ.get("PATH", ""))
    if on_path:
        yield Path(on_path), "PATH"
    for folder, pattern in USUAL_PLACES:
        for executable in sorted(Path(folder).glob(pattern)):
            yield executable, folder


def _ask(executable: Path, origin: str) -> Java | None:
    # Asking Java for its home is the only reliable way: `java` on PATH may be a link, a stub or a version switch.
    try:
        answer = subprocess.run(
            [str(executable), "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    banner = answer.stderr + answer.stdout
    version = parse_version(banner)
    if answer.returncode != 0 or version is None:
        return None
    home = re.search(r"^\s*java\.home = (.+?)\s*$", banner, re.MULTILINE)
    return Java(
        executable=executable,
        home=Path(home.group(1)) if home else executable.resolve().parent.parent,
        version=version,
        origin=origin,
    )


def _what_is_there(seen: list[Java], environ: Mapping[str, str]) -> str:
    if seen:
        found = ", ".join(f"Java {java.version} from {java.origin} ({java.executable})" for java in seen)
        return f"Spark needs Java {PREFERRED} to {NEWEST}, and this machine has only {found}."
    if environ.get("JAVA_HOME"):
        return (
            f"Spark needs Java {PREFERRED} to {NEWEST}. JAVA_HOME is {environ['JAVA_HOME']}, "
            "where no working bin/java was found, and there is none on PATH either."
        )
    return f"Spark needs Java {PREFERRED} to {NEWEST}, and no Java was found by JAVA_HOME or on PATH."


def main() -> int:
    """Print which Java is used. Returns 1 if none fits."""
    try:
        java = find_java()
    except JavaMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    print(f"Java {java.version} from {java.origin}: {java.home}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
