"""One process over one lake: the state read, a few batches published, its memory printed as JSON.

`python -m benchmarks.direct.memory_probe LAKE BATCHES PERSONS` is what driver_memory runs, once over an empty lake and
once over one with so many persons: what the second one needs more is what the lake costs.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

from benchmarks.direct.batches import Batches
from benchmarks.direct.copies import AT, Record, customer, event, number
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.released_memory import keep_for_next

EVENTS_PER_BATCH = 1_000
SESSION_APART = 100_000  # seconds after history


def main(argv: list[str] | None = None) -> int:
    path, batches, known = (argv or sys.argv[1:])[:3]
    keep_for_next()  # as a stream's session does
    lake = Batches(Path(path))
    load_seconds = lake.load()
    gc.collect()
    loaded = memory()
    state = lake.processor.last.state
    assert state is not None
    rows = len(state)
    for n in range(int(batches)):
        lake.stitch(_batch(n, int(known)))
    gc.collect()
    print(
        json.dumps(
            {
                "load_seconds": round(load_seconds, 2),
                "loaded": loaded["VmRSS"],
                "resident": memory()["VmRSS"],
                "peak": memory()["VmHWM"],
                "rows": rows,
            }
        )
    )
    return 0


def memory() -> dict[str, int]:
    """What this process has in memory now and had at most, in bytes, as Linux says."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}


def _batch(n: int, known: int) -> list[Record]:
    """Half of them people who come back, where there are any, the others new."""
    records: list[Record] = []
    for k in range(EVENTS_PER_BATCH // 2):
        copy = (n * EVENTS_PER_BATCH + k) * 7_919 % known if known else 10**8 + n * EVENTS_PER_BATCH + k
        here = {"device_id": f"d{number(copy)}", "cookie_id": f"c{number(copy)}"}
        records.append(event(f"back{n}-{k}", AT + SESSION_APART, "page_view", here))
        records.append(customer(5 * 10**8 + n * EVENTS_PER_BATCH + k)[0])
    return records


if __name__ == "__main__":
    run_and_end(main)
