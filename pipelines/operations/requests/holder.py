"""Whoever holds a lake's lock while no batch runs and none is half-written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conf.errors import Refusal
from conf.policy import Policy
from conf.settings import Settings
from pipelines.lake.hashing_key import load_key
from pipelines.lake.identifier_rules import other_identifier_rules, same_policy
from pipelines.lake.lake import Lake
from pipelines.lake.lock import lake_lock
from pipelines.lake.snapshot import Snapshot, published
from pipelines.operations.decisions.inbox import settle
from pipelines.operations.upgrade import ready_to_write
from pipelines.state.open_state import OpenState, state_opener


class NotReady(Refusal):
    """The lake cannot be worked on as it stands; the message says why and what to do."""


@dataclass(frozen=True)
class Holder:
    """The right to write a lake until the block ends in which it was given, and what writing it takes.

    `read_by`: of a running stream, its mappings and their fingerprints; None where no stream waits. `open_state`: gives
    the state of the lake: a running stream's own, or a new one as the settings say (`lookup`)."""

    lake: Lake
    snapshot: Snapshot
    policy: Policy
    settings: Settings
    key: bytes
    open_state: OpenState
    read_by: Mapping[str, str] | None = None


@contextmanager
def holding(lake_path: Path, policy: Policy, settings: Settings) -> Iterator[Holder]:
    """Hold a lake that no stream runs on. LakeLocked when one does, NotReady when there is something to do first."""
    with lake_lock(lake_path):
        lake = Lake(lake_path)
        ready_to_write(lake)
        if not settle(lake, None):
            raise NotReady("the stream's last batch is half-written; run the stream once, it completes it")
        yield holder_of(lake, policy, settings)


def holder_of(
    lake: Lake,
    policy: Policy,
    settings: Settings,
    read_by: Mapping[str, str] | None = None,
    open_state: OpenState | None = None,
) -> Holder:
    """The holder, for somebody who has the lock and has settled what was half-written."""
    snapshot = published(lake)
    if snapshot is None:
        raise NotReady(f"the lake {lake.path} has no published batch yet")
    if not same_policy(snapshot, policy):
        raise NotReady("this lake's persons were made under another policy; give it with --policy")
    if other := other_identifier_rules(snapshot, policy):
        raise NotReady(other)
    key = load_key(lake.path, True, snapshot.row["key_fingerprint"])
    if open_state is None:
        open_state = state_opener(settings.lookup, policy, None, settings.lookup_tables_from_rows)
    return Holder(lake, snapshot, policy, settings, key, open_state, read_by)
