"""The product's own stream in a process of its own, as a user starts it, and what it says of its batches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from conf.settings import load_settings

_LONGEST = 600.0


class StreamDied(RuntimeError):
    """The stream's process ended, or did not do in time what it was waited for."""


class Stream:
    """`stitchlake run --json` on one landing folder; `changed` are settings that differ from the laptop's.

    A context manager: the block's end stops the stream cleanly, or kills it when the block failed.
    """

    def __init__(
        self, folder: Path, name: str, landing: Path, changed: Mapping[str, Any] | None = None
    ) -> None:
        self.lake, self.landing = folder / name, landing
        self.changed = dict(changed or {})
        self._said, self._erred = folder / f"{name}.jsonl", folder / f"{name}.err"
        self._env = folder / f"{name}.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self._reports: list[dict[str, Any]] = []
        self._read_to = 0

    def start(self, once: bool = False) -> Stream:
        self.landing.mkdir(parents=True, exist_ok=True)
        self._env.write_text(yaml.safe_dump(_laptop() | self.changed), encoding="utf-8")
        self._reports, self._read_to = [], 0
        self.started_at = time.time()
        with self._said.open("wb") as out, self._erred.open("wb") as err:
            # A session of its own, so that its JVM and its workers can be killed with it.
            self._process = subprocess.Popen(
                self.command(once), stdout=out, stderr=err, start_new_session=True
            )
        return self

    def command(self, once: bool) -> list[str]:
        return [
            *(sys.executable, "-m", "pipelines.apps.cli", "run", "--json", "--env", str(self._env)),
            *("--source", f"native:{self.landing}", "--lake", str(self.lake)),
            *(["--once"] if once else []),
        ]

    def reports(self) -> list[dict[str, Any]]:
        """One for every batch that this process has published so far."""
        with self._said.open("rb") as file:
            file.seek(self._read_to)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]  # the last line may be half-written
        self._read_to += len(new)
        self._reports += [r for r in map(json.loads, new.splitlines()) if "batch_id" in r]
        return self._reports

    def received(self) -> int:
        return sum(report["received"] for report in self.reports())

    def wait_received(self, count: int, seconds: float = _LONGEST) -> None:
        """Until so many records are published."""
        until = time.monotonic() + seconds
        while self.received() < count:
            self.require_alive(until, f"{count:,} records")
            time.sleep(0.05)

    def wait_end(self, seconds: float = _LONGEST) -> None:
        """Until a stream that was started with `once` is done."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise StreamDied(f"the stream was not done after {seconds:.0f} s") from None
        if code:
            raise StreamDied(f"the stream ended with {code}: {self._last_words()}")

    def stop(self) -> None:
        """Finish the running batch, publish, compact, end."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
        self.wait_end(300)

    def kill(self) -> None:
        """kill -9, and everything that it started with it."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Stream:
        return self if self._process is not None else self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()

    def require_alive(self, until: float, wanted: str) -> None:
        """StreamDied when the process has ended, or `until` (of time.monotonic) has passed without `wanted`."""
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise StreamDied(
                f"the stream ended with {code} before {wanted} were published: {self._last_words()}"
            )
        if time.monotonic() > until:
            raise StreamDied(f"{wanted} were not published in time; {self.received():,} records were")

    def _last_words(self) -> str:
        lines = self._erred.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"


def _laptop() -> dict[str, Any]:
    settings = load_settings()
    return {name: getattr(settings, name) for name in ("master", "writer", "engine", "lookup")}
