"""Clean events made dirty: some twice, some late, some unusable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.live.world import TIME

DUPLICATE_SHARE, LATE_SHARE, POISON_SHARE = 0.20, 0.05, 0.05
LATE_BY_SHARE = 0.1  # of all records that came before: hours, where a file is a day

# Each makes of a good line one that has to be quarantined.
POISONS: tuple[Callable[[bytes], bytes], ...] = (
    lambda line: line[: len(line) // 2],
    lambda line: b"[1,2,3]",
    lambda line: line.replace(b'"event_id":"', b'"event_id":"\xff\xfe', 1),
    lambda line: TIME.sub(b'"timestamp":"yesterday"', line, count=1),
    lambda line: TIME.sub(b'"timestamp":"0001-01-01T00:00:00Z"', line, count=1),
)


@dataclass(frozen=True)
class Dirty:
    """Lines as they arrive, and what has to become of them."""

    lines: Sequence[bytes]
    valid_count: int
    duplicate_count: int
    quarantined_count: int


def make_dirty(clean: Sequence[bytes], count: int, seed: int) -> Dirty:
    """`count` lines made of the first of `clean`, in their order but for those that are late."""
    dice = Random(seed)
    duplicates, poisoned = round(count * DUPLICATE_SHARE), round(count * POISON_SHARE)
    valid = count - duplicates - poisoned
    if valid + poisoned > len(clean):
        raise ValueError(f"{count:,} dirty lines need {valid + poisoned:,} clean ones")
    late = set(dice.sample(range(valid), round(count * LATE_SHARE)))
    # Where each line would stand, in units of valid ones; sorting by that mixes them.
    placed = [
        (n + (dice.random() * LATE_BY_SHARE * valid if n in late else 0.0), clean[n]) for n in range(valid)
    ]
    for n in dice.choices(range(valid), k=duplicates):
        placed.append((placed[n][0] + 1 + dice.random() * LATE_BY_SHARE * valid, clean[n]))
    for n in range(poisoned):
        model = clean[valid + n]  # not an event of the run: a poisoned record must not take a good one's id
        placed.append((dice.random() * valid, POISONS[n % len(POISONS)](model)))
    placed.sort(key=lambda p: p[0])
    return Dirty([line for _, line in placed], valid, duplicates, poisoned)
