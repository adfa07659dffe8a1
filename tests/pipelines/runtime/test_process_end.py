"""A command's exit code is the one that it returned, whatever would go wrong while the interpreter is taken apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import atexit, os, sys, threading, time; from pipelines.runtime.process_end import run_and_end\n"
# What Arrow's threads may do while Python is taken apart: abort the process.
ABORTS = "class A:\n    def __del__(self): os.abort()\nkept = A()\n"
WORK = """
def main():
    atexit.register(lambda: print("at exit"))
    threading.Thread(target=lambda: (time.sleep(0.3), print("a thread"))).start()
    print("main")
    return 3
"""


def ended(program: str, **how) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", HEAD + program], capture_output=True, text=True, **how)


def test_nothing_is_lost_and_the_exit_code_stays_when_the_interpreter_would_abort() -> None:
    assert ended(f"{ABORTS}{WORK}\nsys.exit(main())").returncode == -6  # what it is about
    done = ended(f"{ABORTS}{WORK}\nrun_and_end(main)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "main\na thread\nat exit\n", "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return None", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('no such thing')", 1, "no such thing"),
        ("raise ValueError('x')", 1, "ValueError: x"),
        ("raise KeyboardInterrupt", 1, "interrupted"),
        ("sys.stdout = open('/dev/full', 'w'); print('x')", 120, ""),
    ],
)
def test_every_way_to_end_has_its_exit_code(body: str, code: int, said: str) -> None:
    done = ended(f"def main():\n    {body}\nrun_and_end(main)")
    assert done.returncode == code
    assert said in done.stderr


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    # Written only at the end, when the reader has gone.
    buffered = "sys.stdout = open(1, 'w', buffering=1000, closefd=False)\n"
    program = f"{HEAD}{buffered}def main():\n    print('x')\n    time.sleep(1)\nrun_and_end(main)"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(300) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_every_program_that_reads_tables_ends_this_way() -> None:
    """Seen to fail for the benchmarks, one of which ended with SIGABRT after it had printed everything."""
    root = Path(__file__).parents[3]
    files = [file for folder in ("pipelines", "benchmarks") for file in (root / folder).rglob("*.py")]
    programs = [p for p in files if '__name__ == "__main__"' in p.read_text(encoding="utf-8")]
    otherwise = {
        str(p.relative_to(root)) for p in programs if "run_and_end" not in p.read_text(encoding="utf-8")
    }
    assert len(programs) > 25
    assert otherwise == {
        "benchmarks/baselines/duckdb_script.py",
        "pipelines/runtime/jars.py",
        "pipelines/runtime/java.py",
        "pipelines/stream/kafka/broker.py",
        "pipelines/runtime/worker_daemon.py",
        "pipelines/stream/kafka/produce.py",
    }  # none of them opens a table
