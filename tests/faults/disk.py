"""Disks that are really full or read-only: a small file system of its own for one table's folder.

Mounting needs a mount namespace: `unshare --map-root-user --mount python -m tests.faults.disk FOLDER TABLE SIGNAL…`,
which most systems allow without being root. `is_allowed` tries it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tests.faults.in_process import clean_run, run_case
from tests.faults.injection import Kill

NAMESPACE = ("unshare", "--map-root-user", "--mount")
SPARE_BYTES = 8 * 4096  # enough for the folder itself, and for no data file


def is_allowed() -> bool:
    """Whether this system lets us mount in a namespace of our own."""
    try:
        done = subprocess.run(
            [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


class Disk:
    """The file system under one folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._aside = folder.with_name(f"{folder.name}.aside")

    def break_(self) -> None:
        """The same content on a disk without space, or one that nobody may write."""
        shutil.copytree(self.folder, self._aside)
        files = [f for f in self._aside.rglob("*") if f.is_file()]
        size = sum(-(-f.stat().st_size // 4096) * 4096 + 4096 for f in files) + SPARE_BYTES
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.folder))
        shutil.copytree(self._aside, self.folder, dirs_exist_ok=True)
        if self.kind == "read_only":
            _mount("-o", "remount,ro", str(self.folder))
            return
        with (self.folder / ".filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError:
                pass

    def mend(self) -> None:
        """What is on the disk now, with space and rights again."""
        shutil.rmtree(self._aside)
        shutil.copytree(self.folder, self._aside, ignore=shutil.ignore_patterns(".filler"))
        subprocess.run(["umount", str(self.folder)], check=True)
        shutil.rmtree(self.folder)
        self._aside.rename(self.folder)


def main(argv: list[str]) -> int:
    """FOLDER TABLE…: every table with each kind of disk; one JSON line per case."""
    folder = Path(argv[0])
    clean = clean_run(folder / "clean")
    for number, table in enumerate(argv[1:]):
        for kind in ("no_space", "read_only"):
            place = folder / f"case-{number}-{kind}"
            disk = Disk(place / "lake" / Path(*table.split(".")), kind)

            def break_(kill: Kill, disk: Disk = disk) -> bool:
                disk.break_()
                return True

            kill = Kill("stream 1", "append.before", table, 1, kind)
            verdict = run_case(clean, [kill], place, ops=1, die=break_, after_kill=disk.mend)
            print(json.dumps({"table": table, "signal": kind, **asdict(verdict)}), flush=True)
            shutil.rmtree(place, ignore_errors=True)
    return 0


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
