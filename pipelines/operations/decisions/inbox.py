"""The control inbox: a folder inside the lake. Every stream reads it in addition to its sources.

A decision is a file of one JSON record, put there by rename. A running stream takes it with its next batch; where no
stream runs, `apply_waiting` takes the lake's lock and makes a batch of what is waiting, without Spark.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa

from conf.errors import Refusal
from conf.policy import Policy
from conf.settings import Settings
from conf.tables import IDENTITY_DECISIONS
from pipelines.lake.files_of_record import names_read
from pipelines.lake.hashing_key import fingerprint, load_key
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import Lake
from pipelines.lake.lock import LakeLocked, lake_lock
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.discard import discard_unpublished
from pipelines.lake.writing.engines import make_writer
from pipelines.operations.upgrade import ready_to_write
from pipelines.state.open_state import state_opener
from pipelines.stream.batch.intent import INTENT, pending_intent
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import StreamSetup
from pipelines.stream.checkpoint import DIRECT
from pipelines.stream.source import Source
from transforms.identity.components import driver_components
from transforms.ingest.control import CONTROL
from transforms.ingest.parse import RecordParser
from transforms.ingest.records import parsed_here

INBOX = "_stitchlake/control"  # inside the lake


class DecisionProblem(Refusal):
    """A decision that cannot be taken, or is not in the tables yet; the message says what to do."""


def control_source(lake: Path) -> Source:
    """The inbox as a source of the lake's stream. Makes the folder."""
    folder = lake.absolute() / INBOX
    folder.mkdir(parents=True, exist_ok=True)
    return Source(CONTROL, str(folder), "file", CONTROL)


def put(lake: Path, record: dict[str, object]) -> str:
    """Put a decision on record. Returns its id."""
    folder = Path(control_source(lake).location)
    decision_id = str(record.get("decision_id") or uuid.uuid4())
    name = f"{_next_number(folder):020d}-{uuid.uuid4().hex[:8]}.json"
    hidden = folder / f".{name}"
    hidden.write_bytes(orjson.dumps({**record, "decision_id": decision_id}))
    hidden.rename(folder / name)
    return decision_id


def _next_number(folder: Path) -> int:
    """Decisions count in the order of their names: greater than any that waits, wherever the clock has gone since."""
    waiting = (f.name[:20] for f in folder.glob("[!.]*.json"))
    return max([time.time_ns(), *(int(number) + 1 for number in waiting if number.isdecimal())])


def apply(
    lake: Path,
    policy: Policy,
    settings: Settings,
    record: dict[str, object],
    patience_seconds: float = 60.0,
    say: Callable[[str], None] = lambda text: None,
) -> str:
    """Put a decision on record and wait until it is published, by the running stream or by a batch of our own.

    Returns the decision's id. DecisionProblem when it is still waiting after `patience_seconds`; that or KeyProblem,
    with nothing put on record, where no batch of this lake could take it.
    """
    _key_of(lake, published(Lake(lake)), policy)
    decision_id = put(lake, record)
    until = time.monotonic() + patience_seconds
    is_reported = False
    while True:
        try:
            apply_waiting(lake, policy, settings)
        except LakeLocked:
            if not is_reported:
                say("a stream writes this lake: the decision goes with its next batch …")
                is_reported = True
        if _is_published(Lake(lake), str(record["tenant"]), decision_id):
            return decision_id
        if time.monotonic() > until:
            raise DecisionProblem(
                f"decision {decision_id} is on record but not published yet; the stream takes it with its next batch"
            )
        time.sleep(0.2)


def apply_waiting(lake_path: Path, policy: Policy, settings: Settings) -> int:
    """Publish the decisions that wait in the inbox as one batch; returns how many.

    LakeLocked when a stream runs; DecisionProblem when it has left a half-written batch.
    """
    with lake_lock(lake_path):
        lake = Lake(lake_path)
        key = _key_of(lake_path, ready_to_write(lake).snapshot, policy)
        if not settle(lake, None):
            raise DecisionProblem(
                "the stream's last batch is half-written; run the stream once, it takes the decision along"
            )
        parser = RecordParser({}, policy, key, settings.max_record_bytes)
        waiting = _waiting(control_source(lake_path), decided_origins(lake))
        if not waiting.num_rows:
            return 0
        rows = parsed_here(waiting.to_batches(), parser)
        processor = BatchProcessor(
            StreamSetup(
                lake=lake,
                writer=make_writer("delta_rs", lake),
                parser=parser,
                policy=policy,
                components=driver_components,
                settings=settings,
                stream=f"{DIRECT}{uuid.uuid4().hex}",
                key_fingerprint=fingerprint(key),
                open_state=state_opener(settings.lookup, policy, None, settings.lookup_tables_from_rows),
            )
        )
        processor.process(lambda: rows, 0)
        processor.compact()
        return rows.num_rows


def _key_of(lake_path: Path, snapshot: Snapshot | None, policy: Policy) -> bytes:
    """The key that decisions about this lake are read with. DecisionProblem or KeyProblem where nobody may decide."""
    if snapshot is None:
        raise DecisionProblem(
            f"the lake {lake_path} has no published batch yet; there is nobody to decide about"
        )
    if not same_policy(snapshot, policy):
        raise DecisionProblem("this lake's persons were made under another policy; give it with --policy")
    if other := other_identifier_rules(snapshot, policy):
        raise DecisionProblem(other)
    return load_key(lake_path, True, snapshot.row["key_fingerprint"])


def settle(lake: Lake, stream: str | None, is_continued: bool = True) -> bool:
    """Take back a half-written attempt that nothing will complete: a direct batch's, or, where a new checkpoint begins
    (not `is_continued`), an earlier stream's: its input is read again.

    False when the half-written attempt is of another stream than `stream`: that one has to complete it.
    """
    snapshot = published(lake)
    last = snapshot.batch_id if snapshot else 0
    intent = pending_intent(lake.path / INTENT, last)
    if intent is None or intent.stream == stream:
        return True
    if intent.stream.startswith(DIRECT) or not is_continued:
        discard_unpublished(lake, last, intent.txn.app_id)
        (lake.path / INTENT).unlink()  # nothing of it is left, so nothing waits for its retry
        return True
    return False


def decided_origins(lake: Lake) -> frozenset[tuple[str, str]]:
    """(source, origin) of the control records that are published."""
    snapshot = published(lake)
    if snapshot is None:
        return frozenset()
    return frozenset((CONTROL, name) for name in names_read(lake, snapshot.batch_id, CONTROL))


def _waiting(source: Source, known: frozenset[tuple[str, str]]) -> pa.Table:
    """The inbox's files that are not published, as the rows that a stream would read them as."""
    files = sorted(f for f in Path(source.location).glob("*.json") if not f.name.startswith("."))
    files = [f for f in files if (source.name, f.name) not in known]
    return pa.table(
        {
            "source": pa.array([source.name] * len(files), pa.string()),
            "mapping": pa.array([source.mapping] * len(files), pa.string()),
            "feed": pa.array([CONTROL] * len(files), pa.string()),
            "path": pa.array([f.name for f in files], pa.string()),
            "content": pa.array([f.read_bytes() for f in files], pa.binary()),
            "transport_at": pa.array(
                [f.stat().st_mtime_ns // 1000 for f in files], pa.timestamp("us", tz="UTC")
            ),
        }
    )


def _is_published(lake: Lake, tenant: str, decision_id: str) -> bool:
    snapshot = published(lake)
    if snapshot is None:
        return False
    known = snapshot.arrow(IDENTITY_DECISIONS, ["tenant", "decision_id"])
    return {"tenant": tenant, "decision_id": decision_id} in known.to_pylist()
