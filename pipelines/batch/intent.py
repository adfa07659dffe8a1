"""The intent of a batch: what it is going to read and under which rules, on disk before its first write.

A retry of the same batch must see the same world, or it would add different rows beside those that the first attempt
has already committed. So it takes its number, time and table versions from the intent, and refuses other rules.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.tables.fence import WAY_OUT
from pipelines.tables.writer import Txn

INTENT = "_stitchlake/intent.json"  # inside the lake


class IntentConflict(RuntimeError):
    """A half-written batch cannot be retried under the present rules; the message says what to do."""


@dataclass(frozen=True)
class Intent:
    """One attempted batch. `batch_at` is in microseconds; `versions` are the published table versions it reads."""

    stream: str
    stream_batch_id: int
    batch_id: int
    batch_at: int
    versions: dict[str, int]
    policy_fingerprint: str
    code_fingerprint: str
    key_fingerprint: str
    input_digest: str


def record_intent(path: Path, intent: Intent) -> Intent:
    """Put `intent` on record, or return the one that an earlier attempt of the same batch left there.

    IntentConflict when that attempt ran under another policy, program or key, read other records, or another lake.
    """
    earlier = read_intent(path)
    if earlier and (earlier.stream, earlier.stream_batch_id) == (intent.stream, intent.stream_batch_id):
        for what in ("policy", "code", "key"):
            if getattr(earlier, f"{what}_fingerprint") != getattr(intent, f"{what}_fingerprint"):
                raise IntentConflict(
                    f"batch {earlier.batch_id} was begun with another {what} and is half-written; "
                    f"run once with the {what} it was begun with, then change it"
                )
        if earlier.input_digest != intent.input_digest:
            raise IntentConflict(
                f"batch {earlier.batch_id} is half-written and its input has changed since; "
                "put back the files or topic records that were there and run again, "
                "or remove the lake's folder _checkpoints to take the batch back and read anew what is not published"
            )
        if (earlier.batch_id, earlier.versions) != (intent.batch_id, intent.versions):
            raise IntentConflict(
                f"batch {earlier.batch_id} is half-written and something else has been published since it was begun; "
                "remove the lake's folder _checkpoints to read anew what is not published"
            )
        return earlier
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as f:
        json.dump(asdict(intent), f)
        f.flush()
        os.fsync(f.fileno())
    partial.replace(path)
    return intent


def read_intent(path: Path) -> Intent | None:
    """The intent on record. IntentConflict when the file is none."""
    try:
        return Intent(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise IntentConflict(
            f"{path} is damaged, so a half-written batch cannot be told; {WAY_OUT}"
        ) from None


def pending_intent(path: Path, last_published: int) -> Intent | None:
    """The intent of a batch that has been begun and is not published."""
    intent = read_intent(path)
    return intent if intent is not None and intent.batch_id > last_published else None


def own_transactions(pending: Intent | None) -> frozenset[Txn]:
    """The transactions that a half-written batch may have left in the tables."""
    return frozenset([Txn(pending.stream, pending.stream_batch_id)] if pending is not None else ())
