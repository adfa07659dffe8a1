"""Signals that come at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from pipelines.runtime.stop_signals import stop_signals

# A signal's handler runs in the main thread, here while that one is within `wait`, with the event's lock in its hands.
AMID_A_WAIT = """
import signal
from pipelines.runtime.stop_signals import stop_signals
with stop_signals() as stop:
    with stop._cond:
        signal.raise_signal(signal.SIGTERM)
    print(stop.wait(30))
"""


def test_a_signal_amid_a_wait_for_it_is_not_waited_for_for_ever() -> None:
    """Seen to fail where the handler itself sets the event."""
    ended = subprocess.run(
        [sys.executable, "-c", AMID_A_WAIT], stdout=subprocess.PIPE, timeout=60, check=True, text=True
    )
    assert ended.stdout == "True\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_and_the_handler_before_is_back_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.wait(10)
    assert signal.getsignal(number) is before


def test_without_a_signal_nothing_is_set() -> None:
    with stop_signals() as stop:
        pass
    assert not stop.wait(0.2)
