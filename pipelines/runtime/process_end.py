"""The end of a process whose exit code somebody relies on."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn


def run_and_end(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and end the process with its exit code, with everything that an orderly end does but the last step.

    The interpreter is not taken apart: threads of Arrow that have read a table through Python may still let go of it
    then, and the process would abort (SIGABRT, exit code 134) after it has done and printed everything.
    """
    code = _code_of(main)
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads and pools that have work
        atexit._run_exitfuncs()
    finally:
        unwritten = _flushed()
        os._exit(code or unwritten)


def _code_of(main: Callable[[], int | None]) -> int:
    try:
        return int(main() or 0)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1


def _flushed() -> int:
    """Write out what was printed. 120 where that fails, as Python has it; a reader that has gone is no failure."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BrokenPipeError:
            continue
        except OSError:
            code = 120
    return code
