"""A stream for benchmarks without a JVM: a thread that feeds landed files to a real lake, a file a batch."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from benchmarks.live.stream import Stream
from tests.direct_lake import DirectLake


class DirectStream(Stream):
    """As `Stream`, and dies as quickly: between two batches."""

    _starts = 0

    def __init__(self, folder: Path, name: str, landing: Path, changed=None) -> None:
        super().__init__(folder, name, landing, changed)
        self._done: set[str] = set()
        self._thread: threading.Thread | None = None

    def start(self, once: bool = False) -> DirectStream:
        self.landing.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        self._reports, self.started_at = [], time.time()
        self._ends, self._is_once, self._failure = threading.Event(), once, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def reports(self) -> list[dict]:
        return list(self._reports)

    def wait_end(self, seconds: float = 600.0) -> None:
        assert self._thread is not None
        self._thread.join(seconds)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._ends.set()
        self.wait_end()
        self._lake.processor.compact()

    def kill(self) -> None:
        if self._thread is not None:
            self._ends.set()
            self._thread.join()

    def __enter__(self) -> DirectStream:
        return self if self._thread is not None and self._thread.is_alive() else self.start()

    def require_alive(self, until: float, wanted: str) -> None:
        assert self._failure is None, repr(self._failure)
        assert time.monotonic() < until, wanted

    def _run(self) -> None:
        try:
            self._lake = DirectLake(self.lake, stream=f"direct-{self._starts}")
            self._lake.processor = self._lake.new_processor(
                on_published=lambda report: self._reports.append(dict(report.__dict__))
            )
            while not self._ends.is_set():
                new = [p for p in sorted(self.landing.glob("*.jsonl")) if p.name not in self._done]
                if not new and self._is_once:
                    return
                for file in new[:1]:
                    self._lake.feed(file.read_bytes(), name=file.name)
                    self._done.add(file.name)
                if not new:
                    time.sleep(0.01)
        except BaseException as e:
            self._failure = e
