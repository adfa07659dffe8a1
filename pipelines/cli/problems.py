"""Mistakes and failures that a command reports in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conf.policy import PolicyError
from conf.settings import SettingsError
from conf.source_mapping import MappingError
from pipelines.backup.manifest import BackupProblem
from pipelines.batch.intent import IntentConflict
from pipelines.decisions.inbox import DecisionProblem
from pipelines.decisions.records import Refused
from pipelines.errands.errands import ErrandFailed
from pipelines.errands.holder import NotReady
from pipelines.hashing_key import KeyProblem
from pipelines.java import JavaMissing
from pipelines.kafka.problems import BrokerUnavailable, OffsetsLost
from pipelines.lock import LakeLocked
from pipelines.person import BadId, NoSuchPerson
from pipelines.quality_gate import QualityBroken
from pipelines.quality_run import QualityProblem
from pipelines.quarantine.corrections import BadCorrections
from pipelines.rebuild.attempt import RebuildRefused
from pipelines.session import SessionUnusable
from pipelines.sources import SourceError
from pipelines.stream import PolicyChanged, StreamFailed
from pipelines.tables.fence import LakeChanged
from pipelines.tables.lake import LakeTooNew, NoLake, SchemaMismatch
from pipelines.tables.snapshot import NoSuchBatch
from pipelines.views import CatalogConflict
from quality.docs_folder import DocsFolderTaken


class BadUsage(ValueError):
    """Arguments that do not go together; the message says what to write instead."""


USAGE = (
    BadCorrections,
    BadId,
    BadUsage,
    DocsFolderTaken,
    PolicyError,
    SettingsError,
    MappingError,
    SourceError,
)
FAILURES = (
    BackupProblem,
    BrokerUnavailable,
    CatalogConflict,
    DecisionProblem,
    ErrandFailed,
    IntentConflict,
    JavaMissing,
    KeyProblem,
    LakeChanged,
    LakeLocked,
    LakeTooNew,
    NoLake,
    NoSuchBatch,
    NoSuchPerson,
    NotReady,
    OffsetsLost,
    PolicyChanged,
    QualityBroken,
    QualityProblem,
    RebuildRefused,
    Refused,
    SchemaMismatch,
    SessionUnusable,
    StreamFailed,
)


class Exit(Exception):
    """Ends a command with a code after its problem has been printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Print a known problem as one line and turn it into `Exit`."""
    try:
        yield
    except USAGE as e:
        print(f"stitchlake {command}: {e}", file=sys.stderr)
        raise Exit(2) from None
    except FAILURES as e:
        print(f"stitchlake {command}: {e}", file=sys.stderr)
        raise Exit(1) from None
