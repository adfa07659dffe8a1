"""Every command of the command line, on lakes that were not born here, and with every kind of mistake a user makes.

The commands come from the argument parser: a new one fails here until it is said how it is used.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from conf.tables import FORMAT, IDENTIFIERS, IDENTITY_MAP, MIGRATIONS, SESSIONS
from pipelines.apps.cli import problems
from pipelines.apps.cli.__main__ import main, parser
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations.backup.restore import restore
from pipelines.operations.backup.take import back_up
from pipelines.operations.upgrade import ready_to_write
from tests.pipelines.driver_lake import KEY, DriverLake
from tests.pipelines.lake_rows import rows_of
from tests.pipelines.old_lake import part
from tests.pipelines.operations.upkeep.worlds import do_upkeep, options

pytestmark = pytest.mark.thorough  # whole lakes

LAKES = ("restored", "upgraded", "archived", "copied")
BY_SPARK = ("run", "resolve")


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command by its words, such as `quarantine list`."""

    def leaves(
        of: argparse.ArgumentParser, words: tuple[str, ...]
    ) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        below = [a for a in of._actions if isinstance(a, argparse._SubParsersAction)]
        if not below:
            yield " ".join(words), of
        for action in below:
            for name, its_parser in action.choices.items():
                yield from leaves(its_parser, (*words, name))

    return dict(leaves(parser(), ()))


@dataclass
class Place:
    """A lake, a folder for what commands write, and whom to ask about."""

    lake: Path
    out: Path

    def persons(self) -> list[str]:
        """An identifier each of two people of one tenant."""
        snapshot = published(Lake(self.lake))
        assert snapshot is not None
        names = {
            r["node_id"]: (r["tenant"], f"{r['namespace']}:{r['value']}")
            for r in snapshot.arrow(IDENTIFIERS).to_pylist()
        }
        of: dict[int, tuple[str, str]] = {}
        for r in snapshot.arrow(IDENTITY_MAP, ["node_id", "canonical_id", "is_shared"]).to_pylist():
            if r["node_id"] in names and not r["is_shared"]:
                of.setdefault(r["canonical_id"], names[r["node_id"]])
        tenants = [tenant for tenant, _ in of.values()]
        tenant = max(set(tenants), key=tenants.count)
        return [tenant, *sorted(name for t, name in of.values() if t == tenant)[:4]]

    def session(self) -> str:
        snapshot = published(Lake(self.lake))
        assert snapshot is not None
        return str(min(snapshot.arrow(SESSIONS, ["session_id"])["session_id"].to_pylist()))

    def events(self) -> Path:
        path = self.out / "landing" / "events.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part(3))
        return path


_OF_ITS_OWN = re.compile(r"sql:|generate:(?! [\d,]+ of)")  # and no progress


# How each is used when nothing is wrong.
USED: dict[str, Callable[[Place], list[str]]] = {
    "status": lambda p: ["--lake", str(p.lake)],
    "sql": lambda p: ["SELECT count(*) AS n FROM gold.profiles_live", "--lake", str(p.lake), "--json"],
    "profile": lambda p: [p.persons()[1], "--tenant", p.persons()[0], "--lake", str(p.lake), "--sessions", "2"],
    "explain": lambda p: [*p.persons()[1:3], "--tenant", p.persons()[0], "--lake", str(p.lake)],
    "quarantine list": lambda p: ["--lake", str(p.lake)],
    "quarantine show": lambda p: ["--lake", str(p.lake), "--limit", "2", "--json"],
    "quarantine replay": lambda p: ["--lake", str(p.lake)],
    "merge": lambda p: [
        *p.persons()[1:3], "--tenant", p.persons()[0], "--lake", str(p.lake), "--force", "--reason", "x",
    ],
    "decisions": lambda p: ["--lake", str(p.lake), "--json"],
    "keep-apart": lambda p: [*p.persons()[2:4], "--tenant", p.persons()[0], "--lake", str(p.lake), "--reason", "x"],
    "split": lambda p: ["--session", p.session(), "--lake", str(p.lake), "--reason", "x"],
    "upkeep": lambda p: ["--lake", str(p.lake), "--retain-hours", "0"],
    "backup": lambda p: [str(p.out / "backup"), "--lake", str(p.lake), "--with-key", "--keep", "2"],
    "restore": lambda p: [str(p.out / "backup"), str(p.out / "again")],
    "quality": lambda p: ["--lake", str(p.lake), "--docs", str(p.out / "docs")],
    "reconcile": lambda p: ["--lake", str(p.lake), "--no-graph"],
    "rebuild": lambda p: ["--lake", str(p.lake), "--yes"],
    "repair": lambda p: ["--lake", str(p.lake)],
    "mapping": lambda p: ["native", str(p.events()), "--limit", "1"],
    "generate": lambda p: [
        "--persons", "2", "--events", "20", "--seed", "1", "--out", str(p.out / "generated"),
        "--truth", str(p.out / "truth.jsonl"), "--events-per-file", "10",
    ],
    "run": lambda p: ["--source", f"native:{p.events().parent}", "--once", "--lake", str(p.lake)],
    "resolve": lambda p: [
        str(p.events()), "--output", str(p.out / "people.jsonl"), "--lake", str(p.lake), "--batch-size", "99",
    ],
}  # fmt: skip
# What does not end well there, and what is said. Everything from the records needs the archived ones.
REFUSED = {
    ("archived", "reconcile"): "--restore-archive",
    ("archived", "rebuild"): "--restore-archive",
}


def test_it_is_said_of_every_command_how_it_is_used() -> None:
    assert set(USED) == set(commands())


# -- lakes that were not born here -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def born_here(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the present program, to be copied."""
    folder = tmp_path_factory.mktemp("born")
    shutil.copytree(filled, folder / "lake")
    key_path(folder / "lake").write_bytes(KEY)
    return folder / "lake"


def make(kind: str, born_here: Path, unpacked: Path, folder: Path) -> Path:
    """A lake of that kind in `folder`, with its key."""
    lake = folder / "lake"
    if kind == "restored":
        back_up(born_here, folder / "of-which", with_key=True)
        return restore(folder / "of-which", lake).lake
    shutil.copytree(unpacked if kind == "upgraded" else born_here, lake)
    key_path(lake).write_bytes(KEY)
    if kind == "upgraded":
        ready_to_write(Lake(lake), lambda line: None)
        # Rules have changed since: the way out that docs/upgrades.md names.
        assert main(["rebuild", "--policy", "default", "--yes", "--lake", str(lake)]) == 0
    if kind == "archived":
        world = DriverLake(folder)
        do_upkeep(world, options(archive_days=0.0, archive_to=str(folder / "cheap")))
    return lake


def ran(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as e:  # argparse
        code = int(str(e.code))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("kind", LAKES)
def test_every_command_works_on_a_lake_that_was_not_born_here(
    kind: str, born_here: Path, unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail on a restored lake: upkeep wanted a file that no backup has."""
    place = Place(make(kind, born_here, unpacked, tmp_path), tmp_path / "out")
    place.out.mkdir()
    wrong = []
    for name, words in USED.items():
        if name in BY_SPARK:
            continue
        code, out, err = ran([*name.split(), *words(place)], capsys)
        expected = REFUSED.get((kind, name))
        as_said = (code, "") == (0, "" if out or name in ("rebuild",) else "nothing was said")
        if not (as_said if expected is None else code == 1 and expected in err):
            wrong.append(f"{name}: exit {code}: {err[-500:]}")
    assert not wrong, "\n".join(wrong)
    assert not list((place.lake / "_stitchlake").glob("*.partial"))
    if kind == "archived":
        assert ran(["upkeep", "--lake", str(place.lake), "--restore-archive"], capsys)[0] == 0
        for name in ("reconcile", "rebuild"):
            code, _, err = ran([name, *USED[name](place)], capsys)
            assert code == 0, err
    code, out, _ = ran(["decisions", "--lake", str(place.lake), "--json"], capsys)
    for row in json.loads(out):
        words = ["undo", row["decision_id"], "--tenant", row["tenant"], "--reason", "x"]
        code, _, err = ran(["decisions", *words, "--lake", str(place.lake)], capsys)
        assert code == 0, err


@pytest.mark.parametrize("kind", LAKES)
def test_every_command_of_spark_works_there_too(
    spark: object,
    kind: str,
    born_here: Path,
    unpacked: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = Place(make(kind, born_here, unpacked, tmp_path), tmp_path / "out")
    place.out.mkdir()
    for name in BY_SPARK:
        code, _, err = ran([name, *USED[name](place)], capsys)
        assert code == 0, (name, err)
    code, out, err = ran(["reconcile", "--lake", str(place.lake), "--only-graph", "--json"], capsys)
    assert (code, json.loads(out)["graph_check"]["agrees"]) == (0, True), err


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(born_here: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A lake whose backup is there already, for whoever makes mistakes; nothing of it changes."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(born_here, folder / "lake")
    key_path(folder / "lake").write_bytes(KEY)
    (folder / "out").mkdir()
    back_up(folder / "lake", folder / "out" / "backup", with_key=True)
    return Place(folder / "lake", folder / "out")


@pytest.fixture
def no_jvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes are found before a JVM starts."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a JVM for a mistake")

    for module in ("run", "resolve", "rebuild", "reconcile"):
        monkeypatch.setattr(f"pipelines.apps.cli.{module}.build_session", refuse, raising=False)
    monkeypatch.setattr("pipelines.runtime.session.build_session", refuse)


@dataclass(frozen=True)
class Mistake:
    """What was done wrong, the words of the command, and what its message has to name."""

    kind: str
    words: list[str]
    names: str


def changed(words: list[str], option: str, value: str) -> list[str]:
    """The words with another value of an option, or with the option where it was not given."""
    if option in words:
        at = words.index(option)
        return [*words[: at + 1], value, *words[at + 2 :]]
    return [*words, option, value]


def of_the_lake(name: str, good: list[str], place: Place, bad: dict[str, Path]) -> Iterator[Mistake]:
    if name in ("run", "resolve", "rebuild"):
        del bad["empty"]  # begins a lake, or is not asked
    for kind, lake in bad.items():
        if kind in ("missing", "a foreign folder") and name in BY_SPARK:
            continue  # that is how a lake begins
        yield Mistake(f"lake: {kind}", changed(good, "--lake", str(lake)), str(lake)[:60])


def of_files(options: set[str], good: list[str], out: Path) -> Iterator[Mistake]:
    (out / "broken.yaml").write_text("namespaces: [\n")
    (out / "zero.yaml").write_text("write_threads: 0\n")
    (out / "odd.yaml").write_text("writer: pigeon\n")
    for option in {"--policy", "--env"} & options:
        yield Mistake(
            f"{option}: broken YAML", changed(good, option, str(out / "broken.yaml")), "broken.yaml"
        )
        yield Mistake(f"{option}: unknown", changed(good, option, "nosuch"), "nosuch")
        yield Mistake(f"{option}: a folder", changed(good, option, f"{out}/"), str(out))
    if "--env" in options:
        yield Mistake("--env: out of range", changed(good, "--env", str(out / "zero.yaml")), "write_threads")
        yield Mistake("--env: no such choice", changed(good, "--env", str(out / "odd.yaml")), "writer")
    for option in {
        "--output",
        "--events-output",
        "--rejected-output",
        "--docs",
        "--out",
        "--truth",
    } & options:
        yield Mistake(f"{option}: unwritable", changed(good, option, "/proc/nowhere/x"), "/proc/nowhere")
    if "--payloads" in options:
        yield Mistake("--payloads: missing", changed(good, "--payloads", "nosuch.jsonl"), "nosuch.jsonl")
        (out / "odd.jsonl").write_text("{\n")
        yield Mistake("--payloads: no JSON", changed(good, "--payloads", str(out / "odd.jsonl")), "odd.jsonl")


def of_numbers(name: str, of: argparse.ArgumentParser, good: list[str]) -> Iterator[Mistake]:
    for action in of._actions:
        is_number = action.type in (int, float) or getattr(action.type, "__name__", "") in (
            "count", "_count", "amount", "_row_count",
        )  # fmt: skip
        for option in action.option_strings[:1] if is_number else ():
            wrong = ["many"]
            wrong += [] if option in ("--seed", "--session", "--batch") else ["-7"]
            for value in wrong:
                yield Mistake(f"{option} {value}", changed(good, option, value), option.lstrip("-"))
    yield Mistake("an option that is none", [*good, "--nonsense"], "--nonsense")
    yield Mistake("a word too many", [*good, *["needless"] * 4], "needless")
    if good and any(a.required for a in of._actions):
        yield Mistake("nothing said", [], "give one or more" if name == "resolve" else "required")


OF_ITS_OWN: dict[str, Callable[[list[str], Place], list[Mistake]]] = {
    "profile": lambda good, p: [
        Mistake("an id that is none", ["?", *good[1:]], "namespace:value"),
        Mistake("an unknown id", ["user_id:nobody-of-that-name", *good[1:]], "user_id"),
        Mistake("an unknown namespace", ["hat_size:8", *good[1:]], "hat_size"),
    ],
    "explain": lambda good, p: [
        Mistake("an id that is none", ["?", *good[1:]], "namespace:value"),
        Mistake("an unknown id", [good[0], "user_id:nobody-of-that-name", *good[2:]], "user_id"),
    ],
    "merge": lambda good, p: [Mistake("twice the same", [good[0], good[0], *good[2:]], "one person")],
    "split": lambda good, p: [
        Mistake("an unknown session", changed(good, "--session", "12345"), "session"),
        Mistake("of nobody", ["--reason", "x", "--lake", str(p.lake)], "--identifier"),
    ],
    "decisions": lambda good, p: [
        Mistake("an unknown decision", ["undo", "nosuch", "--reason", "x", *good], "decision"),
        Mistake("no reason", ["undo", "nosuch", *good], "--reason"),
        Mistake("an unknown action", ["redo", *good], "redo"),
    ],
    "quarantine list": lambda good, p: _selections(good),
    "quarantine show": lambda good, p: _selections(good),
    "quarantine replay": lambda good, p: _selections(good),
    "sql": lambda good, p: [
        Mistake("no SQL", ["SELEKT 1", *good[1:]], "SELEKT"),
        Mistake("an unknown table", ["SELECT * FROM gold.nosuch", *good[1:]], "nosuch"),
        Mistake("a change", ["DROP TABLE gold.profiles", *good[1:]], "only"),
        Mistake("an unknown batch", changed(good, "--batch", "99999"), "99999"),
        Mistake("an unknown engine", changed(good, "--engine", "abacus"), "abacus"),
        Mistake("two shapes", [*good, "--csv"], "--csv"),
    ],
    "quality": lambda good, p: [
        Mistake("pages over somebody's files", changed(good, "--docs", str(p.lake.parent)), str(p.lake.parent)),
        Mistake("an unknown engine", changed(good, "--engine", "abacus"), "abacus"),
    ],
    "upkeep": lambda good, p: [
        Mistake("half of archiving", [*good, "--archive-to", "x"], "--archive-older-than"),
        Mistake("both ways", [*good, "--archive-to", "x", "--archive-older-than", "1", "--restore-archive"], "both"),
        Mistake("nothing archived", [*good, "--restore-archive"], "archived"),
    ],
    "backup": lambda good, p: [
        Mistake("into the lake", [str(p.lake / "in"), *good[1:]], "lie in each other"),
        Mistake("into a file", [str(p.out / "file"), *good[1:]], "file"),
        Mistake("an unwritable place", ["/proc/nowhere/x", *good[1:]], "/proc/nowhere"),
        Mistake("a name too long", [str(p.out / ("x" * 300)), *good[1:]], "xxx"),
    ],
    "restore": lambda good, p: [
        Mistake("no backup", [str(p.out / "nowhere"), good[1]], "nowhere"),
        Mistake("no backup to list", [str(p.out / "nowhere")], "nowhere"),
        Mistake("a file for a backup", [str(p.out / "file"), good[1]], "file"),
        Mistake("over a lake", [good[0], str(p.lake)], "not empty"),
        Mistake("over a file", [good[0], str(p.out / "file")], "not empty"),
        Mistake("an unwritable place", [good[0], "/proc/nowhere/x"], "/proc/nowhere"),
        Mistake("a name too long", [good[0], str(p.out / ("x" * 300))], "xxx"),
        Mistake("an unknown batch", [*good, "--batch", "99999"], "99999"),
        Mistake("a batch of a list", [good[0], "--batch", "1"], "DEST_LAKE"),
        Mistake("an archive of a list", [good[0], "--archive-to", "x"], "DEST_LAKE"),
    ],
    "mapping": lambda good, p: [
        Mistake("an unknown mapping", ["nosuch", *good[1:]], "nosuch"),
        Mistake("a missing file", ["native", str(p.out / "nosuch.jsonl")], "nosuch.jsonl"),
        Mistake("a folder", ["native", str(p.out)], str(p.out)),
        Mistake("an unknown extension", ["native", str(p.out / "file")], "extension"),
        Mistake("no file", ["native"], "mapping"),
        Mistake("a name too long", ["native", str(p.out / ("x" * 300))], "xxx"),
    ],
    "generate": lambda good, p: [
        Mistake("an unknown format", changed(good, "--source-format", "nosuch"), "nosuch"),
        Mistake("into a file", changed(good, "--out", str(p.out / "file")), "file"),
        Mistake("nobody", changed(good, "--persons", "0"), "persons"),
    ],
    "run": lambda good, p: [
        Mistake("an unknown mapping", changed(good, "--source", "nosuch:."), "nosuch"),
        Mistake("a missing folder", changed(good, "--source", "native:/no/such/folder"), "/no/such/folder"),
        Mistake("a file", changed(good, "--source", f"native:{p.out / 'file'}"), "file"),
        Mistake("no mapping", changed(good, "--source", "events"), "MAPPING:FOLDER"),
        Mistake("no topic", changed(good, "--source", "native:kafka://nowhere"), "kafka"),
        Mistake("no source", good[2:], "--source"),
    ],
    "resolve": lambda good, p: [
        Mistake("a missing file", ["nosuch.jsonl", *good[1:]], "nosuch.jsonl"),
        Mistake("an unknown extension", [str(p.out / "file"), *good[1:]], "extension"),
        Mistake("no output", [good[0]], "--output"),
        Mistake("an unknown format", changed(good, "--source-format", "nosuch"), "nosuch"),
        Mistake("an unknown engine", changed(good, "--engine", "abacus"), "abacus"),
    ],
    "rebuild": lambda good, p: _dates(good),
    "reconcile": lambda good, p: [
        *_dates(good),
        Mistake("dates for no records", [*good[:2], "--only-graph", "--since", "2026-01-01"], "--only-graph"),
        Mistake("both and neither", [*good, "--only-graph"], "--no-graph"),
    ],
}  # fmt: skip


def _selections(good: list[str]) -> list[Mistake]:
    return [
        Mistake("an unknown reason", [*good, "--reason", "nosuch"], "nosuch"),
        Mistake("no instant", [*good, "--since", "yesterday"], "yesterday"),
        Mistake("no batches", [*good, "--batch", "first"], "first"),
    ]


def _dates(good: list[str]) -> list[Mistake]:
    return [
        Mistake("no date", [*good, "--since", "yesterday"], "--since"),
        Mistake("the wrong way round", [*good, "--since", "2026-02-01", "--until", "2026-01-01"], "--since"),
    ]


@pytest.fixture(scope="module")
def bad_lakes(place: Place, born_here: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Everything that is not a lake which this program and user can use."""
    folder = tmp_path_factory.mktemp("bad")
    (place.out / "file").write_text("not a folder")
    newer = folder / "newer"
    shutil.copytree(born_here, newer)
    key_path(newer).write_bytes(KEY)
    row = rows_of(MIGRATIONS, {"from_format": FORMAT, "to_format": FORMAT + 1})
    DeltaRsWriter(Lake(newer)).append(MIGRATIONS, row, Txn("lake-format", FORMAT + 1))
    (folder / "loop").symlink_to(folder / "loop")
    damaged = folder / "damaged"
    shutil.copytree(born_here, damaged)
    key_path(damaged).write_bytes(KEY)
    for log in damaged.glob("*/*/_delta_log/*"):
        log.write_bytes(b"\0")
    return {
        "missing": folder / "nowhere",
        "a file": place.out / "file",
        "a foreign folder": Path("/proc/1/root"),
        "a link to itself": folder / "loop",
        "a name too long": folder / ("x" * 300),
        "of a newer format": newer,
        "damaged": damaged,
        "empty": folder,
    }


def mistakes_of(name: str, place: Place, bad_lakes: dict[str, Path]) -> list[Mistake]:
    of, good = commands()[name], USED[name](place)
    options = {option for action in of._actions for option in action.option_strings}
    found = list(of_numbers(name, of, good))
    if "--lake" in options:
        found += of_the_lake(name, good, place, dict(bad_lakes))
    found += of_files(options, good, place.out)
    found += OF_ITS_OWN[name](good, place) if name in OF_ITS_OWN else []
    return found


@pytest.mark.parametrize("name", USED)
def test_a_mistake_is_one_line_that_says_what_and_where(
    name: str,
    place: Place,
    bad_lakes: dict[str, Path],
    no_jvm: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten kinds at least. Seen to fail with stack traces for what the file system refuses, and for numbers that no
    setting can have."""
    monkeypatch.chdir(place.out)
    mistakes = mistakes_of(name, place, bad_lakes)
    assert len(mistakes) >= 10
    wrong = []
    for mistake in mistakes:
        try:
            code, _, err = ran([*name.split(), *mistake.words], capsys)
        except BaseException as e:
            wrong.append(f"{mistake.kind}: {type(e).__name__}: {str(e)[:300]}")
            continue
        lines = [
            line for line in err.splitlines() if line.startswith("stitchlake") or _OF_ITS_OWN.match(line)
        ]
        if code not in (1, 2) or len(lines) != 1 or "Traceback" in err or mistake.names not in err:
            wrong.append(f"{mistake.kind}: exit {code}, expected {mistake.names!r} in {err[-400:]!r}")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_key_file_is_named(
    place: Place, tmp_path: Path, no_jvm: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place.lake, tmp_path / "lake")
    there = Place(tmp_path / "lake", tmp_path)
    for content in (None, b"short", b"another lake's key, of 32 bytes."):
        if content is not None:
            key_path(there.lake).write_bytes(content)
        for name in ("merge", "keep-apart", "split", "quarantine replay", "upkeep", "reconcile", "rebuild"):
            code, _, err = ran([*name.split(), *USED[name](there)], capsys)
            assert code == 1, (name, err)
            assert str(key_path(there.lake)) in err
            assert len(err.splitlines()) == 1, err
        code, _, err = ran(["backup", *USED["backup"](there)], capsys)
        assert (code, "lake.key" in err) == (1, True), err


def test_what_the_system_refuses_names_the_file_and_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    for problem, said in (
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: permission denied; check the path"),
        (OSError("of its own"), "OSError; look at the disk"),
        (OSError(28, "No space left on device"), "no space left on device; look at the disk"),
    ):
        with pytest.raises(problems.Exit) as exit_, problems.reported("status"):
            raise problem
        assert exit_.value.code == 1
        assert said.lower() in capsys.readouterr().err.lower()
