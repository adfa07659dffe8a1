"""Refused pairs in force: which a batch adds and which it lifts."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from transforms.identity.cluster import Refusals


def changed_refusals(now: Refusals, before: Refusals, judged: np.ndarray) -> tuple[Refusals, Refusals]:
    """(new or changed refusals, refusals that ended). `before` are those in force with an end in `judged`."""

    def rows(r: Refusals) -> list[tuple[int, ...]]:
        return list(zip(*(getattr(r, f.name).tolist() for f in fields(Refusals)), strict=True))

    had, have = set(rows(before)), {row[:2] for row in rows(now)}
    fresh = np.array([row not in had for row in rows(now)], bool)
    ended = np.array([row[:2] not in have for row in rows(before)], bool)
    return _select(now, fresh), _select(before, ended)


def _select(r: Refusals, keep: np.ndarray) -> Refusals:
    return Refusals(*(getattr(r, f.name)[keep] for f in fields(Refusals)))
