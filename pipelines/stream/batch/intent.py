"""The intent of a batch: its input and its rules, on disk before its first write.

A retry of the same batch must see the same input, versions and rules. Otherwise it would add different rows to those
that the first attempt has already committed. So it takes its number, time and table versions from the intent, and
refuses other rules.

A stream's batch that is too large is published in portions, as several batches of the lake (portions.py). The intent of
the last one that was begun says how far it has come, and until the last portion is published the stream's batch counts
as half-written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from conf.errors import Refusal
from pipelines.lake.fence import WAY_OUT
from pipelines.lake.writing.writer import Txn
from pipelines.runtime.durable_file import write_durably
from pipelines.state.keyed_rows import numpy_of
from transforms.ingest.framing.files_read import FileRead

INTENT = "_stitchlake/intent.json"  # inside the lake


class IntentConflict(Refusal):
    """A half-written batch cannot be retried under the present rules; the message says what to do."""


@dataclass(frozen=True)
class Intent:
    """One attempted batch. `batch_at` is in microseconds; `versions` are the published table versions it reads.

    It has the events `first` up to but not `until` of the `total` that the stream's batch has, in the order in which
    they count. `after`: the last batch that was published before the stream's batch was begun. `input_digest`: of
    everything in the stream's batch."""

    stream: str
    stream_batch_id: int
    batch_id: int
    batch_at: int
    versions: dict[str, int]
    policy_fingerprint: str
    code_fingerprint: str
    key_fingerprint: str
    input_digest: str
    first: int = 0  # by an older version of the program there was nothing but whole batches
    until: int = 0
    total: int = 0
    after: int = -1

    @property
    def is_last(self) -> bool:
        """Whether the stream's batch ends with it."""
        return self.until == self.total

    @property
    def is_portion(self) -> bool:
        """Whether it is a part of a stream's batch, and not the whole."""
        return self.first > 0 or not self.is_last

    def goes_on(self, last_published: int) -> tuple[int, int | None]:
        """(first, until) of the next attempt at the stream's batch: of this one again if it is not published, or of the
        portion after it, which may end anywhere."""
        return (self.first, self.until) if self.batch_id > last_published else (self.until, None)

    @property
    def txn(self) -> Txn:
        """Of its commits. A stream's batch has one number and its portions need one each."""
        if self.is_portion:
            return Txn(f"{self.stream}:portion", self.batch_id)
        return Txn(self.stream, self.stream_batch_id)


def digest_of(received: pa.Table, files: Sequence[FileRead]) -> str:
    """A hash of everything that a batch reads: another input has another one."""
    digest = hashlib.blake2b("".join(f"{f}\n" for f in sorted(files)).encode(), digest_size=16)
    for column in ("event_key", "content_digest", "origin_ordinal", "record_position"):
        digest.update(numpy_of(received[column]).tobytes())
    return digest.hexdigest()


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
        is_next = (earlier.until, earlier.batch_id) == (intent.first, intent.batch_id - 1)
        if not is_next and (earlier.batch_id, earlier.versions) != (intent.batch_id, intent.versions):
            raise IntentConflict(
                f"batch {earlier.batch_id} is half-written and something else has been published since it was begun; "
                "remove the lake's folder _checkpoints to read anew what is not published"
            )
        if not is_next:
            return earlier
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(asdict(intent)))
    return intent


def read_intent(path: Path) -> Intent | None:
    """The intent on record. IntentConflict when the file is none."""
    try:
        return Intent(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise IntentConflict(
            f"{path} is damaged, so it is unknown which batch is half-written; {WAY_OUT}"
        ) from None


def pending_intent(path: Path, last_published: int) -> Intent | None:
    """The intent of a batch that has been begun and is not published; or of a portion that is, and others follow."""
    intent = read_intent(path)
    if intent is None or (intent.batch_id <= last_published and intent.is_last):
        return None
    return intent


def own_transactions(pending: Intent | None) -> frozenset[Txn]:
    """The transactions that a half-written batch may have left in the tables."""
    return frozenset([pending.txn] if pending is not None else ())
