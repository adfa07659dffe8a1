"""Mistakes and failures that a command reports in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conf.policy import PolicyError
from conf.settings import SettingsError
from conf.source_mapping import MappingError
from pipelines.batch.intent import IntentConflict
from pipelines.hashing_key import KeyProblem
from pipelines.java import JavaMissing
from pipelines.lock import LakeLocked
from pipelines.rebuild.attempt import RebuildRefused
from pipelines.sources import SourceError
from pipelines.stream import PolicyChanged, StreamFailed
from pipelines.tables.lake import SchemaMismatch

USAGE = (PolicyError, SettingsError, MappingError, SourceError)
FAILURES = (
    JavaMissing,
    LakeLocked,
    KeyProblem,
    IntentConflict,
    PolicyChanged,
    RebuildRefused,
    SchemaMismatch,
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
