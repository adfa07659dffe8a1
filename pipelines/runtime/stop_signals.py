"""Ctrl-C and SIGTERM as an event to wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set while the block runs. For the main thread.

    A handler runs between any two steps of the main thread, and that may be amid the event's own `wait`, which holds
    the lock that `set` needs. So it hands over, by a queue that is made for that, to a thread that sets the event.
    """
    stop, signals = threading.Event(), SimpleQueue[bool]()

    def listen() -> None:
        if signals.get():
            stop.set()

    threading.Thread(target=listen, name="stop-signals", daemon=True).start()
    before = {n: signal.signal(n, lambda *_: signals.put(True)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.put(False)
