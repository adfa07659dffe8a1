"""Rebuilds a lake while its stream runs: reads the records again, then swaps the tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.policy import Policy
from conf.settings import Settings
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import Lake, existing_lake
from pipelines.lake.lock import LakeLocked, lake_lock
from pipelines.operations.attempt import RebuildRefused, refuse_half_written_batch
from pipelines.operations.decisions.inbox import settle
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.rebuild.rebuild import OpenSpark, Plan, planned, something_published
from pipelines.operations.rebuild.shadow_lake import Progress, Rules
from pipelines.operations.rebuild.swap import SWAP, swap, swap_in
from pipelines.operations.requests.requests import run_request
from pipelines.operations.upgrade import ready_to_write

ROUNDS = 20  # of catching up with a stream before it is called too fast
_LOOKS_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Done:
    """What was published: `effects` as of then. `pause_seconds`: for how long nobody else could write."""

    batch_id: int
    pause_seconds: float
    rest_event_count: int
    effects: dict[str, Any]


def rebuild(
    lake_path: Path,
    policy: Policy,
    settings: Settings,
    *,
    spark: OpenSpark,
    dates: Dates | None = None,
    confirm: Callable[[Plan], bool] = lambda plan: True,
    progress: Progress = lambda text: None,
    patience_seconds: float = 3600.0,
) -> Done | None:
    """Derive the lake again, of `dates` or all of it, and put it in place; None when `confirm` declines, and then
    nothing is written.

    A stream may run all the while: it waits for the end of it only. Under another policy than the lake's it cannot go
    on, so then the end waits until somebody has stopped it, for `patience_seconds` at most.
    """
    lake = existing_lake(lake_path)
    snapshot = something_published(lake)
    _refuse_half_written(lake)
    has_same_rules = same_policy(snapshot, policy) and other_identifier_rules(snapshot, policy) is None
    if dates is not None and not has_same_rules:
        raise RebuildRefused(
            "another policy, or other rules for identifiers, are a matter of the whole lake; leave the dates out"
        )
    with planned(lake, policy, settings, spark, dates, progress) as (plan, rules):
        if not confirm(plan):
            return None
        if not has_same_rules:
            return _once_alone(lake, plan, rules, patience_seconds, progress)
        return _between_batches(lake, plan, rules, patience_seconds, progress)


def _between_batches(
    lake: Lake, plan: Plan, rules: Rules, patience_seconds: float, progress: Progress
) -> Done:
    shadow, arguments = (
        plan.shadow,
        {"side": plan.shadow.declared.id, "compare_seconds": plan.compare_seconds},
    )
    for _ in range(ROUNDS):
        snapshot = something_published(lake)
        if shadow.left(snapshot):
            shadow.catch_up(snapshot, rules, progress)
        answer = run_request(
            lake.path,
            rules.policy,
            rules.settings,
            SWAP,
            {SWAP: swap},
            arguments,
            patience_seconds=patience_seconds,
            say=progress,
        )
        if "left" not in answer:
            return _done(answer, plan)
    raise RebuildRefused(
        f"the stream publishes faster than it can be followed: {answer['left']:,} events are left, and "
        f"swap_up_to_events is {rules.settings.swap_up_to_events:,}; try again when it has less to do, or stop it first"
    )


def _once_alone(lake: Lake, plan: Plan, rules: Rules, patience_seconds: float, progress: Progress) -> Done:
    """Under another policy: with the lock of the lake, as soon as it is to be had."""
    until, is_reported = time.monotonic() + patience_seconds, False
    while True:
        try:
            with lake_lock(lake.path):
                began = time.perf_counter()
                ready_to_write(lake)
                settle(lake, None)
                snapshot = something_published(lake)
                refuse_half_written_batch(lake, snapshot)
                rest = plan.shadow.left(snapshot)
                progress("writing")
                last, batch_id = swap_in(snapshot, plan.shadow, rules)
                return Done(batch_id, time.perf_counter() - began, rest, last.effects.as_dict())
        except LakeLocked:
            if time.monotonic() > until:
                raise
            if not is_reported:
                progress(
                    "everything is ready, and a stream writes this lake under its former policy: stop it; the rest "
                    "takes moments, and `stitchlake run --policy …` continues"
                )
                is_reported = True
            time.sleep(_LOOKS_EVERY_SECONDS)
            plan.shadow.catch_up(something_published(lake), rules)


def _refuse_half_written(lake: Lake) -> None:
    """Before the work, and not after it: where nobody is there to complete a batch, it has to be completed first."""
    try:
        with lake_lock(lake.path):
            ready_to_write(lake)
            settle(lake, None)
            refuse_half_written_batch(lake, something_published(lake))
    except LakeLocked:
        pass


def _done(answer: dict[str, Any], plan: Plan) -> Done:
    return Done(
        answer["batch_id"],
        answer.get("pause_seconds", 0.0),
        answer.get("rest_event_count", 0),
        answer.get("effects", plan.effects.as_dict()),
    )
