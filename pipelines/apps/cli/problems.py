"""Mistakes and failures that a command reports in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError

from conf.errors import Refusal, UserMistake
from pipelines.runtime.private_files import keep_files_private


class BadUsage(UserMistake):
    """Arguments that do not go together; the message says what to write instead."""


_SHOWN_CHARACTERS = 200


class Exit(Exception):
    """Ends a command with a code after its problem has been printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Print a known problem as one line and turn it into `Exit`. What the command writes is its user's alone."""
    try:
        keep_files_private()
        yield
    except UserMistake as e:
        print(f"stitchlake {command}: {e}", file=sys.stderr)
        raise Exit(2) from None
    except Refusal as e:
        print(f"stitchlake {command}: {e}", file=sys.stderr)
        raise Exit(1) from None
    except BrokenPipeError:  # the reader has had enough, `| head` for example: not a problem
        raise
    except OSError as e:
        print(f"stitchlake {command}: {refused_by_the_system(e)}", file=sys.stderr)
        raise Exit(1) from None
    except DeltaError as e:  # its words may show rows
        print(
            f"stitchlake {command}: a table cannot be read or written ({type(e).__name__}): files of it are missing or "
            "damaged; restore the lake from a backup, or try `stitchlake repair` if somebody has changed its tables",
            file=sys.stderr,
        )
        raise Exit(1) from None


def refused_by_the_system(problem: OSError) -> str:
    """The message of a failed system call: what failed, for which file, and what to check."""
    text = problem.strerror or type(problem).__name__
    if problem.filename is None:
        return f"{text[0].lower()}{text[1:]}; look at the disk, the network and this user's permissions"
    name = str(problem.filename)
    shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
    return f"{shown}: {text[0].lower()}{text[1:]}; check the path, and whether this user may read and write there"
