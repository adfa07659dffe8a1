"""The fault list, cases.yaml, spelled out: one case per combination."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.faults.injection import Kill

LIST = Path(__file__).with_name("cases.yaml")


@dataclass(frozen=True)
class Case:
    """A family's name and its kills, one after the other. `until`: operations done, the disturbed one included.

    `is_renumbered`: batches are cut or numbered otherwise than in a clean run, so minted ids differ."""

    family: str
    kills: tuple[Kill, ...]
    until: int = 1
    is_renumbered: bool = False

    def __str__(self) -> str:
        return f"{self.family}: {self.kills[0].op}: {', then '.join(map(str, self.kills))}"

    @property
    def features(self) -> dict[str, Any]:
        """The values of the case's dimensions."""
        kill = self.kills[-1]
        return {
            "point": kill.point,
            "table": kill.table,
            "where": (kill.op, kill.batch),
            "others": kill.others,
            "signal": kill.signal,
            "then": self.kills[0].then,
        }


@cache
def declared() -> dict[str, Any]:
    """The list as it is written."""
    return yaml.safe_load(LIST.read_text(encoding="utf-8"))


def in_process(seed: int | None = None) -> list[Case]:
    """Every case that needs no JVM. `seed` decides which second kills are drawn."""
    dice = random.Random(declared()["seed"] if seed is None else seed)
    return [case for family in declared()["in_process"] for case in _cases(family, dice)]


def selection(cases: Sequence[Case], seed: int) -> list[Case]:
    """A part in which every value of every dimension occurs, and every table of a batch's commits. As few as one finds
    by taking the best next, the short ones first."""
    left = random.Random(seed).sample(list(cases), len(cases))
    left.sort(key=lambda case: len(case.kills) + (case.kills[0].op not in ("stream 1", "decide")))
    covered: set[Any] = set()
    chosen: list[Case] = []
    while True:
        best = max(left, key=lambda case: len(_combined(case) - covered))
        if _combined(best) <= covered:
            return sorted(chosen, key=list(cases).index)
        covered |= _combined(best)
        chosen.append(best)


@cache
def _combined(case: Case) -> frozenset[Any]:
    """What a selection has to have of a case."""
    features = case.features
    combined = {*features.items()}
    if features["point"].startswith("append"):
        combined.add(("append", features["table"]))
    return frozenset(combined)


def each_point_once(cases: Sequence[Case], seed: int) -> list[Case]:
    """One case of every point, drawn by `seed`."""
    dice = random.Random(seed)
    found = {case.kills[-1].point: case for case in dice.sample(list(cases), len(cases))}
    return sorted(found.values(), key=list(cases).index)


def _cases(family: Mapping[str, Any], dice: random.Random) -> Iterator[Case]:
    tables = _tables(family.get("tables"))
    suffix = family.get("suffix", "")
    for (op, batch), point, table, others, signal, then in product(
        [(op, b) for op, batches in family["where"].items() for b in (batches or [None])],
        family["points"],
        [None if t is None else t + suffix for t in tables],
        family.get("others", ["in_order"]),
        family.get("signals", ["kill"]),
        family.get("then", ["retry"]),
    ):
        kill = Kill(op, point, table, batch, signal, others, then)
        for kills in _again(family.get("again"), kill, dice):
            yield Case(family["family"], kills, family.get("until", 1), family.get("renumbered", False))


def _again(again: Mapping[str, Any] | None, first: Kill, dice: random.Random) -> Iterator[tuple[Kill, ...]]:
    if again is None:
        yield (first,)
        return
    tables = _tables(again.get("tables"))
    if "draw" in again and first.table in tables:  # what the first attempt has written is not written again
        tables = tables[tables.index(first.table) + 1 :]
    pairs = [
        (p, t)
        for p, t in product(again["points"], tables or [None])
        if t is not None or "tables" not in again or not p.startswith(("append", "fold"))
    ]
    pairs = list(dict.fromkeys((p, None if p.startswith("intent") else t) for p, t in pairs))
    if "draw" in again:
        pairs = dice.sample(pairs, min(again["draw"], len(pairs)))
    for point, table in pairs:
        yield first, Kill(first.op, point, table, first.batch if _is_of_a_batch(point) else None)


def _is_of_a_batch(point: str) -> bool:
    """What is taken back is taken back before the stream is at any batch."""
    return not point.startswith(("discard", "restore", "attempt"))


def _tables(named: Any) -> list[str | None]:
    if named is None:
        return [None]
    return list(declared()["tables"][named]) if isinstance(named, str) else list(named)
