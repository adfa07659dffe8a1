"""Fetch the jars of conf/jars.py once, and start from the folder afterwards.

    python -m pipelines.runtime.jars              fetch what is missing
    python -m pipelines.runtime.jars --paths      their paths, separated by commas, for spark-submit --jars

The Ivy inside the pyspark wheel does the fetching, so nobody needs Maven. Each set of coordinates has a folder of its
own, named by a hash, so that two checkouts or two versions never disturb each other.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from conf.jars import JarSet, spark_jars
from pipelines.runtime.java import JavaMissing, find_java

FOLDER_VARIABLE = "STITCHLAKE_JARS_DIR"
IVY_SETTINGS_VARIABLE = "STITCHLAKE_IVY_SETTINGS"
MANIFEST = "manifest.json"
GIVE_UP_AFTER_SECONDS = 1800


class JarsUnavailable(Exception):
    """The jars could not be fetched; the message has Ivy's reason and the way out."""


def resolve_jars(environ: Mapping[str, str] | None = None, jar_set: JarSet | None = None) -> list[Path]:
    """The jars for `spark.jars`, or of another set; fetched first if this machine does not have them yet."""
    environ = os.environ if environ is None else environ
    jar_set = spark_jars(environ) if jar_set is None else jar_set
    root = jars_root(environ)
    folder = root / fingerprint(jar_set)
    jars = jars_in(folder, jar_set)
    if jars is not None:
        return jars
    _make_root(root)
    with _one_at_a_time(root):
        jars = jars_in(folder, jar_set)  # another process may have fetched them while this one waited
        return jars if jars is not None else _fetch(jar_set, folder, environ)


def jars_root(environ: Mapping[str, str]) -> Path:
    """`.jars` in a checkout that can be written to, the user's cache folder otherwise."""
    if environ.get(FOLDER_VARIABLE):
        return Path(environ[FOLDER_VARIABLE]).expanduser().absolute()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        local = checkout / ".jars"
        if os.access(local if local.exists() else checkout, os.W_OK):
            return local
    return _user_cache(environ) / "stitchlake" / "jars"


def fingerprint(jar_set: JarSet) -> str:
    """A short hash of everything that decides which files come: coordinates, scopes and excludes."""
    return hashlib.sha256(ivy_module(jar_set).encode()).hexdigest()[:16]


def ivy_module(jar_set: JarSet) -> str:
    """The set as an Ivy module with one configuration, `default`."""
    dependencies = "".join(
        f"    <dependency org={quoteattr(jar.group)} name={quoteattr(jar.artifact)} rev={quoteattr(jar.version)} "
        # `master` is the jar alone, `default` the jar and what it needs at run time.
        f'conf="default->{"default" if jar.with_dependencies else "master"}"/>\n'
        for jar in jar_set.jars
    )
    excludes = "".join(
        f"    <exclude org={quoteattr(exclude.group)} module={quoteattr(exclude.artifact)}/>\n"
        for exclude in jar_set.excludes
    )
    return (
        '<ivy-module version="2.0">\n'
        '  <info organisation="stitchlake" module="spark-jars"/>\n'
        '  <configurations><conf name="default"/></configurations>\n'
        f"  <dependencies>\n{dependencies}{excludes}  </dependencies>\n"
        "</ivy-module>\n"
    )


def jars_in(folder: Path, jar_set: JarSet) -> list[Path] | None:
    """The jars of a complete folder; None if it is missing, of another set, or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["fingerprint"] != fingerprint(jar_set) or not manifest["sizes"]:
            return None
        jars = []
        for name, size in sorted(manifest["sizes"].items()):
            jar = folder / name
            if jar.stat().st_size != size:
                return None
            jars.append(jar)
        return jars
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(folder: Path, jar_set: JarSet) -> None:
    """Written last: a folder with a manifest is a complete one."""
    manifest = {
        "fingerprint": fingerprint(jar_set),
        "coordinates": [jar.coordinate for jar in jar_set.jars],
        "sizes": {jar.name: jar.stat().st_size for jar in sorted(folder.glob("*.jar"))},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _fetch(jar_set: JarSet, folder: Path, environ: Mapping[str, str]) -> list[Path]:
    started = time.monotonic()
    names = ", ".join(f"{jar.artifact} {jar.version}" for jar in jar_set.jars)
    print(f"Fetching {jar_set.called}, once, a minute or so: {names} … ", end="", file=sys.stderr, flush=True)
    work = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder.parent))
    try:
        _run_ivy(jar_set, work, environ)
        write_manifest(work, jar_set)
        if jars_in(work, jar_set) is None:
            raise JarsUnavailable(
                _advice(jar_set, "Ivy ended without a complaint and without a jar.", environ)
            )
        # mkdtemp lets only its user in; a folder of jars is for everyone on the machine.
        work.chmod(0o755)
        _put_in_place(work, folder, jar_set)
    except BaseException:
        print("failed", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    jars = jars_in(folder, jar_set)
    if jars is None:
        raise JarsUnavailable(f"The jars in {folder} vanished while they were being put there. Run it again.")
    megabytes = sum(jar.stat().st_size for jar in jars) / 1e6
    print(f"{len(jars)} jars, {megabytes:.0f} MB, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return jars


def _run_ivy(jar_set: JarSet, into: Path, environ: Mapping[str, str]) -> None:
    java = find_java(environ)
    module = into / "ivy.xml"
    module.write_text(ivy_module(jar_set), encoding="utf-8")
    command = [str(java.executable), "-jar", str(_ivy_jar())]
    if environ.get(IVY_SETTINGS_VARIABLE):
        command += ["-settings", str(Path(environ[IVY_SETTINGS_VARIABLE]).expanduser().absolute())]
    command += ["-ivy", str(module), "-m2compatible"]
    # Without -confs Ivy goes through test and source scopes too, for ten minutes and more.
    command += ["-confs", "default", "-retrieve", f"{into.as_posix()}/[artifact]-[revision].[ext]"]
    try:
        ivy = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=into,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            timeout=GIVE_UP_AFTER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise JarsUnavailable(
            _advice(jar_set, f"Ivy did not end in {GIVE_UP_AFTER_SECONDS // 60} minutes.", environ)
        ) from None
    output = ivy.stdout + ivy.stderr
    # Ivy's exit code is 0 after some failures, so its report decides.
    if ivy.returncode != 0 or "UNRESOLVED DEPENDENCIES" in output or "FAILED DOWNLOADS" in output:
        raise JarsUnavailable(_advice(jar_set, reason_in(output), environ))


def reason_in(output: str) -> str:
    """The few lines of Ivy's pages of output that say why it failed."""
    telling = (
        "not found",
        "unresolved",
        "server access",
        "[failed",
        "exception",
        "timed out",
        "unknown host",
        "error",
    )
    lines = [line.strip(" \t:|") for line in output.splitlines()]
    reasons = [line for line in lines if any(word in line.lower() for word in telling)]
    kept = list(dict.fromkeys(reasons or [line for line in lines if line]))
    return "\n".join(f"  {line}" for line in kept[-12:]) or "  Ivy said nothing."


def _advice(jar_set: JarSet, reason: str, environ: Mapping[str, str]) -> str:
    settings = environ.get(IVY_SETTINGS_VARIABLE)
    now = f" (it is {settings} now)" if settings else ""
    return (
        f"{jar_set.called[0].upper()}{jar_set.called[1:]} could not be fetched. What Ivy says:\n"
        f"{reason}\n"
        "What to do:\n"
        "  - no network? Copy the folder .jars of a machine where it worked into this checkout,\n"
        f"    or set {FOLDER_VARIABLE} to it.\n"
        "  - behind a proxy? export JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT'\n"
        f"  - your own Maven mirror? Set {IVY_SETTINGS_VARIABLE} to an ivysettings.xml that names it{now}.\n"
        "Then run `make jars`, or the same command again."
    )


def _ivy_jar() -> Path:
    import pyspark

    found = sorted((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    if not found:
        raise JarsUnavailable(
            f"The pyspark package in {Path(pyspark.__file__).parent} has no jars/ivy-*.jar, so it is incomplete. "
            "Install it again: pip install --force-reinstall --no-deps pyspark"
        )
    return found[-1]


def _put_in_place(work: Path, folder: Path, jar_set: JarSet) -> None:
    """Rename, so that nobody ever sees half a folder. Where file locks do not work the first one wins."""
    if folder.exists() and jars_in(folder, jar_set) is None:
        shutil.rmtree(folder)
    try:
        work.rename(folder)
    except OSError:
        if jars_in(folder, jar_set) is None:
            raise


def _make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise JarsUnavailable(
            f"The folder for jars, {root}, cannot be made: {problem.strerror}. Set {FOLDER_VARIABLE} to one that can."
        ) from None


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let a second process wait for the first one's download instead of repeating it."""
    try:
        import fcntl
    except ImportError:  # Windows; the rename keeps two processes apart there
        yield
        return
    with (root / ".lock").open("w") as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _user_cache(environ: Mapping[str, str]) -> Path:
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"])
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches"
    if platform.system() == "Windows" and environ.get("LOCALAPPDATA"):
        return Path(environ["LOCALAPPDATA"])
    return Path.home() / ".cache"


def main(argv: list[str] | None = None) -> int:
    """Fetch the jars, or print their paths. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.runtime.jars", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--paths", action="store_true", help="print the jars' paths, separated by commas")
    arguments = parser.parse_args(argv)
    try:
        jars = resolve_jars()
    except (JarsUnavailable, JavaMissing, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    if arguments.paths:
        print(",".join(map(str, jars)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
