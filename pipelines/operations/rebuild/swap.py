"""Put a shadow lake in place of what is published, between two batches of the stream if one is running.

The pause: derive the few events that were published since, compare, write. Both parts of it are bounded by settings,
and the pause is reported afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pyspark.sql import SparkSession

from pipelines.lake.snapshot import Snapshot
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.rebuild.rebuild import Plan, plan_of, publish_rebuild, published_as
from pipelines.operations.rebuild.shadow_lake import Rules, ShadowLake, open_shadow
from pipelines.operations.requests.holder import Holder
from pipelines.operations.requests.requests import Answer, RequestFailed
from pipelines.runtime.fingerprint import code_fingerprint
from transforms.identity.canonical import TooManyPersons

SWAP = "swap"


def swap(holder: Holder, arguments: Mapping[str, Any]) -> Answer:
    """The request `swap`: publish the shadow lake `side`, of which comparing took `compare_seconds`.

    Answers `batch_id`, `pause_seconds`, `rest_event_count` and `effects`, or `left`: how many events it is behind, when
    these are too many for a pause; then nothing was done.
    """
    began = time.perf_counter()
    try:
        shadow = open_shadow(holder.lake, arguments["side"])
        if (batch_id := published_as(holder.snapshot, shadow.declared.id)) is not None:
            return {"batch_id": batch_id}  # whoever did it was killed before it could say so
        _refuse_other_rules(shadow, holder)
        rest = shadow.left(holder.snapshot)
        if holder.read_by is not None:
            if rest > holder.settings.swap_up_to_events:
                return {"left": rest}
            _refuse_long_pause(arguments["compare_seconds"], holder)
        rules = Rules(holder.policy, holder.key, holder.settings, SparkSession.getActiveSession())
        plan, batch_id = swap_in(holder.snapshot, shadow, rules)
    except (RebuildRefused, TooManyPersons) as e:
        raise RequestFailed(str(e)) from None
    return {
        "batch_id": batch_id,
        "pause_seconds": round(time.perf_counter() - began, 3),
        "rest_event_count": rest,
        "effects": plan.effects.as_dict(),
    }


def swap_in(snapshot: Snapshot, shadow: ShadowLake, rules: Rules) -> tuple[Plan, int]:
    """Bring the shadow lake up to the last published state and publish it. For the holder of the lock."""
    plan = plan_of(snapshot, shadow, rules)
    return plan, publish_rebuild(plan, rules)


def _refuse_other_rules(shadow: ShadowLake, holder: Holder) -> None:
    """What a running stream does with its next batch must be what was done with all those before."""
    declared = shadow.declared
    if declared.policy_fingerprint != holder.policy.fingerprint:
        raise RebuildRefused(
            "this is a rebuild under another policy than the stream's; stop the stream first"
        )
    if declared.code_fingerprint != code_fingerprint():
        raise RebuildRefused(
            "the stream runs another version of the program than the one that has rebuilt the lake; start the stream "
            "anew, then rebuild"
        )
    for setting in ("max_record_bytes", "max_tenants"):
        ours, theirs = getattr(declared, setting), getattr(holder.settings, setting)
        if ours != theirs:
            raise RebuildRefused(
                f"{setting} is {theirs:,} for the stream and {ours:,} for this rebuild, so they would refuse other "
                "records; give both the same --env"
            )
    mappings = declared.mapping_fingerprints
    other = [name for name, of in (holder.read_by or {}).items() if mappings.get(name, of) != of]
    if other:
        raise RebuildRefused(
            f"the stream reads by an older version of the mapping {', '.join(sorted(other))}; start the stream anew, "
            "then rebuild"
        )


def _refuse_long_pause(compare_seconds: float, holder: Holder) -> None:
    limit = holder.settings.swap_up_to_seconds
    if compare_seconds > limit:
        raise RebuildRefused(
            f"the stream would have to wait {compare_seconds:,.0f} s for the comparison, and swap_up_to_seconds is "
            f"{limit:,.0f}; raise it with --env, or stop the stream and rebuild again"
        )
