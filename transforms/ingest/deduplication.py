"""First of its event id wins: which events of a batch are valid, duplicates, or in conflict with a published one.

What is counted is events: an envelope of n events is n, one that holds none that can be read is 1, and so is every
other record, readable or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from conf.errors import Refusal
from transforms.arrays.integers import distinct_first_codes

CONFLICT = "conflicting_duplicate"


class ConservationError(Refusal):
    """received ≠ valid + quarantined + duplicate: the line stops before anything is published."""


@dataclass(frozen=True)
class DeduplicationOutcome:
    """Three masks over a batch's events; exactly one holds for each: received = valid + quarantined + duplicate."""

    valid: np.ndarray
    duplicate: np.ndarray
    conflicting: np.ndarray
    refused: np.ndarray

    @property
    def quarantined(self) -> np.ndarray:
        """Whether each event goes to quarantine."""
        return self.conflicting | self.refused


class Keyed(NamedTuple):
    """Events by key and content, aligned. `low`: the lower half of the key; 0 of one that was published without."""

    key: np.ndarray
    low: np.ndarray
    digest: np.ndarray


def judge_duplicates(events: Keyed, refused: np.ndarray, known: Keyed) -> DeduplicationOutcome:
    """`events` are in the order in which they count; `known` are the published ones with one of these upper halves.

    The same key with the same content is a duplicate, with other content a conflict. A refused event claims no key.
    """
    rows = np.flatnonzero(~refused)
    key, low, digest = (column[rows] for column in events)
    by = np.argsort(known.key, kind="stable")
    known_key, known_low, known_digest = (column[by] for column in known)
    keys, first, inverse = distinct_first_codes(key)
    first_digest = digest[first]
    is_known = np.zeros(len(keys), bool)
    is_other = bool((low != low[first][inverse]).any() or (known_key[1:] == known_key[:-1]).any())
    if len(known_key):
        at = np.minimum(np.searchsorted(known_key, keys), len(known_key) - 1)
        is_known = known_key[at] == keys
        first_digest = np.where(is_known, known_digest[at], first_digest)
        is_other |= bool((is_known & (known_low[at] != low[first]) & (known_low[at] != 0)).any())
    if is_other:
        return judge_duplicates(*_told_apart(events, refused, known))
    valid, duplicate, conflicting = (np.zeros(len(refused), bool) for _ in range(3))
    wins = np.zeros(len(rows), bool)
    wins[first] = ~is_known
    same = digest == first_digest[inverse]
    valid[rows] = wins
    duplicate[rows] = ~wins & same
    conflicting[rows] = ~wins & ~same
    return DeduplicationOutcome(valid, duplicate, conflicting, refused.copy())


def _told_apart(events: Keyed, refused: np.ndarray, known: Keyed) -> tuple[Keyed, np.ndarray, Keyed]:
    """The same with a number for every whole key, where different events have one upper half: hardly ever, and one by
    one. What was published without a lower half stands for every event of its upper half that is not known itself."""
    whole = list(zip(events.key.tolist(), events.low.tolist(), strict=True))
    number = {key: at for at, key in enumerate(dict.fromkeys(whole))}
    lows: dict[int, list[int]] = {}
    for upper, low in number:
        lows.setdefault(upper, []).append(low)
    found: dict[int, int] = {}
    for has_low in (False, True):
        for upper, low, content in zip(*(column.tolist() for column in known), strict=True):
            if bool(low) == has_low:
                meant = [low] if has_low else lows.get(upper, [])
                found |= {number[upper, of]: content for of in meant if (upper, of) in number}
    numbers = np.array([number[key] for key in whole], np.int64)
    known_key, known_digest = (np.array(list(part), np.int64) for part in (found, found.values()))
    return (
        Keyed(numbers, np.zeros_like(numbers), events.digest),
        refused,
        Keyed(known_key, np.zeros_like(known_key), known_digest),
    )


def require_conservation(received_count: int, outcome: DeduplicationOutcome) -> None:
    """ConservationError unless every received event has exactly one outcome."""
    times = outcome.valid.astype(np.int8) + outcome.quarantined + outcome.duplicate
    if len(times) != received_count or (times != 1).any():
        raise ConservationError(
            f"{received_count} events received, {int((times == 1).sum())} of them accounted for exactly once; "
            "nothing of this batch is published"
        )
