"""What does a batch cost that touches one device id which everybody shares, against one that does not?

`python -m benchmarks.shared_id [SESSIONS…]` prints one line for each size: the sessions that the device has had, the
median milliseconds of a batch with and without it, those of its activity step (sessions cut and owned, profiles
folded), and their ratios. Whole batches in this process, but for Spark. Not one of the questions of `make bench`.

Half of the device's sessions are anonymous, after both of two users signed in: they are one person with very many
sessions. The others are of a thousand users in turns. A batch that touches the device has a visit of that person, a
late one, and one of the users.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.direct.batches import Batches
from benchmarks.direct.copies import Record
from pipelines.runtime.process_end import run_and_end
from pipelines.stream.batch.setup import BatchReport

SIZES = (1_000, 10_000, 100_000)
TURNS, ORDINARY, PEOPLE, USERS = 30, 50, 2_000, 1_000
WARM_UP = 5
START = datetime(2016, 1, 1, tzinfo=UTC)
SHARED = {"device_id": "emulator"}


def event(n: int, minute: float, **identifiers: str) -> Record:
    return {
        "event_id": f"e{n}",
        "tenant": "acme",
        "event_type": "login" if "user_id" in identifiers else "page_view",
        "timestamp": (START + timedelta(minutes=minute)).isoformat(),
        "platform": "web",
        "identifiers": identifiers,
    }


def at_the_device(n: int, session: int, minutes_late: float = 0) -> Record:
    """A visit that is a session of its own: of nobody known, or of one of the users."""
    user = {"user_id": f"u{session // 2 % USERS}"} if session % 2 else {}
    return event(n, session * 40 + minutes_late, **SHARED, **user)


def ordinary(numbers: Iterator[int], minute: float, count: int) -> list[Record]:
    return [event(n, minute, device_id=f"d{n % PEOPLE}") for n in islice(numbers, count)]


def cost(folder: Path, sessions: int) -> str:
    lake, numbers = Batches(folder), iter(range(1 << 60))
    lake.stitch([at_the_device(next(numbers), s) for s in range(1, sessions + 1)])
    lake.stitch(ordinary(numbers, sessions * 40.0, PEOPLE))
    untouched: list[BatchReport] = []
    touched: list[BatchReport] = []
    for turn in range(1, WARM_UP + TURNS + 1):
        session = sessions + 2 * turn
        records = ordinary(numbers, session * 40.0, ORDINARY)
        untouched.append(lake.stitch(records))
        records = ordinary(numbers, session * 40.0 + 20, ORDINARY - 3)
        late = session // 4 * 2
        visits = ((session, 0.0), (late, 1.0), (session + 1, 0.0))
        touched.append(lake.stitch([*records, *(at_the_device(next(numbers), *visit) for visit in visits)]))
    batch = _against([r.seconds for r in touched], [r.seconds for r in untouched])
    activity = _against(*([r.steps["activity"] for r in reports] for reports in (touched, untouched)))
    return f"{sessions:>8,} sessions   batch {batch}   activity {activity}"


def _against(touched: Sequence[float], untouched: Sequence[float]) -> str:
    """Medians in milliseconds and their ratio, without the first few batches."""
    one, other = (1000 * statistics.median(seconds[WARM_UP:]) for seconds in (touched, untouched))
    return f"{one:6.1f} / {other:6.1f} ms = {one / other:5.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    for size in map(int, argv or SIZES):
        with TemporaryDirectory() as folder:
            print(cost(Path(folder) / "lake", size), flush=True)
    return 0


if __name__ == "__main__":
    run_and_end(partial(main, sys.argv[1:]))
