"""One writer per lake, with real processes: refused while another lives or is stopped, taken over once it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.lake.lock import LakeLocked, lake_lock

# The child has a child of its own, like a driver has its JVM: that one must not keep the lock alive.
HOLD = """
import subprocess, sys, time
from pathlib import Path
from pipelines.lake.lock import lake_lock
with lake_lock(Path(sys.argv[1])):
    helper = subprocess.Popen(["sleep", "60"])
    print(helper.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as process:
        assert process.stdout is not None
        process.helper = int(process.stdout.readline())  # it has the lock now
        yield process
        os.kill(process.helper, signal.SIGKILL)
        process.kill()


def test_a_second_process_is_refused_with_the_firsts_number_also_while_that_one_is_stopped(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    for stopped in (False, True):
        if stopped:
            holder.send_signal(signal.SIGSTOP)
        with pytest.raises(LakeLocked, match=f"process {holder.pid}; stop it"), lake_lock(tmp_path):
            pass
    link = tmp_path.parent / "another-way-in"
    link.symlink_to(tmp_path)
    with pytest.raises(LakeLocked), lake_lock(link):
        pass
    holder.send_signal(signal.SIGCONT)
    with pytest.raises(LakeLocked), lake_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_taken_over_though_its_own_child_lives(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    """Seen to fail with `os.set_inheritable` and `close_fds=False` in the holder: the helper then has the lock."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    os.kill(holder.helper, 0)  # it lives
    with lake_lock(tmp_path) as require_held:
        require_held()
        assert (tmp_path / "_stitchlake/lock").read_text() == str(os.getpid())


def test_removing_the_locks_file_is_noticed(tmp_path: Path) -> None:
    with lake_lock(tmp_path) as require_held:
        (tmp_path / "_stitchlake/lock").unlink()
        with lake_lock(tmp_path), pytest.raises(LakeLocked, match="was removed"):  # taken twice
            require_held()
